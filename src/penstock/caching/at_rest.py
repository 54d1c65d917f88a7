"""Between an answer on its way to a client and one at rest in a store."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from penstock.abc import StoredAnswer
from penstock.caching.key import cache_key
from penstock.caching.storable import storable_body, storable_events
from penstock.core.call import Call
from penstock.core.canonical import make_event, read_usage
from penstock.core.events import Batch
from penstock.core.money import to_picodollars
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.usage import Usage

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_decode_lines = msgspec.json.Decoder(dict[str, Any]).decode_lines

_NO_USAGE = Usage()


class Limits(msgspec.Struct, frozen=True):
    """What may be stored.

    Attributes:
        max_bytes: Larger answers may not.
        tool_calls: Answers that call tools may.
    """

    max_bytes: int
    tool_calls: bool


def write_answer(
    request: Request, response: Response, heard: Batch, limits: Limits, *, now: float, ttl_s: float
) -> StoredAnswer | None:
    """Put a complete answer to rest; None if it may not be stored.

    Args:
        request: What was asked.
        response: The answer.
        heard: Its chunks, if it came in parts.
        limits: What may be stored.
        now: Seconds since the epoch.
        ttl_s: How long it stays fresh.
    """
    body, call = response.body, request.call
    if body is not None:
        data, form = body, "json"
        storable = len(data) <= limits.max_bytes and storable_body(data, tool_calls=limits.tool_calls)
    else:
        events = response.events or heard
        data, form = b"\n".join([event.data for event in events]), "events"
        storable = len(data) <= limits.max_bytes and storable_events(events, tool_calls=limits.tool_calls)
    if not storable:
        return None
    usage = response.usage or call.usage or _NO_USAGE
    return StoredAnswer(
        call.key or cache_key(request),
        request.tenant,
        form,
        data,
        now,
        now + ttl_s,
        _cost_pusd(call),
        usage.input_tokens,
        usage.output_tokens,
        response.finish_reason,
        request.model,
        request.tags,
    )


def read_answer(answer: StoredAnswer) -> tuple[bytes | None, Batch | None, Usage | None]:
    """Read what `write_answer` wrote: the body or the events, and the tokens.

    Raises:
        ValueError: It is something else.
    """
    try:
        if answer.form == "json":
            return answer.data, None, read_usage(_decode(answer.data).get("usage"))
        chunks = _decode_lines(answer.data)
    except msgspec.DecodeError as error:
        raise ValueError(f"the stored answer is damaged: {error}") from error
    lines = answer.data.split(b"\n")
    events = [msgspec.structs.replace(make_event(chunk), data=line) for chunk, line in zip(chunks, lines, strict=True)]
    return None, events, next((event.usage for event in reversed(events) if event.usage is not None), None)


def _cost_pusd(call: Call) -> int:
    """What the answer cost: this call's attempts, or those of the call it was joined to."""
    cost_usd: Decimal | None = None
    for attempt in call.attempts:
        cost = attempt.cost_usd
        if cost is not None:
            cost_usd = cost if cost_usd is None else cost_usd + cost
    cost_usd = cost_usd or call.saved_usd
    return to_picodollars(cost_usd) if cost_usd else 0
