"""`/api/classify/templates`: prompts, read again and rolled back while the application runs."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException
from msgspec import to_builtins
from pydantic import BaseModel, ConfigDict

from lead_engine.penstock_config import EXPERIMENT
from lead_engine.routers.common import Running
from lead_engine.services import log
from penstock import ConfigError

router = APIRouter(prefix="/api/classify/templates", tags=["templates"])


class Rollback(BaseModel):
    """Which label is to stand for which version; by default `production` for the one before."""

    model_config = ConfigDict(extra="forbid")

    label: str = "production"
    to: str | None = None


@router.get("")
async def templates(services: Running) -> dict[str, Any]:
    """List the prompts with their versions and labels."""
    found = services.client.prompts.current.prompts
    return {name: {"versions": prompt.versions, "labels": prompt.labels} for name, prompt in found.items()}


@router.get("/experiment")
async def experiment(services: Running) -> dict[str, Any]:
    """Say how the comparison of two versions of the classification prompt stands."""
    if services.settings.prompt_experiment is None:
        raise HTTPException(404, "nothing is compared: set PROMPT_EXPERIMENT, as 1,2")
    desk = services.client.shared.trials.desk
    found: dict[str, Any] = to_builtins(
        {"standing": await desk.get(EXPERIMENT), "report": await desk.report(EXPERIMENT)}
    )
    return found


@router.post("/reload")
async def reload(services: Running) -> dict[str, Any]:
    """Read the files again; if one cannot be used, all stay as they were and the answer says what is wrong."""
    try:
        done = await services.client.prompts.refresh()
    except ConfigError as error:
        problems = [str(each) for each in error.problems or (error,)]
        raise HTTPException(422, {"message": "nothing has changed", "problems": problems}) from error
    log.info("Templates reloaded: %d, changed %s", done.prompts, ", ".join([*done.added, *done.changed]) or "none")
    return {
        "status": "reloaded",
        "templates": done.prompts,
        "added": done.added,
        "changed": done.changed,
        "removed": done.removed,
    }


@router.post("/{name}/rollback")
async def rollback(name: str, asked: Rollback, services: Running) -> dict[str, Any]:
    """Let a label stand for the version before, or for the one that is named."""
    move = await services.client.prompts.rollback(name, asked.label, asked.to, by="api")
    return {"template": name, "label": asked.label, "from": move.before, "to": move.after}
