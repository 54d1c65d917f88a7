"""From a request's payload to the simulated model's answer: the same payload and model always say the same."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import msgspec

from penstock.core.usage import Usage
from penstock.pricing.estimate import estimate_request_tokens
from penstock.providers.simulated.chunks import FINGERPRINT, Answer, Choice
from penstock.providers.simulated.embedding import embed, pack
from penstock.providers.simulated.schema import fit
from penstock.providers.simulated.text import compose, keywords, question_of, tokens

MOST_CHOICES = 128
MOST_DIMENSIONS = 4096
DEFAULT_DIMENSIONS = 256
_MOST_LIKELY = 20
_JSON_TEXT_TOKENS = 40
"""How long the text inside a ``json_object`` answer may get."""

_canonical = msgspec.json.Encoder(order="sorted").encode
_encode = msgspec.json.Encoder().encode


class BadPayload(ValueError):
    """A field of the payload cannot be used; `param` names it."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


def answer_chat(payload: dict[str, Any], model: str, created: int) -> Answer:
    """Answer a chat request.

    Raises:
        BadPayload: A field cannot be used.
    """
    seed = seed_of(payload, model)
    limit = _integer(payload, "max_completion_tokens", 1) or _integer(payload, "max_tokens", 1)
    question = question_of(payload)
    function = _function(payload, seed)
    count = _integer(payload, "n", 1, MOST_CHOICES) or 1
    choices = []
    for index in range(count):
        own = seed + bytes([index])
        if function is not None:
            arguments = _fitting(function.get("parameters") or {"type": "object"}, own, question, "tools")
            choices.append(_ended(arguments, "tool_calls", limit, (_unique("call_"), function["name"])))
        else:
            said = _structured(payload, own, question) or compose(question, own, limit)
            choices.append(_ended(_before_stop(said, payload), "stop", limit))
    logprobs = _integer(payload, "top_logprobs", 0, _MOST_LIKELY) or 0 if payload.get("logprobs") else None
    return Answer(_unique("chatcmpl-"), created, model, choices, _usage(payload, choices), logprobs=logprobs)


def answer_text(payload: dict[str, Any], model: str, created: int) -> Answer:
    """Answer a legacy completions request: `n` choices for each prompt.

    Raises:
        BadPayload: A field cannot be used.
    """
    seed = seed_of(payload, model)
    limit = _integer(payload, "max_tokens", 1)
    count = _integer(payload, "n", 1, MOST_CHOICES) or 1
    prompts = _texts(payload.get("prompt"), "prompt")
    if len(prompts) * count > MOST_CHOICES:
        raise BadPayload(f"at most {MOST_CHOICES} choices, the prompts and `n` make {len(prompts) * count}", "n")
    choices = []
    for index, prompt in enumerate(prompt for prompt in prompts for _ in range(count)):
        said = compose(prompt, seed + bytes([index]), limit)
        choices.append(_ended(_before_stop(said, payload), "stop", limit))
    logprobs = _integer(payload, "logprobs", 0, _MOST_LIKELY)
    usage = _usage(payload, choices)
    return Answer(_unique("cmpl-"), created, model, choices, usage, legacy=True, logprobs=logprobs)


def answer_embeddings(payload: dict[str, Any], model: str) -> tuple[bytes, Usage]:
    """Answer an embeddings request; the usage counts what was embedded.

    Raises:
        BadPayload: A field cannot be used.
    """
    dimensions = _integer(payload, "dimensions", 1, MOST_DIMENSIONS) or DEFAULT_DIMENSIONS
    form = payload.get("encoding_format") or "float"
    if form not in ("float", "base64"):
        raise BadPayload(f"expected float or base64, got {form!r}", "encoding_format")
    given = payload.get("input")
    texts = _texts(given, "input")
    vectors = [embed(text, dimensions) for text in texts]
    data = [
        {"object": "embedding", "index": index, "embedding": vector if form == "float" else pack(vector)}
        for index, vector in enumerate(vectors)
    ]
    count = estimate_request_tokens({"input": given})
    counts = {"prompt_tokens": count, "total_tokens": count}
    answer = {"object": "list", "data": data, "model": model, "system_fingerprint": FINGERPRINT, "usage": counts}
    return _encode(answer), Usage(input_tokens=count)


def seed_of(payload: Mapping[str, Any], model: str) -> bytes:
    """What decides everything an answer leaves open: SHA-256 of the payload, in canonical order, and the model."""
    return sha256(_canonical(payload) + b"\0" + model.encode()).digest()


def _unique(prefix: str) -> str:
    return prefix + os.urandom(12).hex()


def _usage(payload: dict[str, Any], choices: Sequence[Choice]) -> Usage:
    made = sum(len(choice.pieces) for choice in choices)
    return Usage(input_tokens=estimate_request_tokens(payload), output_tokens=made)


def _ended(text: str, reason: str, limit: int | None, call: tuple[str, str] | None = None) -> Choice:
    pieces = tokens(text)
    if limit is not None and len(pieces) > limit:
        return Choice(pieces[:limit], "length", call)
    return Choice(pieces, reason, call)


def _structured(payload: Mapping[str, Any], seed: bytes, question: str) -> str | None:
    """The JSON that `response_format` asks for; None when it asks for text."""
    form = payload.get("response_format")
    kind = form.get("type") if isinstance(form, dict) else None
    if kind == "json_object":
        about = {"answer": compose(question, seed, _JSON_TEXT_TOKENS), "keywords": keywords(question)}
        return _encode(about).decode()
    if kind != "json_schema" or not isinstance(form, dict):
        return None
    named = form.get("json_schema")
    if not isinstance(named, dict) or "schema" not in named:
        raise BadPayload("expected an object with a `schema`", "response_format.json_schema")
    return _fitting(named["schema"], seed, question, "response_format.json_schema.schema")


def _fitting(schema: object, seed: bytes, question: str, param: str) -> str:
    try:
        return _encode(fit(schema, seed, keywords(question))).decode()
    except ValueError as error:
        raise BadPayload(str(error), param) from error


def _function(payload: Mapping[str, Any], seed: bytes) -> dict[str, Any] | None:
    """The function that `tool_choice` demands to be called; None when text will do."""
    choice = payload.get("tool_choice")
    wanted: list[Any] | None = None
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools")
        choice, wanted = (allowed.get("mode"), allowed.get("tools")) if isinstance(allowed, dict) else (None, None)
    elif isinstance(choice, dict):
        choice, wanted = "required", [choice]
    if choice != "required":
        return None
    offered = _functions(payload.get("tools"))
    if wanted is not None:
        names = _functions(wanted)
        offered = {name: function for name, function in offered.items() if name in names}
    if not offered:
        raise BadPayload("`tool_choice` demands a function that is not among `tools`", "tool_choice")
    return list(offered.values())[seed[0] % len(offered)]


def _functions(tools: object) -> dict[str, dict[str, Any]]:
    listed = tools if isinstance(tools, list) else []
    functions = [tool.get("function") for tool in listed if isinstance(tool, dict)]
    return {
        function["name"]: function
        for function in functions
        if isinstance(function, dict) and isinstance(function.get("name"), str)
    }


def _before_stop(text: str, payload: Mapping[str, Any]) -> str:
    stop = payload.get("stop")
    if stop is None:
        return text
    words = [stop] if isinstance(stop, str) else stop
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise BadPayload("expected a string or an array of strings", "stop")
    found = [text.find(word) for word in words if word]
    return text[: min((place for place in found if place >= 0), default=len(text))]


def _integer(payload: Mapping[str, Any], name: str, least: int, most: int | None = None) -> int | None:
    value = payload.get(name)
    if value is None:
        return None
    if type(value) is not int or value < least or (most is not None and value > most):
        up_to = "" if most is None else f" to {most}"
        raise BadPayload(f"expected an integer from {least}{up_to}, got {value!r}", name)
    return value


def _texts(given: object, param: str) -> list[str]:
    """The texts in a string, an array of strings, an array of tokens or an array of those; tokens read as numbers."""
    if isinstance(given, str):
        return [given]
    if isinstance(given, list) and given:
        if all(isinstance(item, str) for item in given):
            return given
        if all(type(item) is int for item in given):
            return [" ".join(map(str, given))]
        if all(isinstance(item, list) for item in given):
            return [text for item in given for text in _texts(item, param)]
    raise BadPayload("expected a string, an array of strings, or tokens", param)
