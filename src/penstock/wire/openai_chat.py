"""OpenAI's chat completions, completions and embeddings: requests in both directions, and the stream to the client.

What providers answer is read in `penstock.wire.openai_answers`. Requests are validated lightly: what Penstock does not
use itself passes through, so that fields it has never heard of reach the provider.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any

import msgspec

from penstock.core.errors import InvalidRequest
from penstock.core.events import BETWEEN, Batch
from penstock.core.prompt import PROMPT_MODEL
from penstock.core.request import Operation, PromptReference, Request, Written
from penstock.wire.json_body import read_object, type_name
from penstock.wire.prompt_caching import has_marks, marked_messages
from penstock.wire.sse import END

DONE = b"data: [DONE]\n\n"
"""What ends a stream."""

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_USAGE, _NULL_USAGE = b'"usage"', b',"usage":null}'
_FRAME = b"data: %b\n\n"
_ASK_USAGE = b',"stream_options":{"include_usage":true}}'


class Inbound(msgspec.Struct, frozen=True):
    """A client's request.

    Attributes:
        model: The model name.
        payload: The body without the fields of this class.
        stream: A stream is wanted.
        include_usage: The stream shall end with a usage chunk.
        stream_options: The other stream options, None when there are none.
        cache_field: LiteLLM's ``cache`` field as it came; None when absent.
        store: The answer shall be kept as a stored completion.
        prompt: The prompt it names; the payload may then have no messages.
        written: The body as JSON, if there is nothing in it but the payload, the model and that a stream is wanted.
    """

    model: str
    payload: dict[str, Any]
    stream: bool = False
    include_usage: bool = False
    stream_options: dict[str, Any] | None = None
    cache_field: object = None
    store: bool = False
    prompt: PromptReference | None = None
    written: Written | None = None


class _Message(msgspec.Struct, gc=False):
    role: Annotated[str, msgspec.Meta(min_length=1)]


class _UsageOnly(msgspec.Struct):
    usage: object = msgspec.UNSET


_decode_usage = msgspec.json.Decoder(_UsageOnly).decode


def decode_request(operation: Operation, body: bytes) -> Inbound:
    """Read a client's request body.

    Raises:
        InvalidRequest: 400; `code` is ``invalid_json``, ``invalid_type``, ``invalid_value`` or
            ``missing_required_parameter``.
    """
    payload, encoded = read_object(body)
    fields = len(payload)
    prompt = _take_prompt(payload) if "prompt" in payload and operation != "embeddings" else None
    model = payload.pop("model", None)
    if prompt is not None and model is None:
        model = PROMPT_MODEL + prompt.id
    elif type(model) is not str or not model:
        raise _no_model(model)
    elif model.startswith(PROMPT_MODEL) and operation != "embeddings":
        prompt = _named_by_model(model, prompt)
        model = PROMPT_MODEL + prompt.id
    if prompt is None or payload.get(_ASKED[operation]) not in (None, []):
        _CHECKS[operation](payload)
    if _OWN.isdisjoint(payload):
        written = None if prompt is not None else Written(payload, model, stream=False, body=encoded)
        return Inbound(model, payload, prompt=prompt, written=written)
    stream = _flag(payload, "stream")
    if stream and operation == "embeddings":
        raise _fault("stream", "embeddings cannot be streamed; leave stream out or set it to false", "invalid_value")
    options = payload.pop("stream_options", None)
    include_usage = False
    if options is not None:
        include_usage = _take_include_usage(options, stream=stream)
    cache_field, store = payload.pop("cache", None), _flag(payload, "store")
    written = None
    if stream and prompt is None and len(payload) == fields - 2:
        written = Written(payload, model, stream=True, body=encoded)
    return Inbound(model, payload, stream, include_usage, options or None, cache_field, store, prompt, written)


def encode_request(
    request: Request,
    model: str,
    *,
    stream_options: bool = True,
    omit: Iterable[str] = (),
    marks: bool = False,
    prompt_cache_key: bool = False,
) -> bytes:
    """Write the body for a provider.

    Streams ask for usage always, because the ledger needs it; `frame` leaves it out again for clients who did not ask.

    Args:
        request: What to ask.
        model: The provider's model.
        stream_options: The provider knows the field; without it neither Penstock's nor the client's options are sent.
        omit: Fields of the payload the provider must not get.
        marks: The provider takes marks of what to cache on parts of messages.
        prompt_cache_key: It takes a key for what to cache; a client's own stays.

    Raises:
        InvalidRequest: The payload, given as Python values, cannot be written as JSON.
    """
    if request.prefix is None or not (marks or prompt_cache_key):
        spliced = _splice(request, model, stream_options=stream_options, omit=omit)
        if spliced is not None:
            return spliced
    body = {"model": model, **request.payload}
    for name in omit:
        body.pop(name, None)
    prefix = request.prefix
    if prefix is not None:
        if prompt_cache_key:
            body.setdefault("prompt_cache_key", prefix.key)
        if marks and not has_marks(body):
            body["messages"] = marked_messages(body, prefix.points)
    if request.stream:
        body["stream"] = True
        if stream_options:
            body["stream_options"] = {**(request.stream_options or {}), "include_usage": True}
    try:
        return _encode(body)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"the request cannot be written as JSON: {error}", code="invalid_json") from error


def _splice(request: Request, model: str, *, stream_options: bool, omit: Iterable[str]) -> bytes | None:
    """Put the provider's model in the client's request; None when that is not all that differs.

    Only where the name is the first field or the last but for `stream`, as in most: a search for it takes as long as
    writing all anew.
    """
    written, payload = request.written, request.payload
    if written is None or written.payload is not payload or written.stream is not request.stream:
        return None
    if request.stream_options or (omit and not payload.keys().isdisjoint(omit)):
        return None
    body, field = written.body, b'"model":' + _encode(written.model)
    end = b',"stream":true}' if written.stream else b"}"
    if body.startswith(field, 1):
        before, after = b"{", body[1 + len(field) :]
    elif body.endswith(b"," + field + end):
        before, after = body[: -len(field) - len(end)], end
    else:
        return None
    if written.stream and stream_options:
        after = after[:-1] + _ASK_USAGE
    return b"".join((before, b'"model":', _encode(model), after))


def frame(batch: Batch, *, include_usage: bool) -> bytes:
    """Frame events for a client; empty when there is nothing in them for one that did not ask for usage."""
    if len(batch) == 1 and not batch[0].bare_usage:
        framed = b"data: " + batch[0].data + END
    else:
        framed = b"".join([_FRAME % event.data for event in batch if include_usage or not event.bare_usage])
    if include_usage:
        return framed
    # Cheaper than `in`.
    if framed.find(_USAGE) >= 0:
        without = framed.replace(_NULL_USAGE + END, b"}" + END)
        if without.find(_USAGE) < 0:
            return without
        return b"".join([_FRAME % _without_usage(data) for data in framed[6:-2].split(BETWEEN)])
    return framed


def error_frame(error: dict[str, Any]) -> bytes:
    """Frame an OpenAI error object; it takes the place of the end of a stream that broke."""
    return b"data: " + _encode({"error": error}) + b"\n\n"


def _without_usage(data: bytes) -> bytes:
    if data.find(_USAGE) < 0:
        return data
    if data.endswith(_NULL_USAGE):
        # The last brace closes the chunk itself, so this `usage` is the chunk's own and not one of a nested object.
        return data[: -len(_NULL_USAGE)] + b"}"
    usage = _decode_usage(data).usage
    if usage is msgspec.UNSET:
        return data
    before = data.find(_USAGE) - 1
    if usage is None and data.startswith(b',"usage":null,', before) and data.find(_USAGE, before + 2) < 0:
        return data[:before] + data[before + 13 :]
    chunk = _decode(data)
    del chunk["usage"]
    return _encode(chunk)


def _fault(param: str | None, message: str, code: str) -> InvalidRequest:
    return InvalidRequest(message, code=code, param=param)


def _wrong_type(param: str, expected: str, value: object) -> InvalidRequest:
    return _fault(param, f"Invalid type for '{param}': expected {expected}, got {type_name(value)}.", "invalid_type")


def _missing(param: str, hint: str) -> InvalidRequest:
    return _fault(param, f"Missing required parameter: '{param}'. {hint}", "missing_required_parameter")


def _no_model(value: object) -> InvalidRequest:
    if value is None:
        return _missing("model", "GET /v1/models lists the models on offer.")
    if type(value) is not str:
        return _wrong_type("model", "a string", value)
    return _fault("model", "'model' is empty; GET /v1/models lists the models on offer.", "invalid_value")


def _flag(payload: dict[str, Any], name: str) -> bool:
    value = payload.pop(name, None)
    if value is None:
        return False
    if type(value) is not bool:
        raise _wrong_type(name, "a boolean", value)
    return value


def _take_include_usage(options: object, *, stream: bool) -> bool:
    if type(options) is not dict:
        raise _wrong_type("stream_options", "an object", options)
    if not stream:
        message = "'stream_options' is only allowed with \"stream\": true; leave it out or ask for a stream."
        raise _fault("stream_options", message, "invalid_value")
    value = options.pop("include_usage", None)
    if value is not None and type(value) is not bool:
        raise _wrong_type("stream_options.include_usage", "a boolean", value)
    return value is True


def _check_messages(payload: dict[str, Any]) -> None:
    messages = payload.get("messages")
    if messages is None:
        raise _missing("messages", 'Send a list such as [{"role": "user", "content": "Hello"}].')
    if type(messages) is not list:
        raise _wrong_type("messages", "an array of objects", messages)
    if not messages:
        raise _fault("messages", "'messages' is empty; send at least one message.", "invalid_value")
    try:
        msgspec.convert(messages, list[_Message])
    except msgspec.ValidationError:
        _check_each(messages)


def _check_each(messages: list[Any]) -> None:
    for index, message in enumerate(messages):
        if type(message) is not dict:
            raise _wrong_type(f"messages[{index}]", "an object", message)
        role = message.get("role")
        if type(role) is not str or not role:
            raise _no_role(f"messages[{index}].role", role)


def _no_role(param: str, role: object) -> InvalidRequest:
    if role is None:
        return _missing(param, "It is one of system, developer, user, assistant and tool.")
    if type(role) is not str:
        return _wrong_type(param, "a string", role)
    return _fault(param, f"'{param}' is empty.", "invalid_value")


def _take_prompt(payload: dict[str, Any]) -> PromptReference | None:
    """Take the reference to a stored prompt out of a body; a text to complete stays where it is."""
    given = payload["prompt"]
    if type(given) is not dict:
        return None
    del payload["prompt"]
    name, version, variables = given.get("id"), given.get("version"), given.get("variables")
    if type(name) is not str or not name:
        raise _missing("prompt.id", "It names the prompt; `penstock templates list` shows which there are.")
    if version is not None and (type(version) is not str or not version):
        raise _wrong_type("prompt.version", "a string: a version or a label", version)
    if variables is not None and type(variables) is not dict:
        raise _wrong_type("prompt.variables", "an object", variables)
    if unknown := set(given) - {"id", "version", "variables"}:
        name = min(unknown)
        raise _fault(
            f"prompt.{name}",
            f"'prompt.{name}' is no field of a prompt; it has id, version and variables.",
            "invalid_value",
        )
    return PromptReference(name, version, variables or {})


def _named_by_model(model: str, given: PromptReference | None) -> PromptReference:
    """Return the prompt that ``prompt/NAME`` or ``prompt/NAME@VERSION`` asks for, with the variables that are given."""
    name, _, version = model.removeprefix(PROMPT_MODEL).partition("@")
    reference = PromptReference(name, version or None)
    if given is None:
        return reference
    if given.id != name or (version and given.version not in (None, version)):
        raise _fault("prompt.id", f"'model' asks for '{model[:200]}' and 'prompt' for another.", "invalid_value")
    return given if given.version else msgspec.structs.replace(given, version=version or None)


def _check_prompt(payload: dict[str, Any]) -> None:
    prompt = payload.get("prompt")
    if prompt is None:
        raise _missing("prompt", "Send the text to complete.")
    if type(prompt) is not str and type(prompt) is not list:
        raise _wrong_type("prompt", "a string or an array", prompt)


def _check_input(payload: dict[str, Any]) -> None:
    given = payload.get("input")
    if given is None:
        raise _missing("input", "Send the text, or the list of texts, to embed.")
    if type(given) is not str and type(given) is not list:
        raise _wrong_type("input", "a string or an array", given)
    if not given:
        raise _fault("input", "'input' is empty; send at least one text to embed.", "invalid_value")


_OWN = frozenset({"stream", "stream_options", "cache", "store"})
"""The fields of `Inbound` that a body need not have."""
_ASKED: dict[Operation, str] = {"chat": "messages", "completions": "prompt", "embeddings": "input"}
_CHECKS: dict[Operation, Callable[[dict[str, Any]], None]] = {
    "chat": _check_messages,
    "completions": _check_prompt,
    "embeddings": _check_input,
}
