"""Between an answer on its way to a client and one at rest in a store."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from penstock.abc import StoredAnswer
from penstock.caching.entries import Entry
from penstock.caching.storable import storable_body, storable_events
from penstock.core.call import Call
from penstock.core.canonical import make_event, read_usage
from penstock.core.events import Batch, lines
from penstock.core.money import to_picodollars
from penstock.core.response import Response
from penstock.core.usage import Usage

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_decode_lines = msgspec.json.Decoder(dict[str, Any]).decode_lines

Known = tuple[bytes | None, Batch | None]
"""An answer's body and events, at least one of them."""


class Limits(msgspec.Struct, frozen=True):
    """What may be stored.

    Attributes:
        max_bytes: Larger answers may not.
        tool_calls: Answers that call tools may.
    """

    max_bytes: int
    tool_calls: bool


def write_answer(response: Response, heard: Batch, limits: Limits) -> tuple[str, bytes] | None:
    """Return the form and the data of a complete answer at rest; None if it may not be stored.

    Args:
        response: The answer.
        heard: Its chunks, if it came in parts.
        limits: What may be stored.
    """
    body = response.body
    if body is not None:
        storable = len(body) <= limits.max_bytes and storable_body(body, tool_calls=limits.tool_calls)
        return ("json", body) if storable else None
    events = response.events or heard
    data = lines(events)
    storable = len(data) <= limits.max_bytes and storable_events(events, tool_calls=limits.tool_calls)
    return ("events", data) if storable else None


def copy_of(entry: Entry, key: bytes, known: Known) -> StoredAnswer:
    """Put the answer of `entry`, which is `known`, to rest under `key`."""
    body, events = known
    usage = entry.usage or Usage()
    return StoredAnswer(
        key=key,
        tenant=entry.tenant,
        form="json" if body is not None else "events",
        data=body if body is not None else lines(events or ()),
        stored_at=entry.stored_at,
        fresh_until=entry.fresh_until,
        cost_pusd=to_picodollars(entry.saved_usd or Decimal(0)),
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        finish_reason=entry.finish_reason,
        model=entry.model,
        tags=entry.tags,
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
    datas = answer.data.split(b"\n")
    events = [msgspec.structs.replace(make_event(chunk), data=data) for chunk, data in zip(chunks, datas, strict=True)]
    return None, events, next((event.usage for event in reversed(events) if event.usage is not None), None)


def cost_pusd(call: Call) -> int:
    """Return what an answer cost in picodollars, 0 when nobody knows.

    That is what the attempts of this call did, or those of the call it was joined to.
    """
    cost_usd: Decimal | None = None
    for attempt in call.attempts:
        cost = attempt.cost_usd
        if cost is not None:
            cost_usd = cost if cost_usd is None else cost_usd + cost
    cost_usd = cost_usd or call.saved_usd
    return to_picodollars(cost_usd) if cost_usd else 0
