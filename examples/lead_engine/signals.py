"""From signals to leads: what is read from clients, classified, saved and told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from lead_engine.matching import vectors
from lead_engine.services import Services, log
from penstock import Classification, PenstockError

MOST_CHARACTERS = 100_000


class Signal(BaseModel):
    """A text from somewhere."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    signal_text: str = Field(min_length=1, max_length=MOST_CHARACTERS)
    source_type: str = Field("manual", min_length=1, max_length=50)
    source_url: str | None = Field(None, max_length=2000)
    create_lead: bool | None = None


class Problem(BaseModel):
    """Why a signal has no category."""

    code: str
    message: str


class Result(BaseModel):
    """What came of a signal."""

    category: str | None
    score: float | None
    urgency: str | None = None
    company: str | None = None
    stage: str
    dropped: bool
    cached: bool
    model_calls: int
    cost_usd: str | None
    prompt: str | None
    duration_ms: float
    lead_id: int | None = None
    error: Problem | None = None


async def save(services: Services, signals: Sequence[Signal], found: Sequence[Classification]) -> list[Result]:
    """Make leads of what is worth it, in one transaction; return a result for each signal."""
    settings = services.settings
    worth = [
        place
        for place, (signal, each) in enumerate(zip(signals, found, strict=True))
        if (settings.create_leads if signal.create_lead is None else signal.create_lead)
        and each.error is None
        and not each.dropped
        and (each.score or 0.0) >= settings.lead_score_threshold
    ]
    rows = [_row(signals[place], found[place]) for place in worth]
    if settings.enable_embeddings and rows:
        await _add_vectors(services, rows)
    ids = dict(zip(worth, await services.database.save(rows), strict=True))
    services.counters.leads += len(ids)
    for each in found:
        services.counters.count(each)
    return [result(each, ids.get(place)) for place, each in enumerate(found)]


def result(found: Classification, lead_id: int | None = None) -> Result:
    """Say what came of a signal."""
    cost = found.cost_usd
    return Result(
        category=found.label,
        score=found.score,
        urgency=found.fields.get("urgency"),
        company=found.fields.get("company"),
        stage=found.stage,
        dropped=found.dropped,
        cached=found.cached,
        model_calls=found.model_calls,
        cost_usd=None if cost is None else str(cost),
        prompt=_prompt(found) or None,
        duration_ms=round(found.seconds * 1000, 2),
        lead_id=lead_id,
        error=None if found.error is None else problem(found.error),
    )


def problem(error: Exception) -> Problem:
    """Say what went wrong; what is not Penstock's own is for the log only."""
    if isinstance(error, PenstockError):
        return Problem(code=error.code, message=error.message)
    log.error("a signal could not be classified", exc_info=error)
    return Problem(code="internal_error", message="The signal could not be classified; the log says why.")


def _row(signal: Signal, found: Classification) -> dict[str, Any]:
    return {
        "signal_text": signal.signal_text,
        "source_type": signal.source_type,
        "source_url": signal.source_url,
        "category": found.label,
        "score": found.score,
        "urgency": found.fields.get("urgency"),
        "company": (found.fields.get("company") or "")[:200] or None,
        "stage": found.stage,
        "request_id": found.request_id,
        "prompt": _prompt(found),
    }


def _prompt(found: Classification) -> str:
    return found.steps[-1].prompt if found.steps else ""


async def _add_vectors(services: Services, rows: list[dict[str, Any]]) -> None:
    """A lead without a vector is better than none."""
    try:
        made = await vectors(services.client, [row["signal_text"] for row in rows])
    except PenstockError as error:
        log.warning("leads are saved without vectors: %s", error)
        return
    for row, vector in zip(rows, made, strict=True):
        row["embedding"] = vector
