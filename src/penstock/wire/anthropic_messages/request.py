"""Canonical chat requests as Anthropic's Messages requests.

What Anthropic cannot do and a caller would miss in the answer (`n`, `logprobs`, audio, JSON without a schema) is
refused. OpenAI's hints it has no counterpart for (penalties, `seed`, …) are left out, as Anthropic's own
OpenAI-compatible endpoint does. All other fields are passed on as they are, so Anthropic's own may be used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from penstock.core.errors import InvalidRequest
from penstock.wire.anthropic_messages.content import content_blocks, read_block_text, tool_result
from penstock.wire.anthropic_messages.thinking import add_thinking
from penstock.wire.chat_messages import (
    HINTS,
    Message,
    first_present,
    read_arguments,
    read_messages,
    refuse_unsupported,
)
from penstock.wire.prompt_caching import MARK, MOST, has_marks, last_points

_encode = msgspec.json.Encoder().encode

_End = tuple[list[dict[str, Any]], int] | None
"""A list of blocks and the place in it of a message's last block; None for a message without any."""

DEFAULT_MAX_TOKENS = 4096
"""Anthropic requires a limit, OpenAI does not."""

_VENDOR = "Anthropic"
_REFUSED = ("audio", "function_call", "functions", "logprobs", "top_logprobs", "web_search_options")
_TRANSLATED = frozenset({
    "frequency_penalty",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "presence_penalty",
    "reasoning_effort",
    "response_format",
    "seed",
    "stop",
    "temperature",
    "tool_choice",
    "tools",
})  # fmt: skip
_NOT_COPIED = _TRANSLATED | HINTS | frozenset(_REFUSED)
_TOOL_CHOICES = {"auto": "auto", "none": "none", "required": "any"}
_TIERS = {"auto": "auto", "priority": "auto", "default": "standard_only", "standard_only": "standard_only"}


def encode_request(payload: dict[str, Any], *, model: str, stream: bool, points: Sequence[int] | None = None) -> bytes:
    """Write a canonical chat request as the body of ``POST /v1/messages``.

    Args:
        payload: The request in canonical form.
        model: Anthropic's name of the model.
        stream: Ask for a stream.
        points: Numbers of messages after which a beginning of the prompt ends that will be sent again. They are
            marked to be cached, and so are instructions with tools, unless the client has marks of its own; None marks
            nothing.

    Raises:
        InvalidRequest: It is malformed, or asks for what Anthropic does not have.
    """
    refuse_unsupported(payload, _VENDOR, _REFUSED)
    messages = read_messages(payload)
    system, turns, ends = _turns(messages)
    asked_limit = first_present(payload, "max_completion_tokens", "max_tokens")
    body = {key: value for key, value in payload.items() if key not in _NOT_COPIED and value is not None}
    body["model"] = model
    body["max_tokens"] = DEFAULT_MAX_TOKENS if asked_limit is None else asked_limit
    body["messages"] = turns
    if system:
        body["system"] = system
    if stream:
        body["stream"] = True
    _add_settings(body, payload)
    _add_tools(body, payload)
    if points is not None and not has_marks(payload):
        _mark(system or body.get("tools"), [ends[: point + 1] for point in last_points(points, MOST - 1)])
    _add_format(body, payload)
    add_thinking(body, payload, messages, limited=asked_limit is not None)
    return _encode(body)


def _turns(messages: list[Message]) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[_End]]:
    """Split off the system prompt and join neighbours of one role, so the results of a turn's calls stand together.

    Returns:
        The system prompt, the turns, and where among the blocks of the turns each message ends.
    """
    system: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    ends: list[_End] = []
    for message in messages:
        match message.role:
            case "system" | "developer":
                system += [read_block_text(part) for part in message.parts()]
                ends.append(None)
                continue
            case "user":
                role, blocks = "user", content_blocks(message)
            case "assistant":
                role, blocks = "assistant", _assistant_blocks(message)
            case "tool":
                role, blocks = "user", [tool_result(message)]
            case other:
                raise InvalidRequest(f"Anthropic has no messages of role {other!r}", param="messages")
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
        ends.append((turns[-1]["content"], len(turns[-1]["content"]) - 1) if blocks else None)
    if not turns:
        raise InvalidRequest("Anthropic needs at least one user message that is not empty", param="messages")
    return system, turns, ends


def _mark(instructions: list[dict[str, Any]] | None, beginnings: Sequence[Sequence[_End]]) -> None:
    """Mark the end of the instructions, and of each of `beginnings` the last block that can have a mark."""
    if instructions:
        instructions[-1] = {**instructions[-1], "cache_control": MARK}
    for beginning in beginnings:
        for end in reversed(beginning):
            if end is not None and "thinking" not in end[0][end[1]]["type"]:
                blocks, at = end
                blocks[at] = {**blocks[at], "cache_control": MARK}
                break


def _assistant_blocks(message: Message) -> list[dict[str, Any]]:
    blocks = list(message.thinking_blocks or ()) + content_blocks(message)
    for call in message.tool_calls or ():
        if not call.id:
            raise InvalidRequest(f"the call of {call.function.name!r} needs an id", param="messages")
        blocks.append({"type": "tool_use", "id": call.id, "name": call.function.name, "input": read_arguments(call)})
    return blocks


def _add_settings(body: dict[str, Any], payload: dict[str, Any]) -> None:
    temperature = payload.get("temperature")
    if isinstance(temperature, (int, float)):
        # OpenAI's scale ends at 2, Anthropic's at 1.
        body["temperature"] = min(temperature, 1.0)
    elif temperature is not None:
        raise InvalidRequest("temperature must be a number", param="temperature")
    stop = payload.get("stop")
    if stop:
        body["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    user = first_present(payload, "safety_identifier", "user")
    metadata = payload.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("user_id"), str):
        user = metadata["user_id"]
    if user is not None:
        body["metadata"] = {"user_id": user}
    tier = payload.get("service_tier")
    if isinstance(tier, str) and tier in _TIERS:
        body["service_tier"] = _TIERS[tier]


def _add_tools(body: dict[str, Any], payload: dict[str, Any]) -> None:
    tools = payload.get("tools")
    if not tools:
        return
    if not isinstance(tools, list):
        raise InvalidRequest("tools must be a list", param="tools")
    body["tools"] = [_tool(tool) for tool in tools]
    choice = _tool_choice(payload.get("tool_choice"))
    if payload.get("parallel_tool_calls") is False:
        choice = choice or {"type": "auto"}
        if choice["type"] != "none":
            choice["disable_parallel_tool_use"] = True
    if choice is not None:
        body["tool_choice"] = choice


def _tool(tool: object) -> dict[str, Any]:
    """A function as Anthropic's tool; other types are Anthropic's own and stay as they are."""
    if not isinstance(tool, dict):
        raise InvalidRequest("a tool must be an object", param="tools")
    if tool.get("type") != "function":
        return tool
    function = tool.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise InvalidRequest('a tool of type function needs {"function": {"name": ...}}', param="tools")
    made: dict[str, Any] = {"name": function["name"]}
    if function.get("description") is not None:
        made["description"] = function["description"]
    made["input_schema"] = function.get("parameters") or {"type": "object", "properties": {}}
    if function.get("strict"):
        made["strict"] = True
    if tool.get("cache_control") is not None:
        made["cache_control"] = tool["cache_control"]
    return made


def _tool_choice(choice: object) -> dict[str, Any] | None:
    if choice is None:
        return None
    if isinstance(choice, str) and choice in _TOOL_CHOICES:
        return {"type": _TOOL_CHOICES[choice]}
    if isinstance(choice, dict):
        function = choice.get("function")
        if choice.get("type") == "function" and isinstance(function, dict) and isinstance(function.get("name"), str):
            return {"type": "tool", "name": function["name"]}
        if choice.get("type") in ("auto", "any", "tool", "none"):
            return dict(choice)
    raise InvalidRequest(
        'Anthropic takes a tool_choice of auto, none, required or {"type": "function", "function": {"name": ...}}',
        param="tool_choice",
    )


def _add_format(body: dict[str, Any], payload: dict[str, Any]) -> None:
    wanted = payload.get("response_format")
    kind = wanted.get("type") if isinstance(wanted, dict) else wanted
    if kind in (None, "text"):
        return
    described = wanted.get("json_schema") if isinstance(wanted, dict) else None
    if kind != "json_schema" or not isinstance(described, dict) or not isinstance(described.get("schema"), dict):
        raise InvalidRequest(
            f"Anthropic has no response_format {kind!r} without a schema: use type json_schema with json_schema.schema",
            param="response_format",
        )
    config = body.get("output_config")
    body["output_config"] = {
        **(config if isinstance(config, dict) else {}),
        "format": {"type": "json_schema", "schema": described["schema"]},
    }
