"""What an upstream's failure status means, the same for every dialect.

A dialect reads its vendor's error body; the status decides here whether the same or another target may do better.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime

from penstock.core.clock import SystemClock
from penstock.core.errors import ProviderError

_MAX_MESSAGE = 2000
_REDACTED = "[redacted]"
_SECRETS = re.compile(
    r"\b(?:sk|rk|pk|gsk|csk|xai|pplx|nvapi|hf|fw|tgp|ghp)[-_][\w*.\-]{6,}[\w*]"
    r"|\bAIza[\w\-]{20,}"
    r"|(?<=[Bb]earer )[\w\-.~+/=]{8,}"
    r"|\b[0-9A-Fa-f]{32,}\b"
)
_wall = SystemClock.wall

UNREADABLE = (ValueError, RecursionError)
"""What decoding bytes from elsewhere may raise."""

_OWN_CODE = {400: "invalid_request", 404: "not_found", 413: "request_too_large", 422: "invalid_request"}
"""Statuses whose vendor code is kept, and the code to use when the vendor gave none."""


def error_from_status(
    status: int,
    headers: Mapping[str, str],
    *,
    message: str,
    code: str | None = None,
    param: str | None = None,
    provider: str,
    secrets: Iterable[str] = (),
) -> ProviderError:
    """Make the error an upstream's failure answer stands for.

    Args:
        status: The HTTP status; a success status for an error body inside a successful answer.
        headers: The answer's headers, names in lower case.
        message: The vendor's message, or any text that says what came; strings that look like keys are removed.
        code: The vendor's code; kept for 400, 404, 413 and 422, replaced by Penstock's for the others.
        param: The request field at fault, if the vendor names one.
        provider: Name of the provider in the configuration.
        secrets: Values that must not be in the message either.
    """
    text = redact(message.strip(), secrets)[:_MAX_MESSAGE] or "no message"
    if status in _OWN_CODE:
        return ProviderError(
            text,
            status_code=status,
            code=code or _OWN_CODE[status],
            param=param,
            elsewhere=status == 404,
            provider=provider,
        )
    own_code, retryable = _verdict(status)
    text = f"provider {provider} answered {status}: {text}"
    if own_code == "upstream_auth":
        text += " (check its key and account)"
    return ProviderError(
        text,
        status_code=status,
        code=own_code,
        param=param,
        retry_after=read_retry_after(headers),
        retryable=retryable,
        provider=provider,
    )


def unusable(what: str, provider: str) -> ProviderError:
    """The error for a successful answer that makes no sense."""
    return ProviderError(
        f"provider {provider} sent {what}", status_code=200, code="upstream_invalid", provider=provider
    )


def unfinished(provider: str) -> ProviderError:
    """The error for a stream that is over before its answer is."""
    return ProviderError(
        f"provider {provider}: the stream ended before the answer did (no finish reason)",
        code="upstream_incomplete",
        retryable=True,
        provider=provider,
    )


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds an upstream asks to wait; None when it does not say or it cannot be read.

    Reads `retry-after-ms` as OpenAI and Azure send it, then `Retry-After` in seconds or as a date (RFC 9110 section
    10.2.3). A date is taken relative to the answer's own `Date`, so the two machines' clocks need not agree.
    """
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after", "")
    seconds = _number(text)
    if seconds is not None:
        return seconds
    until = _date(text)
    if until is None:
        return None
    now = _date(headers.get("date", ""))
    return max(until - (_wall() if now is None else now), 0.0)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Replace `secrets`, and what looks like a key, e.g. in ``Incorrect API key provided: sk-...``."""
    for secret in secrets:
        text = text.replace(secret, _REDACTED)
    return _SECRETS.sub(_REDACTED, text)


def conceal(error: ProviderError, secrets: Iterable[str]) -> None:
    """Take `secrets`, and what looks like a key, out of an error's message; an upstream may repeat what it was sent."""
    error.message = redact(error.message, secrets)
    error.args = (error.message,)


def _verdict(status: int) -> tuple[str, bool]:
    """Penstock's code, and whether the same target may do better at once."""
    if status == 429:
        return "rate_limit_exceeded", False
    if status in (401, 402, 403):
        return "upstream_auth", False
    if status == 408:
        return "upstream_timeout", True
    if 300 <= status < 400:
        return "upstream_invalid", False
    return "upstream_error", status >= 500 or status == 409


def _number(text: str) -> float | None:
    text = text.strip()
    if not text.isascii() or not text.replace(".", "", 1).isdigit():
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def _date(text: str) -> float | None:
    if not text:
        return None
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
