"""What calls that ended become in the tables; money is whole picodollars there, times are microseconds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from penstock.core.call import HEDGE_LOST, Attempt
from penstock.core.money import to_picodollars
from penstock.core.usage import Usage
from penstock.stores.sql.entry import USUAL_FIELDS, Fields
from penstock.stores.sql.tally import CallValues

_encode = msgspec.json.Encoder().encode
_Tokens = tuple[int | None, int | None, int | None, int | None, int | None, str | None]
_NO_USAGE: _Tokens = (None, None, None, None, None, None)


def rows_of(entries: Iterable[Fields]) -> tuple[list[CallValues], list[tuple[Any, ...]]]:
    """Make the rows of ``calls`` and of ``attempts``, with values that are the driver's own."""
    answered: list[CallValues] = []
    tried: list[tuple[Any, ...]] = []
    for entry in entries:
        (ident, request_id, started, started_at, tenant, key_id, operation, model, stream, tags, metadata, tries,
         outcome, duration_s, _, _, cache, finish_reason, usage, saved_pusd, key, answer_bytes,
         ) = entry[:USUAL_FIELDS]  # fmt: skip
        tokens = given, made, cached, written, reasoned, counted = _tokens(usage)
        provider = provider_model = first_us = None
        cost: int | None = 0
        source = "none"
        if tries:
            served = tries[0]
            cost, source = _cost(served), served.cost_source
            if len(tries) == 1:
                theirs = tokens if served.usage is usage else _tokens(served.usage)
                tried.append(_attempt_row(ident, 0, served, theirs, cost, started))
            else:
                costs = [_cost(each) for each in tries]
                tried += [
                    _attempt_row(ident, position, each, _tokens(each.usage), costs[position], started)
                    for position, each in enumerate(tries)
                ]
                cost, source = _total(costs, tries)
                served = _served(tries)
            provider, provider_model, first_s = served.provider, served.model, served.first_token_s
            if first_s is not None:
                first_us = int((served.started - started + first_s) * 1e6)
        row: CallValues = (
            int(started_at * 1e6), tenant, key_id or None, model, provider, operation, cache, outcome, len(tries),
            given, made, cached, cost, source, int(duration_s * 1e6), first_us,
            ident, request_id, provider_model, 1 if stream else 0, finish_reason, written, reasoned, counted,
            None if key is None else bytearray(key), answer_bytes,
        )  # fmt: skip
        if tags or metadata or saved_pusd is not None or len(entry) > USUAL_FIELDS:
            row += _rare(saved_pusd, tags, metadata, *entry[USUAL_FIELDS:])
        answered.append(row)
    return answered, tried


def _rare(  # noqa: PLR0913 fields of an `Entry`
    saved_pusd: int | None,
    tags: tuple[str, ...],
    metadata: dict[str, str] | None,
    semantic: str = "",
    semantic_key: bytes | None = None,
    semantic_audit: float | None = None,
    prompt: str = "",
    arms: dict[str, str] | None = None,
    context_before: int | None = None,
    context_after: int | None = None,
    stage: str = "",
    unit: str = "",
) -> CallValues:
    """Return the values that few rows have; none if they are all null."""
    row = (
        saved_pusd, _encode(tags).decode() if tags else None, _encode(metadata).decode() if metadata else None,
        semantic or None, semantic_key, semantic_audit, prompt or None, _encode(arms).decode() if arms else None,
        context_before, context_after, stage or None, unit or None,
    )  # fmt: skip
    return row if any(value is not None for value in row) else ()


def _served(tries: list[Attempt]) -> Attempt:
    """The try whose answer was given, or what came nearest to one: the last that was not for want of another."""
    return next(
        (each for each in reversed(tries) if each.outcome == "ok"),
        next((each for each in reversed(tries) if each.outcome != HEDGE_LOST), tries[-1]),
    )


def _attempt_row(
    call_id: int, position: int, attempt: Attempt, tokens: _Tokens, cost: int | None, started: float
) -> tuple[Any, ...]:
    first_s = attempt.first_token_s
    return (
        call_id, position, attempt.provider, attempt.model, attempt.outcome, attempt.status_code, *tokens, cost,
        attempt.cost_source, int((attempt.started - started) * 1e6), None if first_s is None else int(first_s * 1e6),
        int(attempt.duration_s * 1e6),
    )  # fmt: skip


def _tokens(usage: Usage | None) -> _Tokens:
    if usage is None:
        return _NO_USAGE
    return (
        usage.input_tokens, usage.output_tokens, usage.cached_input_tokens, usage.cache_write_tokens,
        usage.reasoning_tokens, usage.source,
    )  # fmt: skip


def _cost(attempt: Attempt) -> int | None:
    """An attempt's cost in picodollars; 0 where there is nothing to pay, None where the price is unknown."""
    if attempt.cost_usd is None:
        return 0 if attempt.cost_source == "none" else None
    return to_picodollars(attempt.cost_usd)


def _total(costs: list[int | None], tries: list[Attempt]) -> tuple[int | None, str]:
    """Add up the tries' costs: what is known of them, marked by the least certain; None when nothing is known."""
    known = [
        cost for cost, attempt in zip(costs, tries, strict=True) if cost is not None and attempt.cost_source != "none"
    ]
    sources = {attempt.cost_source for attempt in tries}
    if "unknown" in sources:
        return (sum(known) if known else None), "unknown"
    return sum(known), next((source for source in ("estimate", "time", "provider") if source in sources), "none")
