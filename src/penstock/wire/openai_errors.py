"""OpenAI's error objects and rate limit headers, and what compatible servers make of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from penstock.core.clock import SystemClock
from penstock.core.errors import ProviderError
from penstock.wire.upstream_errors import error_from_status

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

_CONTEXT = re.compile(r"context.?length|context.?window|exceed_context_size|maximum context", re.IGNORECASE)
_WORDS: tuple[tuple[str, int], ...] = (
    ("rate_limit", 429),
    ("quota", 429),
    ("too_many_requests", 429),
    ("auth", 401),
    ("api_key", 401),
    ("permission", 403),
    ("not_found", 404),
    ("overloaded", 503),
    ("unavailable", 503),
    ("context_length", 400),
    ("content_filter", 400),
    ("content_policy", 400),
    ("exceed_context_size", 400),
    ("invalid_request", 400),
    ("badrequest", 400),
)
"""Parts of an error's code or type, and the status it would have come with."""
_DURATION = re.compile(
    r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9}(?:\.\d{1,9})?)s)?(?:(\d{1,9}(?:\.\d{1,9})?)ms)?",
    re.ASCII,
)
_UNITS = (86400.0, 3600.0, 60.0, 1.0, 0.001)
_NUMBER = re.compile(r"\d{1,15}(?:\.\d{1,9})?", re.ASCII)


def parse_error(
    status: int, headers: Mapping[str, str], body: bytes, provider: str, *, secrets: Iterable[str] = ()
) -> ProviderError:
    """Make the error a failed answer stands for.

    Args:
        status: The HTTP status.
        headers: The answer's headers, names in lower case.
        body: The answer's body, of any kind.
        provider: Name of the provider in the configuration.
        secrets: Values that must not be in the message, besides everything that looks like a key.
    """
    try:
        document = _decode(body)
    except (ValueError, RecursionError):
        document = None
    return _error(status, headers, _fields(document), provider, secrets)


def find_error(document: object, provider: str) -> ProviderError | None:
    """Return the error a successful answer or a chunk of a stream carries, judged by the status it names or implies."""
    fields = _fields(document)
    is_error = isinstance(document, list) or (
        isinstance(document, dict) and (document.get("error") or document.get("object") == "error")
    )
    if not fields or not is_error:
        return None
    return _error(_implied_status(fields), {}, fields, provider, ())


def read_reset(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds until the limit that was hit is reset, from ``x-ratelimit-reset`` or OpenAI's ``-requests``, ``-tokens``.

    The value is a duration such as ``1m30.5s``, seconds, or a time in seconds or milliseconds since the epoch.

    Args:
        headers: The answer's headers, names in lower case.
        now: Seconds since the epoch, by default the machine's.
    """
    waits = []
    for suffix in ("", "-requests", "-tokens"):
        if headers.get(f"x-ratelimit-remaining{suffix}", "0").strip() == "0":
            wait = _seconds(headers.get(f"x-ratelimit-reset{suffix}", "").strip(), now)
            if wait is not None:
                waits.append(wait)
    return max(waits, default=None)


def _seconds(text: str, now: float | None) -> float | None:
    if not text:
        return None
    if _NUMBER.fullmatch(text):
        value = float(text)
        if value < 1e9:
            return value
        now = SystemClock.wall() if now is None else now
        return max((value / 1000 if value >= 1e11 else value) - now, 0.0)
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    return sum(float(part) * unit for part, unit in zip(match.groups(), _UNITS, strict=True) if part)


def _error(
    status: int, headers: Mapping[str, str], fields: Mapping[str, Any], provider: str, secrets: Iterable[str]
) -> ProviderError:
    code, kind, param = _text(fields.get("code")), _text(fields.get("type")), _text(fields.get("param"))
    message = _message(fields)
    error = error_from_status(
        status,
        headers,
        message=message or "no reason given",
        code=code,
        param=param,
        provider=provider,
        secrets=secrets,
    )
    if status in (400, 413, 422) and _CONTEXT.search(f"{code} {kind} {message}"):
        # Another target may have a larger window. Servers of one's own name this error each in their way.
        error.code = "context_length_exceeded"
        error.elsewhere = True
    elif status == 429:
        if "insufficient_quota" in (code, kind):
            error.code = "insufficient_quota"
        if error.retry_after is None:
            error.retry_after = read_reset(headers)
    return error


def _fields(document: object) -> dict[str, Any]:
    """The fields of the error object, wherever the server put it; Google's comes in a list."""
    if isinstance(document, list):
        document = document[0] if document else None
    if not isinstance(document, dict):
        return {}
    inner = document.get("error")
    if isinstance(inner, dict):
        return inner
    if isinstance(inner, str) and inner:
        return {"message": inner, "code": document.get("code"), "type": document.get("type")}
    return document


def _message(fields: Mapping[str, Any]) -> str:
    for name in ("message", "detail", "error_description"):
        value = fields.get(name)
        if value:
            return value if isinstance(value, str) else _encode(value).decode()
    return ""


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _implied_status(fields: Mapping[str, Any]) -> int:
    for name in ("status_code", "status", "code"):
        value = fields.get(name)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 3:
            value = int(value)
        if type(value) is int and 400 <= value <= 599:
            return value
    words = f"{fields.get('code')} {fields.get('type')}".lower()
    return next((status for word, status in _WORDS if word in words), 500)
