"""The only map from Penstock's errors to HTTP, in OpenAI's error shape."""

from __future__ import annotations

import logging
import math
from typing import Any

import msgspec

from penstock.core.errors import (
    BudgetExceeded,
    DeadlineExceeded,
    InvalidRequest,
    NotCached,
    PenstockError,
    ProviderError,
    RateLimited,
    Refused,
    StoreError,
    WorkerError,
)
from penstock.core.quota import Quota

PASSED_ON = frozenset({400, 404, 409, 413, 422})
"""Statuses of an upstream that speak about the client's request and so are the client's to see."""

_log = logging.getLogger("penstock.server")
_GATEWAY_TIMEOUT = frozenset({"upstream_timeout"})


def status_of(error: PenstockError) -> int:
    """Return the HTTP status for `error`."""
    match error:
        case InvalidRequest():
            return error.status_code
        case DeadlineExceeded() | NotCached():
            return 504
        case RateLimited() | BudgetExceeded():
            return 429
        case ProviderError():
            return _provider_status(error)
        case StoreError() | Refused() | WorkerError():
            return 503
        case _:
            return 500


def _provider_status(error: ProviderError) -> int:
    if error.code in _GATEWAY_TIMEOUT:
        return 504
    if error.code in ("rate_limit_exceeded", "insufficient_quota"):
        return 429
    if error.status_code in PASSED_ON and error.code != "upstream_auth":
        return error.status_code
    return 502


def type_of(status: int) -> str:
    """Return OpenAI's ``type`` for an HTTP status."""
    named = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
    if status in named:
        return named[status]
    return "invalid_request_error" if status < 500 else "server_error"


def body_of(error: PenstockError, status: int) -> dict[str, Any]:
    """Return the ``error`` object."""
    message = error.message
    if isinstance(error, StoreError) and error.code != "ledger_unavailable":
        # What is wrong with the store, and where it is, is for who operates it.
        _log.error("the store failed: %s", message)
        message = "The store cannot be used now; the reason is in the log."
    return {"message": message, "type": type_of(status), "param": error.param, "code": error.code}


def render(error: PenstockError) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Return status, headers and body of the response for `error`.

    `x-should-retry: false` tells OpenAI's clients not to repeat what was already repeated here, or cannot succeed.
    """
    status = status_of(error)
    headers = [(b"content-type", b"application/json")]
    retry_after = getattr(error, "retry_after", None)
    if retry_after is not None:
        headers.append((b"retry-after", b"%d" % max(math.ceil(retry_after), 0)))
    elif status >= 500 or status == 429:
        headers.append((b"x-should-retry", b"false"))
    if isinstance(error, RateLimited) and error.quota is not None:
        headers += quota_fields(error.quota)
    if status == 413:
        headers.append((b"connection", b"close"))  # the rest of the body is not wanted
    return status, headers, msgspec.json.encode({"error": body_of(error, status)})


def quota_fields(quota: Quota) -> list[tuple[bytes, bytes]]:
    """Return the ``x-ratelimit-…`` headers as OpenAI's clients read them; times are such as ``1m30.5s``."""
    lines = quota_lines(quota).split(b"\r\n")
    return [(name, value) for name, _, value in (line.partition(b": ") for line in lines[:-1])]


def quota_lines(quota: Quota) -> bytes:
    """As `quota_fields`, as lines of a head."""
    lines = b""
    if quota.requests_limit is not None:
        lines = (
            b"x-ratelimit-limit-requests: %d\r\nx-ratelimit-remaining-requests: %d\r\n"
            b"x-ratelimit-reset-requests: %b\r\n"
        ) % (quota.requests_limit, quota.requests_remaining or 0, _duration(quota.requests_reset_s or 0.0))
    if quota.tokens_limit is not None:
        lines += (
            b"x-ratelimit-limit-tokens: %d\r\nx-ratelimit-remaining-tokens: %d\r\nx-ratelimit-reset-tokens: %b\r\n"
        ) % (quota.tokens_limit, quota.tokens_remaining or 0, _duration(quota.tokens_reset_s or 0.0))
    return lines


def _duration(seconds: float) -> bytes:
    milliseconds = math.ceil(seconds * 1000)
    if milliseconds < 1000:
        return b"%dms" % milliseconds
    minutes, rest = divmod(milliseconds, 60_000)
    text = b"%d.%03d" % divmod(rest, 1000)
    text = text.rstrip(b"0").rstrip(b".")
    return b"%dm%bs" % (minutes, text) if minutes else b"%bs" % text


INTERNAL = PenstockError("an internal error; it was logged under this request's id", code="internal_error")
