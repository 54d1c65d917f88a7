"""What each provider should have billed: attempts by day and the provider's model."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from penstock.core.money import to_usd
from penstock.pricing.reconciling import Booked
from penstock.stores.sql.reports import file_of

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

_DAY_US = 86_400_000_000
_GIVEN_UP = ("client_closed", "hedge_lost", "upstream_timeout", "interrupted")


def booked(url: str, first: date, last: date, providers: Sequence[str] | None = None) -> list[Booked]:
    """Sum up the attempts of some days (UTC), by the moment each was sent.

    Args:
        url: The store's URL.
        first: The first day.
        last: The last day, which is included.
        providers: Names of providers; None for all.

    Raises:
        ConfigError: The URL cannot be used, or there is no such file yet.
        StoreError: The file cannot be read.
    """
    path = file_of(url)
    from sqlalchemy import case, func, select  # noqa: PLC0415 - SQLAlchemy, which importing Penstock must not load

    from penstock.stores.sql.queries import reading  # noqa: PLC0415
    from penstock.stores.sql.tables import attempts, calls, first_id  # noqa: PLC0415

    since = datetime(first.year, first.month, first.day, tzinfo=UTC)
    until = datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1)
    day = ((calls.c.started_at + attempts.c.started_us) // _DAY_US).label("day")

    def total(column: Any) -> ColumnElement[Any]:  # noqa: ANN401 - a column, or what is computed of some
        return func.coalesce(func.sum(column), 0)

    statement = (
        select(
            day,
            attempts.c.model,
            func.count().label("attempts"),
            total(attempts.c.input_tokens).label("input_tokens"),
            total(attempts.c.output_tokens).label("output_tokens"),
            total(attempts.c.cost_pusd).label("cost_pusd"),
            total(case((attempts.c.usage_source.in_(("estimate", "calibrated")), 1), else_=0)).label("estimated"),
            total(case((attempts.c.cost_source == "unknown", 1), else_=0)).label("unpriced"),
            total(case((attempts.c.outcome.in_(_GIVEN_UP), 1), else_=0)).label("given_up"),
        )
        .select_from(attempts.join(calls, calls.c.id == attempts.c.call_id))
        # A call may have begun the day before its attempt.
        .where(calls.c.id >= first_id(since.timestamp() - 86_400), calls.c.id < first_id(until.timestamp()))
        .group_by(day, attempts.c.model)
    )
    if providers is not None:
        statement = statement.where(attempts.c.provider.in_(providers))
    with reading(path) as connection:
        rows = connection.execute(statement).all()
    found = [
        Booked(
            datetime.fromtimestamp(int(row.day) * 86_400, UTC).date(),
            row.model,
            row.attempts,
            row.input_tokens,
            row.output_tokens,
            to_usd(row.cost_pusd),
            row.estimated,
            row.unpriced,
            row.given_up,
        )
        for row in rows
    ]
    return [each for each in found if first <= each.day <= last]
