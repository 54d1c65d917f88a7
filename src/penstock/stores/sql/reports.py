"""What the ledger says about a period, for people and programs; read while a server writes, without disturbing it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from decimal import Decimal

import msgspec

from penstock.core.clock import Clock, SystemClock
from penstock.core.errors import ConfigError

GROUPS = ("model", "tenant", "provider", "cache", "tag", "outcome")
"""What lines can be split by; a call with several tags counts in the line of each."""


class UsageLine(msgspec.Struct, frozen=True):
    """A group of calls.

    Attributes:
        group: What the calls have in common, by name of the split; None where they have none, e.g. hits no provider.
        calls: Answers given, failed ones included.
        errors: Calls that failed, those the client broke off not included.
        hits: Calls answered from the cache.
        input_tokens: Prompt tokens of the answers, hits included.
        output_tokens: Generated tokens of the answers, hits included.
        cost_usd: What all tries cost, as far as the price is known; exact.
        saved_usd: What the hits would have cost.
        priced: Calls whose cost is price × usage the provider reported.
        estimated: Calls whose cost is price × estimated usage.
        unpriced: Calls with a cost that is not, or not wholly, known.
        p50_s: Median of the seconds from request to end of the answer.
        p95_s: 95th percentile of the same.
        first_token_s: Median of the seconds to the first token, of calls that went upstream.
    """

    group: dict[str, str | None]
    calls: int
    errors: int
    hits: int
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal
    saved_usd: Decimal
    priced: int
    estimated: int
    unpriced: int
    p50_s: float | None
    p95_s: float | None
    first_token_s: float | None

    @property
    def hit_rate(self) -> float:
        """Hits per call, 0 to 1."""
        return self.hits / self.calls if self.calls else 0.0


class RecentCall(msgspec.Struct, frozen=True):
    """One call of the ledger.

    Attributes:
        request_id: The id clients see as ``x-request-id``.
        started_at: Seconds since the epoch.
        tenant: Whose call it was.
        operation: chat, completions or embeddings.
        model: The model asked for.
        provider: The provider that answered, or was tried last; None for a hit.
        provider_model: Its name for the model.
        outcome: ``ok``, ``client_closed``, ``template`` (nothing answered but a prepared text) or an error's code.
        cache: What the exact cache did; empty when it was not asked.
        input_tokens: Prompt tokens, if known.
        output_tokens: Generated tokens, if known.
        cost_usd: What all tries cost, None when nothing is known.
        cost_source: ``provider``, ``estimate``, ``unknown`` or ``none``, the least certain of the tries'.
        saved_usd: What a hit would have cost.
        first_token_s: Seconds to the first token.
        duration_s: Seconds to the end of the answer.
        attempts: Number of tries.
        tags: Its labels.
        metadata: Its key-value pairs.
    """

    request_id: str
    started_at: float
    tenant: str
    operation: str
    model: str
    provider: str | None
    provider_model: str | None
    outcome: str
    cache: str
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: Decimal | None
    cost_source: str
    saved_usd: Decimal | None
    first_token_s: float | None
    duration_s: float
    attempts: int
    tags: list[str]
    metadata: dict[str, str]


class UsageReport(msgspec.Struct, frozen=True):
    """What happened in a period.

    Attributes:
        since: Start of the period, seconds since the epoch.
        until: Its end.
        by: What `lines` is split by.
        total: All calls of the period.
        lines: The same, split; most calls first.
        recent: The newest calls, newest first, of any age.
    """

    since: float
    until: float
    by: tuple[str, ...]
    total: UsageLine
    lines: list[UsageLine]
    recent: list[RecentCall]


def usage_report(
    url: str, *, days: float, by: Sequence[str] = (), recent: int = 0, clock: Clock | None = None
) -> UsageReport:
    """Read the ledger.

    Args:
        url: The store's URL.
        days: How far back to look.
        by: What to split by, out of `GROUPS`.
        recent: How many single calls to return.
        clock: Says when now is; by default the machine's.

    Raises:
        ConfigError: The URL cannot be used, there is no such file yet, or `by` names no group.
        StoreError: The file cannot be read.
    """
    for name in by:
        if name not in GROUPS:
            raise ConfigError(f"cannot split usage by {name!r}", key="by", expected=", ".join(GROUPS))
    if url == "memory:":
        raise ConfigError("store.url is memory:, which keeps no record; set it to sqlite:///FILE", key="store.url")
    from penstock.stores.sql import queries, sqlite  # noqa: PLC0415 - SQLAlchemy, which importing Penstock must not load

    path = sqlite.file_of(url)
    if not os.path.exists(path):
        raise ConfigError(f"there is no {path} yet; it is made by the first `penstock serve`", key="store.url")
    until = (clock or SystemClock()).wall()
    since = until - days * 86_400
    with queries.reading(path) as connection:
        return UsageReport(
            since=since,
            until=until,
            by=tuple(by),
            total=queries.lines(connection, since, ())[0],
            lines=queries.lines(connection, since, by) if by else [],
            recent=queries.recent(connection, recent) if recent else [],
        )
