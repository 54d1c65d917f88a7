"""Canonical requests as Ollama's.

What Ollama cannot do and a caller would miss in the answer (`n`, `echo`, remote images, token ids as input) is refused;
OpenAI's hints it has no counterpart for are left out. All other fields are passed on as they are, so Ollama's own
(`options`, `keep_alive`, `format`, `think`, `truncate`, …) may be used, and go before what they would be made of.

Ollama cannot force a tool call: a `tool_choice` of ``required`` only offers the tools, a named one offers that tool.
"""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.core.errors import InvalidRequest
from penstock.wire.chat_messages import (
    HINTS,
    Message,
    first_present,
    read_arguments,
    read_data_url,
    read_messages,
    read_text,
    read_url,
    refuse_unsupported,
)

_encode = msgspec.json.Encoder().encode

OPTIONS = frozenset({
    "draft_num_predict", "frequency_penalty", "main_gpu", "min_p", "num_batch", "num_ctx", "num_gpu", "num_keep",
    "num_predict", "num_thread", "numa", "penalize_newline", "presence_penalty", "repeat_last_n", "repeat_penalty",
    "seed", "temperature", "top_k", "top_p", "typical_p", "use_mmap",
})  # fmt: skip
"""Fields that Ollama wants inside ``options``."""

_VENDOR = "Ollama"
_REFUSED = ("audio", "function_call", "functions", "web_search_options")
_REFUSED_COMPLETION = ("echo", "logprobs")
_TRANSLATED = frozenset({
    "best_of",
    "encoding_format",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "options",
    "reasoning_effort",
    "response_format",
    "stop",
    "tool_choice",
    "tools",
})  # fmt: skip
_NOT_COPIED = _TRANSLATED | OPTIONS | HINTS | frozenset(_REFUSED) | {"echo"}
_THINK = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "max",
    "max": "max",
}


def encode_request(payload: dict[str, Any], *, model: str, stream: bool) -> bytes:
    """Write a canonical chat request as the body of ``POST /api/chat``.

    Raises:
        InvalidRequest: It is malformed, or asks for what Ollama does not have.
    """
    refuse_unsupported(payload, _VENDOR, _REFUSED)
    body = _common(payload, model)
    body["messages"] = _messages(read_messages(payload))
    body["stream"] = stream
    tools = _tools(payload)
    if tools:
        body["tools"] = tools
    return _encode(body)


def encode_completion(payload: dict[str, Any], *, model: str, stream: bool) -> bytes:
    """Write a canonical (legacy) completion request as the body of ``POST /api/generate``.

    Raises:
        InvalidRequest: It is malformed, or asks for what Ollama does not have.
    """
    refuse_unsupported(payload, _VENDOR, _REFUSED_COMPLETION)
    if payload.get("best_of") not in (None, 1):
        raise InvalidRequest("Ollama has no best_of: leave it out", param="best_of")
    prompt = payload.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise InvalidRequest("Ollama takes one prompt, as text", param="prompt")
    body = _common(payload, model)
    body["prompt"] = prompt
    body["stream"] = stream
    return _encode(body)


def encode_embeddings(payload: dict[str, Any], *, model: str) -> bytes:
    """Write a canonical embeddings request as the body of ``POST /api/embed``.

    Raises:
        InvalidRequest: `input` is not text or texts, or `encoding_format` is unknown.
    """
    wanted = payload.get("input")
    texts = wanted if isinstance(wanted, list) else [wanted]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise InvalidRequest("Ollama takes input as a text or a list of texts", param="input")
    if payload.get("encoding_format") not in (None, "float", "base64"):
        raise InvalidRequest("encoding_format must be float or base64", param="encoding_format")
    return _encode(_common(payload, model))


def _common(payload: dict[str, Any], model: str) -> dict[str, Any]:
    body = {key: value for key, value in payload.items() if key not in _NOT_COPIED and value is not None}
    body["model"] = model
    options = _options(payload)
    if options:
        body["options"] = options
    form = _format(payload.get("response_format"))
    if form is not None:
        body.setdefault("format", form)
    effort = payload.get("reasoning_effort")
    if effort is not None:
        if not isinstance(effort, str) or effort not in _THINK:
            raise InvalidRequest(f"reasoning_effort must be one of {', '.join(_THINK)}", param="reasoning_effort")
        body.setdefault("think", _THINK[effort])
    return body


def _options(payload: dict[str, Any]) -> dict[str, Any]:
    options = {name: value for name, value in payload.items() if name in OPTIONS and value is not None}
    limit = first_present(payload, "max_completion_tokens", "max_tokens")
    if limit is not None:
        options["num_predict"] = limit
    stop = payload.get("stop")
    if stop:
        options["stop"] = [stop] if isinstance(stop, str) else stop
    own = payload.get("options")
    if own is not None:
        if not isinstance(own, dict):
            raise InvalidRequest("options must be an object", param="options")
        options.update(own)
    return options


def _format(wanted: object) -> Any:  # noqa: ANN401 - a JSON schema or a name
    if wanted is None:
        return None
    kind = wanted.get("type") if isinstance(wanted, dict) else wanted
    if kind == "text":
        return None
    if kind == "json_object":
        return "json"
    described = wanted.get("json_schema") if isinstance(wanted, dict) else None
    if kind == "json_schema" and isinstance(described, dict) and isinstance(described.get("schema"), dict):
        return described["schema"]
    raise InvalidRequest(
        "response_format must be of type text, json_object, or json_schema with json_schema.schema",
        param="response_format",
    )


def _tools(payload: dict[str, Any]) -> list[Any]:
    tools, choice = payload.get("tools"), payload.get("tool_choice")
    if not tools or choice == "none":
        return []
    if not isinstance(tools, list):
        raise InvalidRequest("tools must be a list", param="tools")
    if not isinstance(choice, dict):
        return tools
    chosen = [tool for tool in tools if isinstance(tool, dict) and _name(tool) == _name(choice) is not None]
    if not chosen:
        raise InvalidRequest("tool_choice names none of the tools", param="tool_choice")
    return chosen


def _name(tool: dict[str, Any]) -> object:
    function = tool.get("function")
    return function.get("name") if isinstance(function, dict) else None


def _messages(messages: list[Message]) -> list[dict[str, Any]]:
    names = {call.id: call.function.name for message in messages for call in message.tool_calls or ()}
    made = []
    for message in messages:
        text, images = _content(message)
        told: dict[str, Any] = {"role": "system" if message.role == "developer" else message.role, "content": text}
        if told["role"] not in ("system", "user", "assistant", "tool"):
            raise InvalidRequest(f"Ollama has no messages of role {message.role!r}", param="messages")
        if images:
            told["images"] = images
        if message.reasoning_content:
            told["thinking"] = message.reasoning_content
        if message.tool_calls:
            told["tool_calls"] = [
                {"function": {"name": call.function.name, "arguments": read_arguments(call)}}
                for call in message.tool_calls
            ]
        if message.role == "tool" and (name := names.get(message.tool_call_id or "", message.name)):
            told["tool_name"] = name
        made.append(told)
    return made


def _content(message: Message) -> tuple[str, list[str]]:
    texts: list[str] = []
    images: list[str] = []
    for part in message.parts():
        match part.get("type"):
            case "text" | "refusal":
                texts.append(read_text(part))
            case "image_url":
                inline = read_data_url(read_url(part))
                if inline is None:
                    raise InvalidRequest(
                        "Ollama fetches no images: send them inline, as data:image/png;base64,...", param="messages"
                    )
                images.append(inline[1])
            case other:
                raise InvalidRequest(f"Ollama takes text and images, not {other!r}", param="messages")
    return "\n".join(texts), images
