"""The canonical form of answers: from chunks to a whole answer and back, and the token counts inside.

``assemble(split(body))`` says the same as ``body``: content, tool calls, reasoning, log probabilities, usage and finish
reasons are kept for every choice, and so are fields Penstock does not know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from penstock.core.events import BETWEEN, Batch, Event
from penstock.core.usage import Usage, unusual_tier

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode

CHAT, CHAT_CHUNK, TEXT = "chat.completion", "chat.completion.chunk", "text_completion"
_REPLACED = frozenset({"role", "type", "id", "name", "index", "object"})
"""String fields of a delta that a later chunk repeats rather than continues."""
_DETAILS = (
    (
        "prompt_tokens_details",
        (
            ("cached_tokens", "cached_input_tokens"),
            ("cache_write_tokens", "cache_write_tokens"),
            ("audio_tokens", "input_audio_tokens"),
            ("image_tokens", "input_image_tokens"),
            ("video_tokens", "input_video_tokens"),
        ),
    ),
    (
        "completion_tokens_details",
        (
            ("reasoning_tokens", "reasoning_tokens"),
            ("audio_tokens", "output_audio_tokens"),
            ("image_tokens", "output_image_tokens"),
        ),
    ),
)
"""Fields of OpenAI's ``usage`` with parts of the counts, and where `Usage` has them."""


_Count = int | float | str | bool | None
"""A number of tokens; some servers write it as text."""


class _InputDetails(msgspec.Struct, gc=False):
    cached_tokens: _Count = None
    cache_write_tokens: _Count = None
    audio_tokens: _Count = None
    image_tokens: _Count = None
    video_tokens: _Count = None


class _OutputDetails(msgspec.Struct, gc=False):
    reasoning_tokens: _Count = None
    audio_tokens: _Count = None
    image_tokens: _Count = None


class _Counts(msgspec.Struct):
    prompt_tokens: _Count = None
    completion_tokens: _Count = None
    total_tokens: Any = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None
    cached_tokens: _Count = None
    prompt_cache_hit_tokens: _Count = None


_NO_INPUT_DETAILS, _NO_OUTPUT_DETAILS = _InputDetails(), _OutputDetails()


def read_usage(raw: dict[str, Any] | None, service_tier: object = None) -> Usage | None:
    """Read OpenAI's ``usage`` object; None when there is none or it has no counts.

    Cached tokens are also found where Moonshot (``cached_tokens``) and older DeepSeek (``prompt_cache_hit_tokens``) put
    them, and reasoning that was left out of ``completion_tokens``, as xAI does, is added: the total tells.
    `service_tier` is the answer's field of that name.

    Raises:
        ValueError: A count is no number.
    """
    if not raw:
        return None
    try:
        counts = msgspec.convert(raw, _Counts)
    except msgspec.ValidationError:  # some servers write an empty object as an empty list
        counts = msgspec.convert({name: value for name, value in raw.items() if value}, _Counts)
    given, made = int(counts.prompt_tokens or 0), int(counts.completion_tokens or 0)
    cached = counts.cached_tokens or counts.prompt_cache_hit_tokens
    inputs, outputs = counts.prompt_tokens_details, counts.completion_tokens_details
    tier = unusual_tier(service_tier) if service_tier else ""
    if inputs is None and outputs is None and not cached:
        return Usage(given, made, service_tier=tier)
    inputs, outputs = inputs or _NO_INPUT_DETAILS, outputs or _NO_OUTPUT_DETAILS
    reasoning = int(outputs.reasoning_tokens or 0)
    if reasoning and counts.total_tokens == given + made + reasoning:
        made += reasoning
    return Usage(
        input_tokens=given,
        output_tokens=made,
        cached_input_tokens=int(inputs.cached_tokens or cached or 0),
        cache_write_tokens=int(inputs.cache_write_tokens or 0),
        reasoning_tokens=reasoning,
        input_audio_tokens=int(inputs.audio_tokens or 0),
        output_audio_tokens=int(outputs.audio_tokens or 0),
        input_image_tokens=int(inputs.image_tokens or 0),
        output_image_tokens=int(outputs.image_tokens or 0),
        input_video_tokens=int(inputs.video_tokens or 0),
        service_tier=tier,
    )


def write_usage(usage: Usage) -> dict[str, Any]:
    """Write token counts as OpenAI's ``usage`` object; searches and how long a cache lives have no place there."""
    raw: dict[str, Any] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
    }
    for field, parts in _DETAILS:
        found = {name: count for name, part in parts if (count := getattr(usage, part))}
        if found:
            raw[field] = found
    return raw


def make_event(chunk: dict[str, Any]) -> Event:
    """Make an event of a chunk in canonical form."""
    choices = chunk.get("choices") or []
    usage = read_usage(chunk.get("usage"), chunk.get("service_tier"))
    reasons = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    return Event(
        data=_encode(chunk),
        finish_reason=reasons[0] if reasons else None,
        usage=usage,
        bare_usage=usage is not None and not choices,
    )


def assemble(events: Sequence[Event]) -> bytes:
    """Put the chunks of one answer together into the whole answer, as JSON.

    Raises:
        ValueError: There are no events, or one is not a JSON object.
    """
    if not events:
        raise ValueError("an answer needs at least one chunk")
    answer: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for data in [data for event in events for data in event.data.split(BETWEEN)]:
        chunk = _decode(data)
        for choice in chunk.pop("choices", None) or ():
            _add_choice(choices.setdefault(choice.get("index", 0), {}), choice)
        if chunk.get("usage") is None:
            chunk.pop("usage", None)
        answer.update(chunk)
    if answer.get("object") == CHAT_CHUNK:
        answer["object"] = CHAT
    for whole in choices.values():
        _number_calls(whole.get("message") or {})
    usage = answer.pop("usage", None)
    answer["choices"] = [choices[index] for index in sorted(choices)]
    if usage is not None:
        answer["usage"] = usage
    return _encode(answer)


def split(body: bytes) -> Batch:
    """Split a whole answer into chunks: per choice one with its content and one with its finish reason, then usage.

    Raises:
        ValueError: `body` is not a JSON object with choices.
    """
    answer = _decode(body)
    usage = answer.pop("usage", None)
    choices = answer.pop("choices", None)
    if choices is None:
        raise ValueError("the answer has no choices, so it cannot be streamed")
    if answer.get("object") == CHAT:
        answer["object"] = CHAT_CHUNK
    chunks = [{**answer, "choices": [part]} for choice in choices for part in _split_choice(choice)]
    if usage is not None:
        chunks.append({**answer, "choices": [], "usage": usage})
    return [make_event(chunk) for chunk in chunks]


def _split_choice(choice: dict[str, Any]) -> list[dict[str, Any]]:
    index, reason = choice.get("index", 0), choice.get("finish_reason")
    if "message" not in choice:
        return [choice]
    rest = {key: value for key, value in choice.items() if key not in ("index", "message", "finish_reason")}
    delta = {key: value for key, value in choice["message"].items() if value is not None}
    calls = delta.get("tool_calls")
    if calls:
        delta["tool_calls"] = [{"index": position, **call} for position, call in enumerate(calls)]
    return [
        {"index": index, "delta": delta, **rest, "finish_reason": None},
        {"index": index, "delta": {}, "finish_reason": reason},
    ]


def _add_choice(whole: dict[str, Any], part: dict[str, Any]) -> None:
    whole.setdefault("index", part.get("index", 0))
    for key, value in part.items():
        if key == "delta":
            message = whole.setdefault("message", {"role": "assistant", "content": None})
            for name, piece in (value or {}).items():
                _add(message, name, piece)
        elif key == "text":
            whole["text"] = whole.get("text", "") + (value or "")
        elif key == "logprobs" and value:
            _add(whole, "logprobs", value)
        elif value is not None or key not in whole:
            whole[key] = value
    if "message" in whole and "finish_reason" in whole:
        whole["finish_reason"] = whole.pop("finish_reason")


def _add(into: dict[str, Any], key: str, piece: object) -> None:
    """Continue `into[key]` with `piece` the way streamed deltas continue each other."""
    known = into.get(key)
    if piece is None:
        into.setdefault(key, None)
    elif known is None or key in _REPLACED or isinstance(piece, (bool, int, float)):
        into[key] = _unindexed(piece) if isinstance(piece, list) else piece
    elif isinstance(piece, str) and isinstance(known, str):
        into[key] = known + piece
    elif isinstance(piece, dict) and isinstance(known, dict):
        for name, value in piece.items():
            _add(known, name, value)
    elif isinstance(piece, list) and isinstance(known, list):
        _add_items(known, piece)
    else:
        into[key] = piece


def _unindexed(items: list[Any]) -> list[Any]:
    fresh: list[Any] = []
    _add_items(fresh, items)
    return fresh


def _add_items(known: list[Any], items: list[Any]) -> None:
    """Lists of deltas with an ``index`` (tool calls) are merged by it; other lists are appended to."""
    for item in items:
        same = None
        if isinstance(item, dict) and "index" in item:
            same = next((each for each in known if isinstance(each, dict) and each.get("index") == item["index"]), None)
        if same is None:
            known.append(item)
            continue
        for name, value in item.items():
            _add(same, name, value)


def _number_calls(message: dict[str, Any]) -> None:
    """Only chunks number their tool calls, and not all servers begin with 0; whole answers list them."""
    calls = message.get("tool_calls")
    if isinstance(calls, list) and all(isinstance(call, dict) for call in calls):
        calls.sort(key=_place)
        message["tool_calls"] = [{key: value for key, value in call.items() if key != "index"} for call in calls]


def _place(call: dict[str, Any]) -> int:
    index = call.get("index")
    return index if isinstance(index, int) else 0
