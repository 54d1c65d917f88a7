"""Prompts: ``/admin/templates``; of the whole gateway, so changing them is for whoever runs it."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse
from starlette.routing import Route

from penstock.client import AsyncClient
from penstock.core.errors import ConfigError, InvalidRequest
from penstock.core.prompt import PRODUCTION
from penstock.prompt_library import PromptLibrary
from penstock.prompts.collection import Prompt
from penstock.server.admin.frame import answer, body_of, listing
from penstock.server.permissions import principal_of

_log = logging.getLogger("penstock.prompts")


class Rendering(msgspec.Struct, forbid_unknown_fields=True):
    """What a prompt is to say."""

    version: str | None = None
    variables: dict[str, Any] = {}


class Rollback(msgspec.Struct, forbid_unknown_fields=True):
    """Which label goes back, and where to; by default to the version before."""

    label: str = PRODUCTION
    to: str | None = None


class TemplateRoutes:
    """The routes under `/admin/templates`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    @property
    def routes(self) -> list[Route]:
        """Routes for Starlette."""
        one = "/admin/templates/{name}"
        return [
            Route("/admin/templates", self.list, methods=["GET"]),
            Route("/admin/templates/reload", self.reload, methods=["POST"]),
            Route(one, self.get, methods=["GET"]),
            Route(f"{one}/render", self.render, methods=["POST"]),
            Route(f"{one}/rollback", self.rollback, methods=["POST"]),
        ]

    async def list(self, request: HttpRequest) -> HttpResponse:
        """List prompts, with what they take; not what they say."""
        del request
        prompts = self._prompts.current.prompts
        return listing([summary_of(prompts[name]) for name in sorted(prompts)])

    async def get(self, request: HttpRequest) -> HttpResponse:
        """Show one with its versions, and how its labels moved."""
        return answer(details_of(self._prompts.current.find(request.path_params["name"])))

    async def reload(self, request: HttpRequest) -> HttpResponse:
        """Read the files again; if one cannot be used, all stays as it is."""
        try:
            done = await self._prompts.refresh()
        except ConfigError as error:
            raise InvalidRequest(
                f"The prompts were not changed: {error}", code="prompts_invalid", status_code=409
            ) from error
        _log.info("templates.reload by %s: %d prompts", principal_of(request).name, done.prompts)
        return answer({"object": "templates.reloaded", **msgspec.to_builtins(done)})

    async def render(self, request: HttpRequest) -> HttpResponse:
        """Say what would be sent."""
        body = await body_of(request, Rendering)
        said = self._prompts.render(request.path_params["name"], body.variables, body.version)
        return answer({"object": "template.rendered", **msgspec.to_builtins(said)})

    async def rollback(self, request: HttpRequest) -> HttpResponse:
        """Let a label stand for the version before, or for the one that is named."""
        name, body, by = request.path_params["name"], await body_of(request, Rollback), principal_of(request).name
        done = await self._prompts.rollback(name, body.label, body.to, by=by)
        _log.info("templates.rollback by %s: %s of %s from %s to %s", by, done.label, name, done.before, done.after)
        return answer({"object": "template.label", "name": name, **msgspec.to_builtins(done)})

    @property
    def _prompts(self) -> PromptLibrary:
        return self._client.prompts


def summary_of(prompt: Prompt) -> dict[str, Any]:
    """Return what a prompt is for and takes, of the version in production."""
    chosen = prompt.find().definition
    return {
        "object": "template",
        "name": prompt.definition.name,
        "description": prompt.definition.description,
        "version": chosen.version,
        "versions": prompt.versions,
        "labels": prompt.labels,
        "built_in": prompt.definition.built_in,
        "model": chosen.model,
        "variables": msgspec.to_builtins(chosen.variables),
    }


def details_of(prompt: Prompt) -> dict[str, Any]:
    """Return all that is known of a prompt."""
    versions = prompt.definition.versions
    return {
        **summary_of(prompt),
        "details": {name: msgspec.to_builtins(versions[name]) for name in prompt.versions},
        "moves": msgspec.to_builtins(prompt.state.moves),
    }
