"""Calls of the ledger outside of a database: for other programs, and to bring them back."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

import msgspec

from penstock.core.money import to_usd

Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
Bucket = Annotated[int, msgspec.Meta(ge=0, lt=1 << 15)]
Microseconds = Annotated[int, msgspec.Meta(ge=-(1 << 62), lt=1 << 62)]
Usd = Annotated[str, msgspec.Meta(pattern=r"^\d{1,6}(\.\d{1,12})?$")]
"""Dollars as text, with no more digits than whole picodollars have."""
Source = Annotated[str, msgspec.Meta(max_length=16)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
UnitDigest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{1,16}$")]
Digest = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{2}){1,16}$")]


class TryRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One try on a provider; times are microseconds, `started_us` counts from the call's start."""

    provider: str
    model: str
    outcome: str
    status_code: int | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    reasoning_tokens: Count | None = None
    usage_source: Source | None = None
    cost_usd: Usd | None = None
    cost_source: Source = "none"
    started_us: Microseconds = 0
    first_token_us: Microseconds | None = None
    duration_us: Microseconds = 0


class CallRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One call. `id` says which: the same id is the same call, in whatever database.

    Times are ISO 8601 in UTC and microseconds, money is dollars as text, keys of the cache are hexadecimal.

    With `times` it is not one call but `calls` hits of an hour that have no record of their own: `started_at` is its
    begin, tokens, `saved_usd` and `duration_us` are sums, and `times` has how many of them took so long, by the number
    of the latency bucket (``log(duration_us)`` to the base 1.05).
    """

    id: Count
    request_id: str
    started_at: datetime
    tenant: str
    operation: Annotated[str, msgspec.Meta(max_length=32)]
    model: str
    outcome: str
    duration_us: Microseconds
    provider: str | None = None
    provider_model: str | None = None
    stream: bool = False
    cache: Source = ""
    finish_reason: str | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    reasoning_tokens: Count | None = None
    usage_source: Source | None = None
    cost_usd: Usd | None = None
    cost_source: Source = "none"
    saved_usd: Usd | None = None
    first_token_us: Microseconds | None = None
    tags: list[str] = []
    metadata: dict[str, str] = {}
    key_id: str | None = None
    cache_key: Digest | None = None
    answer_bytes: Count | None = None
    semantic: Source | None = None
    semantic_key: Digest | None = None
    semantic_audit: Share | None = None
    prompt: str | None = None
    arms: dict[str, str] = {}
    context_before: Count | None = None
    context_after: Count | None = None
    stage: str | None = None
    unit: UnitDigest | None = None
    tries: list[TryRecord] = []
    calls: Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)] = 1
    times: list[tuple[Bucket, Count]] = []

    def __post_init__(self) -> None:
        """Check that `times` are those of `calls`."""
        if (self.calls > 1 or self.times) and sum(count for _, count in self.times) != self.calls:
            raise ValueError(f"expected `times` of as many calls as `calls` says ({self.calls})")


def usd_text(picodollars: int | None) -> str | None:
    """Write an amount out in full."""
    return None if picodollars is None else f"{to_usd(picodollars).normalize():f}"


def picodollars(usd: str | None) -> int | None:
    """Read what `usd_text` wrote."""
    return None if usd is None else int(Decimal(usd).scaleb(12))


def moment(microseconds: int) -> datetime:
    """Turn microseconds since the epoch into a time."""
    return datetime.fromtimestamp(microseconds // 1_000_000, UTC).replace(microsecond=microseconds % 1_000_000)


def microseconds(at: datetime) -> int:
    """Turn a time into microseconds since the epoch, exactly; one without a zone is taken as UTC."""
    whole = at.replace(microsecond=0, tzinfo=at.tzinfo or UTC)
    return int(whole.timestamp()) * 1_000_000 + at.microsecond
