"""Prompts, health and metrics for those who run it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException, Response
from fastapi.responses import JSONResponse
from prometheus_client import generate_latest
from sqlalchemy.exc import SQLAlchemyError

from lead_engine.routers.common import Running
from lead_engine.services import Services, cache_status, log, missing

router = APIRouter(tags=["operations"])


@router.get("/health")
async def health(services: Running) -> JSONResponse:
    """Say how everything is; 503 when leads cannot be saved or no provider answers."""
    settings, problem = services.settings, None
    try:
        await services.database.ping()
    except SQLAlchemyError as error:
        problem = type(error).__name__
        log.error("the database cannot be asked", exc_info=error)
    small, large = settings.models
    monitored = services.monitor.status() if settings.enable_health_monitoring else "off"
    status = "unhealthy" if problem else "healthy" if monitored == "off" else monitored
    if services.shared is not None:
        await services.shared.check()
        if services.shared.problem is not None and status == "healthy":
            status = "degraded"
    whole: dict[str, Any] = {
        "status": status,
        "database": {"status": "unreachable" if problem else "connected", "error": problem},
        "models": {
            "provider": settings.provider,
            "small": small,
            "large": large,
            "quantized": settings.use_quantized_models,
            "missing": missing(settings, services.monitor),
            "alternative": settings.alternative_model if settings.enable_model_fallback else None,
        },
        "cache": {
            "enabled": settings.enable_response_cache,
            "backend": settings.cache_kept_in,
            "requested": settings.cache_backend,
            "status": cache_status(settings, services.shared),
            "redis": _redis(services),
        },
        "prompts": {"templates": len(services.client.prompts.list()), "custom": settings.enable_custom_prompts},
        "features": {
            "multi_stage": settings.enable_multi_stage,
            "parallel_batches": settings.batch_enable_parallel,
            "dynamic_context": settings.enable_dynamic_context,
            "embeddings": settings.enable_embeddings,
            "streaming": settings.enable_streaming,
            "model_fallback": settings.enable_model_fallback,
            "health_monitoring": settings.enable_health_monitoring,
            "prometheus": settings.enable_prometheus,
        },
        "health_monitoring": {"status": monitored, "providers": services.monitor.report()},
    }
    return JSONResponse(whole, status_code=503 if status == "unhealthy" else 200)


def _redis(services: Services) -> str:
    if services.shared is None:
        return "off"
    return "connected" if services.shared.problem is None else "unreachable"


@router.get("/metrics")
async def prometheus(services: Running) -> Response:
    """Penstock's metrics and the application's, for Prometheus."""
    if not services.settings.enable_prometheus:
        raise HTTPException(404, "metrics are off: set ENABLE_PROMETHEUS=true")
    text, kind = services.client.shared.metrics.exposition()
    return Response(text + generate_latest(services.counters), media_type=kind)
