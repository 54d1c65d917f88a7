"""`/api/leads`: what came of the signals."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel, ConfigDict, field_validator

from lead_engine.database import Lead
from lead_engine.matching import similar
from lead_engine.penstock_config import FEEDBACK, LARGE
from lead_engine.prompts import DOSSIER
from lead_engine.routers.common import Running
from lead_engine.services import Services
from penstock import gather

router = APIRouter(prefix="/api/leads", tags=["leads"])


class LeadView(BaseModel):
    """A lead as clients see it."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    signal_text: str
    source_type: str
    source_url: str | None
    category: str
    score: float | None
    urgency: str | None
    company: str | None
    stage: str
    sightings: int
    prompt: str
    dossier: str | None
    created_at: datetime

    @field_validator("created_at")
    @classmethod
    def _in_utc(cls, value: datetime) -> datetime:
        """SQLite forgets the zone."""
        return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


class Near(BaseModel):
    """A lead that is like another one."""

    lead: LeadView
    similarity: float


class Feedback(BaseModel):
    """Whether it was worth a salesperson's time."""

    good: bool


class Dossier(BaseModel):
    """What a salesperson reads before the first call."""

    lead_id: int
    dossier: str
    similar: list[Near]
    similar_error: str | None
    cost_usd: str | None


@router.get("")
async def leads(
    services: Running,
    category: str | None = None,
    min_score: Annotated[float, Query(ge=0, le=100)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[LeadView]:
    """List leads, the best first."""
    found = await services.database.list(category=category, min_score=min_score, limit=limit)
    return [LeadView.model_validate(each) for each in found]


@router.get("/{lead_id}")
async def lead(lead_id: int, services: Running) -> LeadView:
    """Show one lead."""
    return LeadView.model_validate(await _lead(services, lead_id))


@router.get("/{lead_id}/similar")
async def similar_leads(lead_id: int, services: Running) -> list[Near]:
    """List leads about the same thing."""
    return await _near(services, await _lead(services, lead_id))


@router.post("/{lead_id}/dossier")
async def dossier(lead_id: int, services: Running) -> Dossier:
    """Write a dossier, and look for similar leads meanwhile."""
    found, settings = await _lead(services, lead_id), services.settings
    written = services.client.chat(
        model=LARGE,
        prompt={"id": DOSSIER, "variables": {"text": found.signal_text, "category": found.category}},
        temperature=settings.dossier_temperature,
        max_tokens=settings.dossier_max_tokens,
    )
    turn = await gather(
        services.client,
        required=["dossier"],
        timeout_s=settings.request_timeout_seconds,
        dossier=written,
        similar=_near(services, found, quiet=True),
    )
    text = turn["dossier"].text
    await services.database.update(lead_id, dossier=text)
    error = turn.errors.get("similar")
    return Dossier(
        lead_id=lead_id,
        dossier=text,
        similar=turn.value("similar", []),
        similar_error=None if error is None else str(error),
        cost_usd=None if turn.cost_usd is None else str(turn.cost_usd),
    )


@router.post("/{lead_id}/feedback")
async def feedback(lead_id: int, said: Feedback, services: Running) -> dict[str, Any]:
    """Say whether a lead was good; decides which version of the prompt is better while two are compared."""
    found = await _lead(services, lead_id)
    if not found.request_id:
        raise HTTPException(409, "no model was asked about this lead")
    score = await services.client.score(found.request_id, FEEDBACK, float(said.good))
    return {"lead_id": lead_id, "score": score.name, "value": score.value}


async def _lead(services: Services, lead_id: int) -> Lead:
    found = await services.database.get(lead_id)
    if found is None:
        raise HTTPException(404, f"there is no lead {lead_id}")
    return found


async def _near(services: Services, found: Lead, *, quiet: bool = False) -> list[Near]:
    settings = services.settings
    if not settings.enable_embeddings:
        if quiet:
            return []
        raise HTTPException(404, "vectors are off: set ENABLE_EMBEDDINGS=true")
    near = await similar(
        services.database, found, threshold=settings.similarity_threshold, limit=settings.similar_leads_limit
    )
    return [Near(lead=LeadView.model_validate(each), similarity=round(cosine, 4)) for each, cosine in near]
