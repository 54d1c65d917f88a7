"""What a client says about caching: the `Cache-Control` header and LiteLLM's `cache` body field, as one thing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from penstock.core.errors import InvalidRequest
from penstock.core.request import NO_DIRECTIVES, CacheDirectives

_DIRECTIVE = re.compile(
    r"""[\s,]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*)))?[^,]*""", re.ASCII
)
"""One `cache-directive` of RFC 9111 section 5.2: a token and perhaps a token or quoted string."""

_FLAGS = ("no-cache", "no-store", "use-cache")
_NUMBERS = ("ttl", "s-maxage", "s-max-age")
_KNOWN = (*_FLAGS, *_NUMBERS, "namespace")
_MAX_DELTA = 2.0**31
"""What a cache takes for a number it cannot represent (RFC 9111 section 1.2.2)."""


def read_directives(cache_control: str | None, field: object = None) -> CacheDirectives:
    """Read both; where both speak, the stricter wins.

    Of the header, `no-cache`, `no-store`, `only-if-cached`, `max-age` (RFC 9111 section 5.2.1) and `stale-if-error`
    (RFC 5861 section 4) are understood. Others are ignored, as RFC 9111 section 5.2 asks, and so are numbers that are
    none; of a repeated one the smaller counts (section 4.2.1). Of the field: ``ttl`` (keep the answer so many
    seconds, 0 for not at all), ``s-maxage`` (accept no answer older than this), ``no-cache``, ``no-store``,
    ``namespace``, and ``use-cache``, which if false is both of the former.

    Args:
        cache_control: The header's value, several joined with commas.
        field: The body's ``cache``, decoded.

    Raises:
        InvalidRequest: `field` has an unknown name or a value of the wrong type; `param` says which.
    """
    if cache_control is None and field is None:
        return NO_DIRECTIVES
    flags: set[str] = set()
    ages: dict[str, float] = {}
    for name, argument in _parse(cache_control or ""):
        if name in ("no-cache", "no-store", "only-if-cached"):
            flags.add(name)
        elif name in ("max-age", "stale-if-error") and argument.isascii() and argument.isdigit():
            seconds = min(float(argument), _MAX_DELTA)
            ages[name] = min(seconds, ages.get(name, seconds))
    ttl: float | None = None
    namespace = ""
    if field is not None:
        if not isinstance(field, Mapping):
            raise _invalid("cache", 'an object such as {"ttl": 600}')
        flags |= _flags(field)
        ttl = _number(field, "ttl")
        limits = (ages.get("max-age"), _number(field, "s-maxage"), _number(field, "s-max-age"))
        if stated := [limit for limit in limits if limit is not None]:
            ages["max-age"] = min(stated)
        namespace = _namespace(field)
    return CacheDirectives(
        no_cache="no-cache" in flags,
        no_store="no-store" in flags,
        only_if_cached="only-if-cached" in flags,
        max_age=ages.get("max-age"),
        stale_if_error=ages.get("stale-if-error"),
        ttl=ttl,
        namespace=namespace,
    )


def _parse(header: str) -> Iterator[tuple[str, str]]:
    for found in _DIRECTIVE.finditer(header):
        quoted, token = found[2], found[3]
        yield found[1].lower(), quoted if quoted is not None else token or ""


def _flags(field: Mapping[str, Any]) -> set[str]:
    for name in field:
        if name not in _KNOWN:
            raise _invalid(f"cache.{name}", f"one of {', '.join(_KNOWN)}", "is not a known name")
    flags = set()
    for name in _FLAGS:
        value = field.get(name)
        if value is not None and not isinstance(value, bool):
            raise _invalid(f"cache.{name}", "true or false")
        if value:
            flags.add(name)
    return flags | {"no-cache", "no-store"} if field.get("use-cache") is False else flags


def _number(field: Mapping[str, Any], name: str) -> float | None:
    value = field.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise _invalid(f"cache.{name}", "a number of seconds, 0 or more")
    return min(float(value), _MAX_DELTA)


def _namespace(field: Mapping[str, Any]) -> str:
    value = field.get("namespace")
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _invalid("cache.namespace", "a string")
    return value


def _invalid(param: str, expected: str, wrong: str = "has the wrong type") -> InvalidRequest:
    return InvalidRequest(f"`{param}` {wrong}: expected {expected}.", param=param)
