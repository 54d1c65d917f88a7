"""What routes of the admin API have in common: reading bodies strictly, answering in JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse

from penstock.access.principal import Role
from penstock.core.errors import InvalidRequest
from penstock.server import controls
from penstock.server.http import read_body
from penstock.server.permissions import principal_of
from penstock.wire.json_body import decode_object

T = TypeVar("T")
MOST_BYTES = 1024 * 1024
"""Largest body."""
_FIELD = re.compile(r"`\$\.?([^`]*)`")
_UNKNOWN = re.compile(r"unknown field `([^`]*)`")


async def body_of(request: HttpRequest, shape: type[T]) -> T:
    """Return the body as a struct of the type `shape`; an empty one counts as an empty object.

    Raises:
        InvalidRequest: It is not JSON, or not of this shape (400); `param` says where.
    """
    body = await read_body(controls.pick(request.scope["headers"]), request.receive, MOST_BYTES)
    try:
        return msgspec.convert(decode_object(body) if body else {}, shape)
    except msgspec.ValidationError as error:
        text = str(error)
        found = _UNKNOWN.search(text) or _FIELD.search(text)
        raise InvalidRequest(
            f"The body cannot be used: {text}.", param=found[1] if found else None, code="invalid_value"
        ) from None


def scope_of(request: HttpRequest, named: str | None = None) -> tuple[str | None, bool]:
    """Return whose part of something is meant, and whether without the teams under that name; None is everybody's.

    Args:
        request: Its key decides, and `tenant` in its query.
        named: The tenant that is meant, if it is named elsewhere.

    Raises:
        InvalidRequest: It is not the key's to see (403).
    """
    principal, wanted = principal_of(request), named or request.query_params.get("tenant")
    if wanted is not None and not principal.covers(wanted):
        raise InvalidRequest("What is this tenant's is not yours to see.", code="forbidden", status_code=403)
    if principal.role is Role.ROOT:
        return wanted, False
    if principal.role is Role.ADMIN:
        return wanted or principal.organisation, False
    return principal.tenant, True


def tenant_of(request: HttpRequest, named: str | None = None) -> str:
    """Return which one tenant is meant: the one that is named, or the key's own.

    Raises:
        InvalidRequest: It is not the key's to act for (403).
    """
    scope_of(request, named)
    return named or request.query_params.get("tenant") or principal_of(request).tenant


def whole_number(request: HttpRequest, name: str, default: int, most: int) -> int:
    """Return a parameter of the query, from 1 to `most`.

    Raises:
        InvalidRequest: It is something else; `param` is its name.
    """
    text = request.query_params.get(name, str(default))
    value = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(most)) else 0
    if not 1 <= value <= most:
        raise InvalidRequest(f"{name} must be 1 to {most}.", param=name, code="invalid_value")
    return value


def given(body: msgspec.Struct) -> dict[str, Any]:
    """Return the fields of a body that were in it; those that were not are `msgspec.UNSET`."""
    return {name: value for name, value in msgspec.structs.asdict(body).items() if value is not msgspec.UNSET}


def answer(document: object, *, status: int = 200) -> HttpResponse:
    """Return a JSON response that no cache keeps."""
    return HttpResponse(
        msgspec.json.encode(document), status, {"cache-control": "no-store"}, media_type="application/json"
    )


def listing(rows: Sequence[object]) -> HttpResponse:
    """Return a list as OpenAI's API has it."""
    return answer({"object": "list", "data": rows, "has_more": False})
