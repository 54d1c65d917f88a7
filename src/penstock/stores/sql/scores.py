"""What applications say of answers, and the calls that took part in experiments."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import and_, delete, select
from sqlalchemy.engine import Connection

from penstock.core.experiment import Outcome, Score, values_of
from penstock.core.money import to_usd
from penstock.stores.sql.database import Database
from penstock.stores.sql.sqlite import if_new
from penstock.stores.sql.tables import calls, first_id, scores

_COLUMNS = (
    calls.c.id, calls.c.started_at, calls.c.tenant, calls.c.request_id, calls.c.unit, calls.c.arms, calls.c.outcome,
    calls.c.cache, calls.c.cost_pusd, calls.c.cost_source, calls.c.duration_us, calls.c.first_token_us,
    calls.c.input_tokens, calls.c.output_tokens,
)  # fmt: skip
_NAMES = [column.name for column in scores.columns]
_EXPIRED_ROWS = 500
_Call = tuple[str, str]


class SqlScoreStore:
    """`penstock.abc.ScoreStore` in a database.

    Raises:
        StoreError: From every method, when the database could not be read or written.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, score: Score) -> Score:
        """Keep a score, unless there is one; return what is kept."""
        same = (scores.c.tenant == score.tenant, scores.c.request_id == score.request_id, scores.c.name == score.name)
        row = {"tenant": score.tenant, "request_id": score.request_id, "name": score.name, "value": score.value,
               "at": int(score.at * 1e6)}  # fmt: skip

        def change(connection: Connection) -> Score:
            connection.execute(if_new(scores, _NAMES), row)
            kept = connection.execute(select(scores.c.value, scores.c.at).where(*same)).one()
            return Score(score.tenant, score.request_id, score.name, kept.value, kept.at / 1e6)

        return await self._database.execute(change)

    async def outcomes(self, *, after: int, since: float, until: float, limit: int) -> Sequence[Outcome]:
        """Return calls that took part in experiments, in the order of their ids."""
        first = max(after + 1, first_id(since))
        wanted = select(*_COLUMNS).where(
            calls.c.arms.is_not(None), calls.c.id >= first, calls.c.id < first_id(until), calls.c.unit.is_not(None)
        )

        def query(connection: Connection) -> list[Outcome]:
            rows = connection.execute(wanted.order_by(calls.c.id).limit(limit)).all()
            judged = _scores(connection, rows[0].id, rows[-1].id) if rows else {}
            return [_outcome(row, judged.get((row.tenant, row.request_id), {})) for row in rows]

        return await self._database.read(query)


def expire(connection: Connection, before: float) -> int:
    """Remove some of the scores that were posted before a time, seconds since the epoch; return how many."""
    key = (scores.c.tenant, scores.c.request_id, scores.c.name)
    oldest = connection.execute(select(*key).where(scores.c.at < int(before * 1e6)).limit(_EXPIRED_ROWS)).all()
    for tenant, request_id, name in oldest:
        connection.execute(delete(scores).where(key[0] == tenant, key[1] == request_id, key[2] == name))
    return len(oldest)


def _scores(connection: Connection, first: int, last: int) -> dict[_Call, dict[str, tuple[float, float]]]:
    """Return the scores of the calls of experiments between two numbers."""
    found: dict[_Call, dict[str, tuple[float, float]]] = defaultdict(dict)
    same = and_(scores.c.tenant == calls.c.tenant, scores.c.request_id == calls.c.request_id)
    wanted = (
        select(scores).join_from(calls, scores, same).where(calls.c.arms.is_not(None), calls.c.id.between(first, last))
    )
    for row in connection.execute(wanted):
        found[row.tenant, row.request_id][row.name] = (row.value, row.at / 1e6)
    return found


def _outcome(row: Any, judged: dict[str, tuple[float, float]]) -> Outcome:  # noqa: ANN401 a row of the driver
    known = row.cost_source != "unknown" and row.cost_pusd is not None
    values = values_of(
        outcome=row.outcome,
        cache=row.cache,
        cost_usd=float(to_usd(row.cost_pusd)) if known else None,
        duration_s=row.duration_us / 1e6,
        first_token_s=None if row.first_token_us is None else row.first_token_us / 1e6,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
    )
    return Outcome(row.id, row.started_at / 1e6, row.unit, row.arms, values, judged)
