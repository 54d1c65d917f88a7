"""What terms of keys and teams have to look like."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.core.errors import InvalidRequest

DEFAULT = "default"
"""The tenant of whoever names none; it needs no team."""

_YEAR_9999 = 253_370_764_800


def check_name(name: str) -> None:
    """Refuse a name that people could not read.

    Raises:
        InvalidRequest: 400.
    """
    if not 0 < len(name) <= 200 or not name.isprintable():
        raise invalid("name", "1 to 200 printable characters")


def check_end(expires_at: float, now: float) -> None:
    """Refuse an end that is over, or beyond what dates can say.

    Raises:
        InvalidRequest: 400.
    """
    if not now < expires_at < _YEAR_9999:
        raise invalid("expires_at", "seconds since the epoch, in the future")


def check_terms(models: Sequence[str] | None, requests: int | None, tokens: int | None) -> None:
    """Refuse terms that make no sense.

    Raises:
        InvalidRequest: 400, `param` says which.
    """
    if models is not None and (not 0 < len(models) <= 100 or not all(0 < len(name) <= 500 for name in models)):
        raise invalid("models", "1 to 100 names or patterns of at most 500 characters, or null")
    for name, limit in (("requests_per_minute", requests), ("tokens_per_minute", tokens)):
        if limit is not None and not 0 < limit < 2**53:
            raise invalid(name, "a whole number, at least 1, or null")


def invalid(name: str, expected: str) -> InvalidRequest:
    """Return the error for a field that is not as `expected`."""
    return InvalidRequest(f"'{name}' must be {expected}.", param=name, code="invalid_value")


def whole_seconds(time: float | None) -> int | None:
    """Return a time as whole seconds since the epoch."""
    return None if time is None else int(time)
