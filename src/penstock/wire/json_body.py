"""JSON bodies of requests: decoded strictly, within limits that no body can make slow to check.

What two readers might understand differently is refused (RFC 8259 sections 4, 6 and 8): a key that occurs twice in an
object, integers beyond 64 bits, numbers no double holds, halves of surrogate pairs, bytes that are not UTF-8.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from penstock.core.errors import InvalidRequest

MAX_DEPTH = 64
"""Deepest nesting of arrays and objects in a body, the body itself being the first level."""
LARGE_BYTES = 256 * 1024
"""A body over this is surveyed before it is decoded, and is best decoded in a thread."""
MAX_CONTAINERS = 100_000
"""Most arrays, objects and keys in a large body; each takes the decoder some hundred nanoseconds."""
MAX_VALUES = 1_000_000
"""Most values in a large body, e.g. the tokens of texts to embed."""
MAX_LONG_NUMBERS = 10_000
"""Most runs of `_RUN` digits in the numbers of a large body: they are what is slow to convert."""
MAX_ESCAPES = 3_000_000
"""Most escaped quotes and backslashes in a large body."""

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode
"""Writes MessagePack, whose integers have 64 bits: the quickest way to find one that has more."""
_NAMES = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number"}

_RUN = b"0" * 17
_DIGITS = bytes(ord("0") if chr(byte) in "0123456789" else ord(" ") for byte in range(256))
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_ESCAPED_COLON = re.compile(rb"\\u003[aA]")


def decode_object(body: bytes) -> dict[str, Any]:
    """Decode a body that must be an object; raises as `read_object`."""
    return read_object(body)[0]


def read_object(body: bytes) -> tuple[dict[str, Any], bytes]:
    """Decode a body that must be an object, and write it anew, without white space and escapes that are not needed.

    Raises:
        InvalidRequest: 400; `code` is ``invalid_json``, or ``invalid_type`` for a value that is no object.
    """
    if len(body) > LARGE_BYTES:
        _survey(body)
    try:
        payload = _decode(body)
    except (ValueError, RecursionError) as error:
        raise _not_json(body, error) from None
    if type(payload) is not dict:
        kind = type_name(payload)
        raise InvalidRequest(f"The request body must be a JSON object, it is {kind}.", code="invalid_type")
    if len(body) <= LARGE_BYTES and _openers(body) > MAX_DEPTH and _too_deep(payload):
        raise _invalid(f"it is nested more than {MAX_DEPTH} levels deep")
    try:
        _pack(payload)
    except OverflowError:
        raise _invalid("an integer in it does not fit 64 bits") from None
    encoded = _encode(payload)
    if encoded != body and _may_repeat_a_key(body, encoded):
        json.loads(body, object_pairs_hook=_each_once)
    return payload, encoded


def type_name(value: object) -> str:
    """Return what JSON calls a decoded value, with its article."""
    return _NAMES.get(type(value), "null")


def _invalid(reason: str) -> InvalidRequest:
    return InvalidRequest(f"The request body is not valid JSON: {reason}.", code="invalid_json")


def _not_json(body: bytes, error: Exception) -> InvalidRequest:
    if isinstance(error, RecursionError):
        return _invalid(f"it is nested more than {MAX_DEPTH} levels deep")
    if isinstance(error, UnicodeDecodeError):
        return _invalid(f"it is not valid UTF-8 ({_utf8_fault(body)})")
    if isinstance(error, msgspec.ValidationError):
        return _invalid("a number in it is too large")
    if not body.strip():
        return _invalid("it is empty")
    return _invalid(str(error).removeprefix("JSON is malformed: "))


def _utf8_fault(body: bytes) -> str:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return f"byte {error.start}"
    return "a string in it"


def _too_deep(document: dict[str, Any]) -> bool:
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            for child in (node.values() if type(node) is dict else node)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return False
    return True


def _openers(body: bytes) -> int:
    return len(body) - len(body.replace(b"[", b"").replace(b"{", b""))  # a third of what `count` takes


def _may_repeat_a_key(body: bytes, encoded: bytes) -> bool:
    """Compare the colons before and after decoding, which drops all but the last of a key's values.

    Every key brings one colon, every other is in a string, where only its escape can hide it.
    """
    if body.find(b"\\") >= 0 and _ESCAPED_COLON.search(body):
        return True
    # As `_openers`, lengths without them in place of `count`.
    return len(body) - len(body.replace(b":", b"")) != len(encoded) - len(encoded.replace(b":", b""))


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # `add` is None
        raise _invalid(f"the key {json.dumps(twice[:64])} occurs twice in one object")
    return unique


def _survey(body: bytes) -> None:
    """Refuse what would take long to decode, from the text outside strings.

    A body that is not JSON is decoded up to its first fault, and up to there this reads it rightly.
    """
    if b"\\" in body:
        if body.count(b'\\"') + body.count(b"\\\\") > MAX_ESCAPES:
            raise _invalid(f"it has more than {MAX_ESCAPES} escaped quotes and backslashes")
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if body.count(b'"') > 2 * MAX_VALUES + 2 * MAX_CONTAINERS:
        raise _invalid(f"it has more than {MAX_VALUES} values")
    bare = b" ".join(body.split(b'"')[::2])
    brackets = bare.translate(_BRACKETS, _NOT_BRACKETS)
    if len(brackets) + 2 * bare.count(b":") > 2 * MAX_CONTAINERS:
        raise _invalid(f"it has more than {MAX_CONTAINERS} arrays, objects and keys")
    if bare.count(b",") > MAX_VALUES:
        raise _invalid(f"it has more than {MAX_VALUES} values")
    if bare.translate(_DIGITS).count(_RUN) > MAX_LONG_NUMBERS:
        raise _invalid(f"it has more than {MAX_LONG_NUMBERS} numbers of more than {len(_RUN)} digits")
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace(b"[]", b"")
        if not brackets:
            return
    raise _invalid(f"it is nested more than {MAX_DEPTH} levels deep")
