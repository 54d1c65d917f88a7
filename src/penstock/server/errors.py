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
)

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
        case StoreError() | Refused():
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
    if isinstance(error, StoreError):
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
    if status == 413:
        headers.append((b"connection", b"close"))  # the rest of the body is not wanted
    return status, headers, msgspec.json.encode({"error": body_of(error, status)})


INTERNAL = PenstockError("an internal error; it was logged under this request's id", code="internal_error")
