"""`/api/classify`: signals, one or many, and how that goes."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Body, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from lead_engine.routers.common import Running
from lead_engine.services import Services, log
from lead_engine.signals import Result, Signal, problem, save
from lead_engine.stages import longest_text
from penstock import Classification, PenstockError

router = APIRouter(prefix="/api/classify", tags=["classify"])


class BatchResult(BaseModel):
    """What came of a batch; `results` are in the order of the signals."""

    total: int
    succeeded: int
    failed: int
    dropped: int
    cached: int
    leads_saved: int
    model_calls: int
    duration_ms: float
    results: list[Result]


@router.post("/signal")
async def classify(signal: Signal, services: Running) -> Result:
    """Classify one signal, and make a lead of it."""
    _refuse_long(services, [signal])
    try:
        found = await services.classifier.classify(signal.signal_text)
    except PenstockError as error:
        services.counters.count(Classification(None, error=error))
        raise
    (made,) = await save(services, [signal], [found])
    return made


@router.post("/signal/batch")
async def classify_batch(signals: Annotated[list[Signal], Body(min_length=1)], services: Running) -> BatchResult:
    """Classify many signals; one that fails has its error, and the others go on."""
    settings, began = services.settings, time.perf_counter()
    if len(signals) > settings.batch_max_size:
        raise HTTPException(413, f"{len(signals)} signals; BATCH_MAX_SIZE allows {settings.batch_max_size}")
    _refuse_long(services, signals)
    concurrency = settings.batch_concurrency_limit if settings.batch_enable_parallel else 1
    how = f"in parallel (concurrency={concurrency})" if concurrency > 1 else "one after the other"
    log.info("Processing %d signals %s", len(signals), how)
    found = await services.classifier.classify_many(
        [signal.signal_text for signal in signals],
        concurrency=concurrency,
        timeout_s=settings.batch_timeout_seconds,
        budget_usd=settings.batch_budget_usd,
    )
    results = await save(services, signals, found)
    return BatchResult(
        total=len(results),
        succeeded=sum(each.error is None for each in results),
        failed=sum(each.error is not None for each in results),
        dropped=sum(each.dropped for each in results),
        cached=sum(each.cached for each in results),
        leads_saved=sum(each.lead_id is not None for each in results),
        model_calls=sum(each.model_calls for each in results),
        duration_ms=round((time.perf_counter() - began) * 1000, 2),
        results=results,
    )


@router.post("/signal/stream")
async def classify_streaming(signal: Signal, services: Running) -> StreamingResponse:
    """Classify one signal, telling what is known while the model still writes: server-sent events."""
    if not services.settings.enable_streaming:
        raise HTTPException(404, "streaming is off: set ENABLE_STREAMING=true")
    _refuse_long(services, [signal])
    return StreamingResponse(_events(signal, services), media_type="text/event-stream")


@router.get("/metrics")
async def metrics(services: Running) -> dict[str, Any]:
    """Cache, model use, cost and health since the start."""
    statistics = (await services.client.statistics()).since_start
    enabled = services.settings.enable_response_cache
    report = await services.client.cache.stats() if enabled else None
    return {
        "signals": services.counters.report(),
        "cache": {
            "enabled": enabled,
            "backend": services.settings.cache_kept_in if enabled else None,
            "entries": 0 if report is None else report.answers,
            "memory_bytes": 0 if report is None else report.memory_bytes,
            "hits": statistics.hits,
            "calls": statistics.calls,
            "hit_rate": statistics.hit_rate,
            "redis": None if services.shared is None else dict(services.shared.counts),
        },
        "models": {
            "attempts": statistics.attempts,
            "calls_saved": statistics.calls_saved,
            "input_tokens": statistics.input_tokens,
            "output_tokens": statistics.output_tokens,
            "tokens_saved": statistics.tokens_saved,
            "cost_usd": str(statistics.cost_usd),
            "saved_usd": str(statistics.saved_usd),
        },
        "health": {"status": services.monitor.status(), "providers": services.monitor.report()},
    }


@router.post("/cache/clear")
async def clear_cache(services: Running) -> dict[str, Any]:
    """Forget all cached answers of this instance, and shared results; ``partly`` if Redis cannot be used."""
    if not services.settings.enable_response_cache:
        return {"status": "off", "removed": 0, "removed_from_redis": 0}
    shared = 0 if services.shared is None else await services.shared.clear()
    removed = await services.client.cache.clear()
    log.info("Cache cleared: %d answers, %s shared results", removed.answers, "no" if shared is None else shared)
    status = "partly" if shared is None else "cleared"
    return {"status": status, "removed": removed.answers, "removed_from_redis": shared}


def _refuse_long(services: Services, signals: Sequence[Signal]) -> None:
    most = longest_text(services.settings)
    for place, signal in enumerate(signals):
        if len(signal.signal_text) > most:
            raise HTTPException(
                422,
                f"signal {place}: signal_text has {len(signal.signal_text)} characters, and {most} fit the context "
                "window (CONTEXT_WINDOW_MAX)",
            )


async def _events(signal: Signal, services: Services) -> AsyncIterator[str]:
    try:
        async for each in services.classifier.stream(signal.signal_text):
            if isinstance(each, Classification):
                (made,) = await save(services, [signal], [each])
                yield _event("result", made.model_dump())
            else:
                yield _event("partial", {"stage": each.stage, "value": each.value, "complete": sorted(each.fields)})
    except PenstockError as error:
        failed = Classification(None, error=error)
        services.counters.count(failed)
        yield _event("error", problem(error).model_dump())


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
