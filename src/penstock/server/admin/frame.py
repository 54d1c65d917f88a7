"""What routes of the admin API have in common: reading bodies strictly, answering in JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse

from penstock.core.errors import InvalidRequest
from penstock.server import controls
from penstock.server.http import read_body
from penstock.wire.json_body import decode_object

T = TypeVar("T")
_MOST_BYTES = 1024 * 1024
_FIELD = re.compile(r"`\$\.?([^`]*)`")
_UNKNOWN = re.compile(r"unknown field `([^`]*)`")


async def body_of(request: HttpRequest, shape: type[T]) -> T:
    """Return the body as a struct of the type `shape`; an empty one counts as an empty object.

    Raises:
        InvalidRequest: It is not JSON, or not of this shape (400); `param` says where.
    """
    body = await read_body(controls.pick(request.scope["headers"]), request.receive, _MOST_BYTES)
    try:
        return msgspec.convert(decode_object(body) if body else {}, shape)
    except msgspec.ValidationError as error:
        text = str(error)
        found = _UNKNOWN.search(text) or _FIELD.search(text)
        raise InvalidRequest(
            f"The body cannot be used: {text}.", param=found[1] if found else None, code="invalid_value"
        ) from None


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
