"""What a client says in headers."""

from __future__ import annotations

import math
from collections.abc import Mapping

from penstock.client import new_id
from penstock.core.errors import InvalidRequest
from penstock.core.request import Priority
from penstock.core.route import ContextMode, SemanticMode

WANTED = frozenset(
    {
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"x-api-key",
        b"x-penstock-context",
        b"x-penstock-context-tokens",
        b"x-penstock-fallback",
        b"x-penstock-semantic",
        b"x-penstock-metadata",
        b"x-penstock-operation",
        b"x-penstock-priority",
        b"x-penstock-tags",
        b"x-penstock-tenant",
        b"x-penstock-timeout",
        b"x-penstock-unit",
        b"x-request-id",
    }
)
PLAIN = frozenset({b"authorization", b"content-length", b"content-type", b"x-api-key", b"x-request-id"})
"""What says nothing about how a request is to be answered."""
_MODES: dict[bytes, SemanticMode] = {b"off": "off", b"shadow": "shadow", b"on": "on"}
_CONTEXTS: dict[bytes, ContextMode] = {b"off": "off", b"budget": "budget", b"aggressive": "aggressive"}
_PRIORITIES: dict[bytes, Priority] = {b"high": "high", b"normal": "normal", b"low": "low"}
_CREDENTIALS = (b"authorization", b"x-api-key")
_ID_LENGTH = 128
_DIGITS = 9
_TAGS, _TAG_LENGTH = 20, 64


def pick(raw: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return the headers Penstock reads; of a repeated one the last, repeated keys joined, so that they are none."""
    found = [field for field in raw if field[0] in WANTED]
    picked = dict(found)
    if len(picked) < len(found):
        for name in _CREDENTIALS:
            if name in picked:
                picked[name] = b", ".join([value for each, value in found if each == name])
    return picked


def request_id(headers: Mapping[bytes, bytes]) -> str:
    """Return the client's `x-request-id` if it is usable, else a new one."""
    given = headers.get(b"x-request-id")
    if given and len(given) <= _ID_LENGTH:
        text = given.decode("latin-1")
        if text.isascii() and text.isprintable() and " " not in text:
            return text
    return new_id()


def timeout_s(headers: Mapping[bytes, bytes]) -> float | None:
    """Return `x-penstock-timeout` in seconds.

    Raises:
        InvalidRequest: It is not a positive number.
    """
    raw = headers.get(b"x-penstock-timeout")
    if raw is None:
        return None
    try:
        seconds = float(raw)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise _invalid("x-penstock-timeout", "a positive number of seconds, e.g. 2.5")
    return seconds


def tags(headers: Mapping[bytes, bytes]) -> tuple[str, ...]:
    """Return the labels in `x-penstock-tags`, comma-separated.

    Raises:
        InvalidRequest: There are more than 20, or one is longer than 64 characters.
    """
    raw = headers.get(b"x-penstock-tags")
    if not raw:
        return ()
    found = tuple(tag for part in raw.decode("latin-1").split(",") if (tag := part.strip()))
    if len(found) > _TAGS or any(len(tag) > _TAG_LENGTH for tag in found):
        raise _invalid("x-penstock-tags", f"at most {_TAGS} labels of at most {_TAG_LENGTH} characters")
    return found


def fallback(headers: Mapping[bytes, bytes]) -> bool:
    """Whether another model, or a template, may answer; ``none`` in `x-penstock-fallback` forbids it.

    Raises:
        InvalidRequest: The header says something else.
    """
    raw = headers.get(b"x-penstock-fallback")
    if raw is None:
        return True
    if raw.strip().lower() != b"none":
        raise _invalid("x-penstock-fallback", "none, or absent")
    return False


def priority(headers: Mapping[bytes, bytes]) -> Priority:
    """Return `x-penstock-priority`.

    Raises:
        InvalidRequest: It is none of ``high``, ``normal`` and ``low``.
    """
    raw = headers.get(b"x-penstock-priority")
    if raw is None:
        return "normal"
    found = _PRIORITIES.get(raw.strip().lower())
    if found is None:
        raise _invalid("x-penstock-priority", "high, normal or low")
    return found


def semantic(headers: Mapping[bytes, bytes]) -> SemanticMode | None:
    """Return `x-penstock-semantic`.

    Raises:
        InvalidRequest: It is none of ``off``, ``shadow`` and ``on``.
    """
    raw = headers.get(b"x-penstock-semantic")
    if raw is None:
        return None
    found = _MODES.get(raw.strip().lower())
    if found is None:
        raise _invalid("x-penstock-semantic", "off, shadow or on")
    return found


def context(headers: Mapping[bytes, bytes]) -> ContextMode | None:
    """Return `x-penstock-context`.

    Raises:
        InvalidRequest: It is none of ``off``, ``budget`` and ``aggressive``.
    """
    raw = headers.get(b"x-penstock-context")
    if raw is None:
        return None
    found = _CONTEXTS.get(raw.strip().lower())
    if found is None:
        raise _invalid("x-penstock-context", "off, budget or aggressive")
    return found


def context_tokens(headers: Mapping[bytes, bytes]) -> int | None:
    """Return `x-penstock-context-tokens`.

    Raises:
        InvalidRequest: It is not a whole positive number.
    """
    raw = headers.get(b"x-penstock-context-tokens")
    if raw is None:
        return None
    text = raw.strip()
    if not text.isdigit() or len(text) > _DIGITS or not int(text):
        raise _invalid("x-penstock-context-tokens", "a whole number of tokens, e.g. 4096")
    return int(text)


def unit(headers: Mapping[bytes, bytes]) -> str:
    """Return `x-penstock-unit`: who or what experiments assign to an arm.

    Raises:
        InvalidRequest: It is longer than 128 characters.
    """
    raw = headers.get(b"x-penstock-unit")
    if raw is None:
        return ""
    if len(raw) > _ID_LENGTH:
        raise _invalid("x-penstock-unit", f"at most {_ID_LENGTH} characters, e.g. the id of a user")
    return raw.decode("latin-1").strip()


def metadata(headers: Mapping[bytes, bytes]) -> dict[str, str] | None:
    """Return the pairs in `x-penstock-metadata`, ``name=value``, comma-separated; with `x-penstock-operation` in them.

    Raises:
        InvalidRequest: A part is not a pair, there are too many, or one is too long.
    """
    named = headers.get(b"x-penstock-operation")
    if named is None:
        return _pairs(headers.get(b"x-penstock-metadata"))
    operation = named.decode("latin-1").strip()
    if not operation or len(operation) > _TAG_LENGTH:
        raise _invalid("x-penstock-operation", f"a name of at most {_TAG_LENGTH} characters")
    return {**(_pairs(headers.get(b"x-penstock-metadata")) or {}), "operation": operation}


def _pairs(raw: bytes | None) -> dict[str, str] | None:
    if not raw:
        return None
    pairs: dict[str, str] = {}
    for part in raw.decode("latin-1").split(","):
        name, equals, value = part.strip().partition("=")
        if not equals or not name or len(name) > _TAG_LENGTH or len(value) > 8 * _TAG_LENGTH or len(pairs) >= _TAGS:
            raise _invalid("x-penstock-metadata", "pairs such as team=search,feature=chat")
        pairs[name] = value
    return pairs


def _invalid(name: str, expected: str) -> InvalidRequest:
    return InvalidRequest(f"The header {name} must be {expected}.", param=name, code="invalid_header")
