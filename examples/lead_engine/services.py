"""What is started once, in order, and stopped in the opposite order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

from lead_engine.counters import Counters
from lead_engine.database import Database
from lead_engine.monitor import HealthMonitor
from lead_engine.penstock_config import LARGE, SMALL, penstock_config
from lead_engine.settings import Settings
from lead_engine.shared_classifier import SharedClassifier
from lead_engine.shared_results import SharedResults
from lead_engine.stages import make_classifier
from penstock import AsyncClient, Classifier, PenstockError
from penstock.config.loader import load_mapping

log = logging.getLogger("lead_engine")
_LOOK_EVERY_S = 1.0


@dataclass(frozen=True)
class Services:
    """One instance of each."""

    settings: Settings
    database: Database
    client: AsyncClient
    classifier: Classifier | SharedClassifier
    shared: SharedResults | None
    monitor: HealthMonitor
    counters: Counters


@asynccontextmanager
async def running(settings: Settings, database: Database) -> AsyncIterator[Services]:
    """Start everything, and stop it when the block is left, also when a later step fails."""
    async with AsyncExitStack() as opened:
        await database.open()
        opened.push_async_callback(database.aclose)
        log.info("Database initialized: %d leads", await database.count())

        # Opens the cache, reads the prompts and sets up the providers. Without an environment of its own, because
        # DATABASE_URL means the leads' database here.
        loaded = load_mapping(penstock_config(settings), environ={})
        client = await opened.enter_async_context(AsyncClient(loaded))
        shared = None
        if settings.shares_results:
            shared = SharedResults(
                settings.redis_url, ttl_s=settings.cache_ttl_seconds, timeout_s=settings.redis_timeout_seconds
            )
            opened.push_async_callback(shared.aclose)
            await shared.check()
        log.info("Cache initialized: %s", cache_status(settings, shared))
        log.info("Prompt manager initialized: %d templates", len(client.prompts.list()))
        monitor = HealthMonitor(
            client,
            slow_s=settings.health_latency_threshold_seconds,
            interval_s=settings.health_check_interval_seconds,
        )
        await monitor.check()
        for model in missing(settings, monitor):
            log.warning("Ollama does not have %s: run `ollama pull %s`", model, model)
        log.info("%s ready: %s", settings.provider.capitalize(), ", ".join(settings.models))
        if settings.warm_models_on_start:
            await _warm(client)
        log.info("First health check: %s", monitor.status())
        if settings.enable_health_monitoring:
            opened.push_async_callback(_cancelled, asyncio.get_running_loop().create_task(monitor.run()))

        if settings.enable_custom_prompts and settings.prompt_auto_reload:
            opened.push_async_callback(_cancelled, asyncio.get_running_loop().create_task(_follow_templates(client)))

        alone = make_classifier(client, settings)
        classifier = alone if shared is None else SharedClassifier(alone, client, settings, shared)
        yield Services(settings, database, client, classifier, shared, monitor, Counters())
        log.info("Stopping: scheduled tasks, cache, database")


def missing(settings: Settings, monitor: HealthMonitor) -> list[str]:
    """Return the models that Ollama was asked for and does not have."""
    checked = monitor.providers.get("ollama")
    if checked is None or checked.failed_in_a_row:
        return []
    needed = [*settings.models]
    needed += [settings.alternative_model] if settings.enable_model_fallback else []
    needed += [settings.embedding_model] if settings.enable_embeddings else []
    has = {name.removesuffix(":latest") for name in checked.models}
    return [model for model in needed if model.removesuffix(":latest") not in has]


def cache_status(settings: Settings, shared: SharedResults | None) -> str:
    """Where the cache is, in words."""
    if not settings.enable_response_cache:
        return "off"
    if settings.cache_backend != "redis":
        return settings.cache_backend
    if shared is None:
        return "memory only: results are not shared while PROMPT_EXPERIMENT compares prompts"
    if shared.problem is not None:
        return f"memory only: Redis cannot be used ({shared.problem})"
    return "memory, and results are shared through Redis"


async def _follow_templates(client: AsyncClient) -> None:
    """Read prompts again when their files change, until cancelled; what cannot be used changes nothing."""
    while True:
        await asyncio.sleep(_LOOK_EVERY_S)
        await client.prompts.keep_up()


async def _warm(client: AsyncClient) -> None:
    """Have every model loaded; one that cannot be is only logged, since it may come later."""
    for model in (SMALL, LARGE):
        try:
            await client.chat("Hello", model=model, max_tokens=1)
        except PenstockError as error:
            log.warning("model %s is not ready: %s", model, error)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
