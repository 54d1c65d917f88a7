"""Reading canonical chat requests, for dialects that say the same differently."""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.core.errors import InvalidRequest

_decode_object = msgspec.json.Decoder(dict[str, Any]).decode

HINTS = frozenset({
    "logit_bias",
    "metadata",
    "modalities",
    "n",
    "parallel_tool_calls",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
    "verbosity",
})  # fmt: skip
"""OpenAI's fields that other vendors refuse and that change at most the flavour, never the shape, of an answer."""


class FunctionCall(msgspec.Struct):
    """What a tool call calls; `arguments` is the text of a JSON object."""

    name: str
    arguments: str = ""


class ToolCall(msgspec.Struct):
    """A tool call in an assistant's message."""

    function: FunctionCall
    id: str = ""


class Message(msgspec.Struct):
    """A message in canonical form.

    Attributes:
        role: Who says it.
        content: Text, or typed parts.
        tool_calls: Calls an assistant made.
        tool_call_id: The call a tool message answers.
        name: Who speaks, or which tool.
        reasoning_content: The thinking that preceded an assistant's answer.
        thinking_blocks: The same as signed blocks, which Anthropic wants back unchanged.
    """

    role: str
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    reasoning_content: str | None = None
    thinking_blocks: list[dict[str, Any]] | None = None

    def parts(self) -> list[dict[str, Any]]:
        """The content as parts; empty text is none."""
        if isinstance(self.content, str):
            return [{"type": "text", "text": self.content}] if self.content else []
        return self.content or []


def read_messages(payload: dict[str, Any]) -> list[Message]:
    """Read a chat request's messages.

    Raises:
        InvalidRequest: They are missing or not of the canonical form.
    """
    try:
        messages = msgspec.convert(payload.get("messages"), list[Message])
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"messages cannot be read: {error}", param="messages") from None
    if not messages:
        raise InvalidRequest("messages is empty; send at least one message", param="messages")
    return messages


def read_arguments(call: ToolCall) -> dict[str, Any]:
    """Parse a tool call's arguments; no text means no arguments.

    Raises:
        InvalidRequest: They are not a JSON object.
    """
    text = call.function.arguments
    if not text.strip():
        return {}
    try:
        return _decode_object(text)
    except (ValueError, RecursionError):
        raise InvalidRequest(
            f"the arguments of tool call {call.id or call.function.name!r} are not a JSON object", param="messages"
        ) from None


def read_text(part: dict[str, Any]) -> str:
    """The text of a ``text`` or ``refusal`` part.

    Raises:
        InvalidRequest: It has none.
    """
    text = part.get(part["type"])
    if not isinstance(text, str):
        raise InvalidRequest(f"a {part['type']} part needs a string {part['type']!r}", param="messages")
    return text


def read_url(part: dict[str, Any]) -> str:
    """The URL of an ``image_url`` part, given as OpenAI's object or as a plain string.

    Raises:
        InvalidRequest: It has none.
    """
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, dict) else image
    if not isinstance(url, str):
        raise InvalidRequest('an image_url part needs {"url": ...}', param="messages")
    return url


def read_data_url(url: str) -> tuple[str, str] | None:
    """Media type and base64 text of a ``data:`` URL (RFC 2397); None for another URL.

    Raises:
        InvalidRequest: It is a ``data:`` URL, but not in base64.
    """
    head, comma, data = url.partition(",")
    scheme, _, kind = head.partition(":")
    if scheme.lower() != "data":
        return None
    media_type, *options = kind.split(";")
    if not comma or "base64" not in options:
        raise InvalidRequest("a data: URL must carry base64, as data:image/png;base64,...", param="messages")
    return media_type or "text/plain", data


def refuse_unsupported(payload: dict[str, Any], vendor: str, fields: tuple[str, ...]) -> None:
    """Refuse a request for several choices, or for anything else that changes an answer's shape.

    Raises:
        InvalidRequest: `vendor` has nothing like it.
    """
    if payload.get("n") not in (None, 1):
        raise InvalidRequest(f"{vendor} gives one choice per request: leave out n or set it to 1", param="n")
    for name in fields:
        if payload.get(name):
            raise InvalidRequest(f"{vendor} has no {name}: leave it out", param=name)


def first_present(payload: dict[str, Any], *names: str) -> Any:  # noqa: ANN401 - a JSON value of any type
    """The value of the first of `names` that is there and not null; None when there is none."""
    for name in names:
        if (value := payload.get(name)) is not None:
            return value
    return None
