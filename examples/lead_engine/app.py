"""The application: services started in order, endpoints, errors as JSON."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from lead_engine.database import Database
from lead_engine.routers import classify, leads, operations, templates
from lead_engine.services import running
from lead_engine.settings import Settings, read
from penstock import DeadlineExceeded, InvalidRequest, PenstockError, ProviderError, Refused

_STATUS: tuple[tuple[type[PenstockError], int], ...] = (
    (DeadlineExceeded, 504),
    (Refused, 429),
    (ProviderError, 502),
)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Make the application; without `settings` they come from the environment.

    Raises:
        SettingsError: They cannot be used.
    """
    chosen = settings or read()
    database = Database(chosen.database_url)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with running(chosen, database) as services:
            app.state.services = services
            yield

    app = FastAPI(title="Lead engine", version="1.0", lifespan=lifespan)
    app.add_exception_handler(PenstockError, _said)
    for router in (classify.router, templates.router, leads.router, operations.router):
        app.include_router(router)
    return app


def _said(request: Request, error: Exception) -> JSONResponse:
    """Say what went wrong as FastAPI does, with the code of the error."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    if isinstance(error, InvalidRequest):
        status = error.status_code
    code, message = (error.code, error.message) if isinstance(error, PenstockError) else ("internal_error", "")
    return JSONResponse({"detail": message, "code": code}, status_code=status)
