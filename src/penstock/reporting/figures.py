"""What a report consists of. Money is exact; times of day are seconds since the Unix epoch, days are UTC's."""

from __future__ import annotations

from decimal import Decimal

import msgspec

GROUPS = ("model", "tenant", "organisation", "key", "provider", "operation", "name", "tag", "cache", "outcome")
"""What lines can be split by; a call with several tags counts in the line of each.

``organisation`` is the part of the tenant before the first slash, ``name`` what clients call their operation.
"""


class UsageLine(msgspec.Struct, frozen=True):
    """A group of calls.

    Attributes:
        group: What the calls have in common, by name of the split; None where they have none, e.g. hits no provider.
        calls: Answers given, failed ones included.
        errors: Calls that failed, those the client broke off not included.
        broken_off: Calls the client broke off.
        hits: Calls answered from the cache.
        collapsed: Calls answered by what an identical one at the same time was told.
        attempts: Tries on providers.
        input_tokens: Prompt tokens of the answers, hits included.
        output_tokens: Generated tokens of the answers, hits included.
        cached_tokens: Prompt tokens that providers had in their own caches.
        saved_tokens: Prompt and generated tokens of the hits.
        cut_tokens: Prompt tokens of conversations that were cut, estimated, in place of which fewer were sent: the
            difference. At what price they would have been sent, a provider's cache included, is not known.
        cost_usd: What all tries cost, as far as the price is known; exact.
        estimated_usd: The part of it that is price × estimated usage.
        saved_usd: What the hits would have cost.
        priced: Calls whose cost is price × usage the provider reported, or × time where a model is priced by time.
        estimated: Calls whose cost is price × estimated usage.
        unpriced: Calls with a cost that is not, or not wholly, known.
        mean_s: Mean of the seconds from request to end of the answer.
        p50_s: Median of the same; this and the following are within 2.5 %.
        p95_s: 95th percentile.
        p99_s: 99th percentile.
        first_token_s: Median of the seconds to the first token, of calls that went upstream.
        success_rate: Calls with a whole answer per call, 0 to 1; None without calls.
        error_rate: Errors per call.
        hit_rate: Hits per call.
        cost_per_call_usd: Known cost per call whose cost is known, hits included.
    """

    group: dict[str, str | None]
    calls: int
    errors: int
    broken_off: int
    hits: int
    collapsed: int
    attempts: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    saved_tokens: int
    cut_tokens: int
    cost_usd: Decimal
    estimated_usd: Decimal
    saved_usd: Decimal
    priced: int
    estimated: int
    unpriced: int
    mean_s: float | None
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    first_token_s: float | None
    success_rate: float | None
    error_rate: float | None
    hit_rate: float | None
    cost_per_call_usd: Decimal | None


class UsageSlot(msgspec.Struct, frozen=True):
    """The calls of a day, or of an hour.

    Attributes:
        start: When it begins.
        calls: Answers given, failed ones included.
        errors: Calls that failed.
        hits: Calls answered from the cache.
        input_tokens: Prompt tokens, hits included.
        output_tokens: Generated tokens, hits included.
        cost_usd: What all tries cost, as far as the price is known.
        saved_usd: What the hits would have cost.
        mean_s: Mean duration of a call, seconds; None without calls.
    """

    start: int
    calls: int
    errors: int
    hits: int
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal
    saved_usd: Decimal
    mean_s: float | None


class ErrorPattern(msgspec.Struct, frozen=True):
    """Calls that failed alike.

    Attributes:
        outcome: The code of the error.
        model: The model asked for.
        provider: The provider tried last, if any.
        calls: How many.
        share: Of all errors of the period, 0 to 1.
        first_at: The hour, or day, of the first.
        last_at: The hour, or day, of the last.
    """

    outcome: str
    model: str
    provider: str | None
    calls: int
    share: float
    first_at: int
    last_at: int


class Trend(msgspec.Struct, frozen=True):
    """A figure beside that of the period before.

    Attributes:
        name: Which figure.
        now: This period's; sums are per day, because the periods are not always of one length.
        before: The period's before; None when there were no calls.
        change: By which part it grew: 0.1 is 10 % more; None when there is nothing to compare with.
        better: Whether the change is for the better; None when it is neither.
    """

    name: str
    now: float | None
    before: float | None
    change: float | None
    better: bool | None


class Rating(msgspec.Struct, frozen=True):
    """A figure beside what is expected of it.

    Attributes:
        name: Which figure.
        value: Its value; None when there were no calls.
        category: ``excellent``, ``good``, ``acceptable``, ``needs optimisation`` or ``unknown``.
        excellent: From which value on it is excellent.
        good: From which value on it is good; this is the target.
        acceptable: From which value on it is acceptable.
    """

    name: str
    value: float | None
    category: str
    excellent: float
    good: float
    acceptable: float


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
        since: Start of the period: a full hour, a midnight when it is more than three days ago, and a Monday's when it
            is more than five weeks ago.
        until: Its end.
        by: What `lines` is split by.
        tenant: Whose calls these are; None for everybody's.
        total: All calls of the period.
        previous: All calls of the period of the same length before it.
        lines: The same as `total`, split; most calls first.
        slot_s: Length of the slots, seconds: an hour or a day.
        slots: The calls over time, in order; those without calls are left out.
        errors: What failed alike, most calls first.
        trends: This period's figures beside those of the one before.
        ratings: This period's figures beside what is expected of them.
        uncounted: Calls of an older database that are not in the figures yet.
        recent: The newest calls, newest first, of any age.
    """

    since: float
    until: float
    by: tuple[str, ...]
    tenant: str | None
    total: UsageLine
    previous: UsageLine
    lines: list[UsageLine]
    slot_s: int
    slots: list[UsageSlot]
    errors: list[ErrorPattern]
    trends: list[Trend]
    ratings: list[Rating]
    uncounted: int
    recent: list[RecentCall]
