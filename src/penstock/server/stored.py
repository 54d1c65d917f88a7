"""Stored completions: `store: true`, and the routes that list, read, relabel and delete them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse
from starlette.routing import Route

from penstock.abc import CompletionStore
from penstock.client import AsyncClient
from penstock.core.canonical import assemble
from penstock.core.errors import InvalidRequest
from penstock.core.events import Batch
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.server import controls
from penstock.server.http import read_body
from penstock.server.permissions import principal_of
from penstock.wire.json_body import decode_object

_PAIRS, _NAME, _VALUE = 16, 64, 512
_PAGE, _PAGE_MOST = 20, 100


class Keeper:
    """Keeps completions whose client asked for it, after the answer is complete."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    def prepare(self, request: Request) -> Request:
        """Check the metadata; return the request without it, since upstream nothing is stored.

        Raises:
            InvalidRequest: `metadata` is not an object of at most 16 short strings.
        """
        metadata = check_metadata(request.payload.get("metadata"))
        payload = {key: value for key, value in request.payload.items() if key != "metadata"}
        return msgspec.structs.replace(request, payload=payload, metadata={**metadata, **(request.metadata or {})})

    def watch(self, request: Request, response: Response) -> None:
        """Keep the answer once it has ended well."""
        response.observe(_Watch(self, request))

    def keep(self, request: Request, body: bytes) -> None:
        """Write one completion in the background."""
        completion: dict[str, Any] = msgspec.json.decode(body)
        completion["metadata"] = request.metadata or {}
        shared = self._client.shared
        shared.writes.spawn(
            shared.stores.completions.create(request.tenant, completion, request.payload["messages"]),
            name="store a completion",
        )


class _Watch:
    """Gathers what is needed to keep the answer."""

    __slots__ = ("_events", "_keeper", "_request")

    def __init__(self, keeper: Keeper, request: Request) -> None:
        self._keeper = keeper
        self._request = request
        self._events: Batch = []

    def on_events(self, batch: Batch, /) -> None:
        self._events += batch

    def on_end(self, response: Response, error: BaseException | None, /) -> None:
        if error is not None:
            return
        if response.body is not None:
            self._keeper.keep(self._request, response.body)
        elif self._events or response.events:
            self._keeper.keep(self._request, assemble(self._events or response.events or []))


class StoredCompletions:
    """The cold routes under `/v1/chat/completions`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    @property
    def routes(self) -> list[Route]:
        """Routes for Starlette."""
        base = "/v1/chat/completions"
        return [
            Route(base, self.list, methods=["GET"]),
            Route(base + "/{completion_id}", self.retrieve, methods=["GET"]),
            Route(base + "/{completion_id}", self.update, methods=["POST"]),
            Route(base + "/{completion_id}", self.delete, methods=["DELETE"]),
            Route(base + "/{completion_id}/messages", self.messages, methods=["GET"]),
        ]

    async def list(self, request: HttpRequest) -> HttpResponse:
        """List stored completions, newest last unless `order=desc`; filter by `model` and `metadata[key]=value`."""
        query = request.query_params
        metadata = {
            name[len("metadata[") : -1]: value
            for name, value in query.items()
            if name.startswith("metadata[") and name.endswith("]")
        }
        limit, order = _limit(query.get("limit")), _order(query.get("order"))
        found, more = await self._store.list(
            self._tenant(request),
            after=query.get("after"),
            limit=limit,
            order=order,
            model=query.get("model"),
            metadata=metadata,
        )
        return _page(found, more=more)

    async def retrieve(self, request: HttpRequest) -> HttpResponse:
        """Return one."""
        completion_id = request.path_params["completion_id"]
        return _found(await self._store.retrieve(self._tenant(request), completion_id), completion_id)

    async def update(self, request: HttpRequest) -> HttpResponse:
        """Replace the metadata of one."""
        tenant, completion_id = self._tenant(request), request.path_params["completion_id"]
        limit = self._client.settings.server.max_body_bytes
        body = decode_object(await read_body(controls.pick(request.scope["headers"]), request.receive, limit))
        if "metadata" not in body:
            raise InvalidRequest("Send an object with 'metadata'.", param="metadata", code="missing_required_parameter")
        updated = await self._store.update(tenant, completion_id, check_metadata(body["metadata"]))
        return _found(updated, completion_id)

    async def delete(self, request: HttpRequest) -> HttpResponse:
        """Delete one."""
        completion_id = request.path_params["completion_id"]
        if not await self._store.delete(self._tenant(request), completion_id):
            raise _missing(completion_id)
        return _json({"object": "chat.completion.deleted", "id": completion_id, "deleted": True})

    async def messages(self, request: HttpRequest) -> HttpResponse:
        """Return the messages a stored completion answered, a page at a time."""
        completion_id, query = request.path_params["completion_id"], request.query_params
        messages = await self._store.messages(self._tenant(request), completion_id)
        if messages is None:
            raise _missing(completion_id)
        limit = _limit(query.get("limit"))
        if _order(query.get("order")) == "desc":
            messages.reverse()
        after = query.get("after")
        ids = [message["id"] for message in messages]
        start = ids.index(after) + 1 if after in ids else 0
        return _page(messages[start : start + limit], more=len(messages) > start + limit)

    @property
    def _store(self) -> CompletionStore:
        return self._client.shared.stores.completions

    def _tenant(self, request: HttpRequest) -> str:
        return principal_of(request).tenant


def check_metadata(raw: object) -> dict[str, str]:
    """Check OpenAI's `metadata`: at most 16 pairs, names of at most 64 and values of at most 512 characters.

    Raises:
        InvalidRequest: It is something else.
    """
    if raw is None:
        return {}
    if isinstance(raw, dict) and len(raw) <= _PAIRS and all(_short(name, value) for name, value in raw.items()):
        return raw
    raise InvalidRequest(
        f"'metadata' must be an object of at most {_PAIRS} strings, names up to {_NAME} and values up to {_VALUE} "
        "characters.",
        param="metadata",
        code="invalid_value",
    )


def _short(name: object, value: object) -> bool:
    return isinstance(name, str) and isinstance(value, str) and len(name) <= _NAME and len(value) <= _VALUE


def _limit(raw: str | None) -> int:
    if raw is None:
        return _PAGE
    if raw.isdigit() and 1 <= int(raw) <= _PAGE_MOST:
        return int(raw)
    raise InvalidRequest(f"'limit' must be a number from 1 to {_PAGE_MOST}.", param="limit", code="invalid_value")


def _order(raw: str | None) -> str:
    if raw in (None, "asc", "desc"):
        return raw or "asc"
    raise InvalidRequest("'order' must be 'asc' or 'desc'.", param="order", code="invalid_value")


def _missing(completion_id: str) -> InvalidRequest:
    return InvalidRequest(
        f"No stored completion '{completion_id[:200]}'; only answers asked for with store: true are kept.",
        param="completion_id",
        code="not_found",
        status_code=404,
    )


def _found(completion: dict[str, Any] | None, completion_id: str) -> HttpResponse:
    if completion is None:
        raise _missing(completion_id)
    return _json(completion)


def _page(items: Any, *, more: bool) -> HttpResponse:  # noqa: ANN401 rows of JSON
    rows = [*items]
    return _json(
        {
            "object": "list",
            "data": rows,
            "first_id": rows[0]["id"] if rows else None,
            "last_id": rows[-1]["id"] if rows else None,
            "has_more": more,
        }
    )


def _json(document: Mapping[str, Any]) -> HttpResponse:
    return HttpResponse(msgspec.json.encode(document), media_type="application/json")
