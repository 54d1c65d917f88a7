"""Whole answers as verifiers take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from penstock.matching.labels.text import choice_text
from penstock.routing.cascade.answers import Answer
from penstock.routing.cascade.forms import Form, conforms

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_decode = msgspec.json.Decoder().decode


class Said(NamedTuple):
    """One choice of an answer.

    Attributes:
        answer: What a verifier looks at.
        fault: Why it may not be given whatever the verifier says, without anything of its text; None if it may.
    """

    answer: Answer
    fault: str | None


def read_answer(body: bytes, payload: Mapping[str, Any]) -> list[Said]:
    """Return the choices of an answer to a request with `payload`; none for what cannot be read."""
    try:
        document = _decode(body)
    except _UNREADABLE:
        return []
    choices = document.get("choices") if isinstance(document, dict) else None
    if not isinstance(choices, list):
        return []
    return [_said(choice, payload) for choice in choices if isinstance(choice, dict)]


def form_of(payload: Mapping[str, Any]) -> Form:
    """Return what an answer must look like by the request's ``response_format``."""
    wanted = payload.get("response_format")
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind == "json_object":
        return Form(json=True)
    described = wanted.get("json_schema") if isinstance(wanted, dict) and kind == "json_schema" else None
    schema = described.get("schema") if isinstance(described, dict) else None
    if kind != "json_schema":
        return Form()
    return Form(json=True, schema=schema if isinstance(schema, dict) else None)


def _said(choice: dict[str, Any], payload: Mapping[str, Any]) -> Said:
    message = choice.get("message")
    told = message if isinstance(message, dict) else {}
    calls = bool(told.get("tool_calls") or told.get("function_call"))
    answer = Answer(
        choice_text(choice) or "",
        choice.get("finish_reason"),
        _logprobs(choice.get("logprobs")),
        form=Form() if calls else form_of(payload),
    )
    if told.get("refusal"):
        return Said(answer, "the cheap answer is a refusal")
    return Said(answer, (_misused(answer.text, payload) if calls else None) or answer.fault())


def _misused(text: str, payload: Mapping[str, Any]) -> str | None:
    """Say what is wrong with calls of tools, written as `choice_text` has them."""
    known = {each.get("name"): each.get("parameters") for each in _functions(payload)}
    for call in _decode(text) if text else ():
        if call["name"] not in known:
            return "the cheap answer calls a tool there is none of"
        schema = known[call["name"]]
        if isinstance(call["arguments"], str) and isinstance(schema, dict):
            return "the cheap answer calls a tool with arguments that are not JSON"
        if isinstance(schema, dict) and not conforms(call["arguments"], schema):
            return "the cheap answer calls a tool with arguments that do not fit"
    return None


def _functions(payload: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
    found = list(payload.get("functions") or ())
    for tool in payload.get("tools") or ():
        if isinstance(tool, dict):
            found.append(tool.get("function") or tool.get("custom"))
    return [each for each in found if isinstance(each, dict)]


def _logprobs(given: object) -> tuple[float, ...] | None:
    tokens = given.get("content") if isinstance(given, dict) else None
    if not isinstance(tokens, list):
        return None
    found = [token.get("logprob") for token in tokens if isinstance(token, dict)]
    return tuple(float(each) for each in found if isinstance(each, (int, float))) or None
