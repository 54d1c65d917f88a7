"""What the settings mean for Penstock: providers, models, caches, prompts."""

from __future__ import annotations

from typing import Any

from lead_engine.prompts import BUILT_IN, CLASSIFY
from lead_engine.settings import Settings

SMALL, LARGE, ALTERNATIVE, EMBEDDER = "small", "large", "alternative", "embedder"
"""What the application calls its models; `penstock_config` says who they are."""
EXPERIMENT, FEEDBACK = "classification_prompt", "good_lead"
"""The comparison of two versions of a prompt, and the score that decides it."""


def penstock_config(settings: Settings) -> dict[str, Any]:
    """Return the configuration of the Penstock client."""
    return {
        "providers": _providers(settings),
        "models": _models(settings),
        "cache": _cache(settings),
        "store": {"url": "memory:" if settings.cache_kept_in == "memory" else f"sqlite:///{settings.cache_database}"},
        "prompts": _prompts(settings),
        "experiments": _experiments(settings),
        "retry": {"attempts": settings.max_retries + 1},
        "timeout_s": settings.request_timeout_seconds,
    }


def _providers(settings: Settings) -> list[dict[str, Any]]:
    limits = {"max_concurrency": settings.model_concurrency_limit} if settings.model_concurrency_limit else {}
    common = {"limits": limits, "timeouts": {"total_s": settings.request_timeout_seconds}}
    if settings.enable_health_monitoring:
        common["health"] = {"interval_s": settings.health_check_interval_seconds}
    if settings.provider == "simulated":
        times = {
            SMALL: settings.simulated_small_seconds,
            LARGE: settings.simulated_large_seconds,
            EMBEDDER: settings.simulated_small_seconds,
        }
        pace = settings.simulated_tokens_per_second
        return [
            {"name": name, "kind": "simulated", "latency": {"first_token_s": seconds, "tokens_per_s": pace}, **common}
            for name, seconds in times.items()
        ]
    if settings.provider == "ollama":
        address = settings.ollama_host or "http://127.0.0.1:11434"
        return [{"name": "ollama", "kind": "ollama", "base_url": _url(address), **common}]
    server = {"name": "server", "kind": "openai", **common}
    if settings.openai_base_url:
        server |= {"kind": "openai-compatible", "base_url": settings.openai_base_url}
    return [server | ({"api_key": settings.openai_api_key} if settings.openai_api_key else {})]


def _models(settings: Settings) -> list[dict[str, Any]]:
    small, large = settings.models
    found = {SMALL: small, LARGE: large, EMBEDDER: settings.embedding_model}
    if settings.enable_model_fallback:
        found[ALTERNATIVE] = settings.alternative_model
    models = []
    for name, model in found.items():
        where = {"ollama": "ollama", "openai": "server"}.get(settings.provider, name if name != ALTERNATIVE else LARGE)
        entry: dict[str, Any] = {"name": name, "targets": [{"provider": where, "model": model}]}
        if name == LARGE and settings.enable_model_fallback:
            entry["fallbacks"] = {"errors": [ALTERNATIVE]}
        models.append(entry)
    return models


def _cache(settings: Settings) -> dict[str, Any]:
    if not settings.enable_response_cache:
        return {"exact": {"enabled": False}, "coalesce": False}
    exact = {
        "ttl_s": settings.cache_ttl_seconds,
        "max_entries": settings.cache_max_size,
        "max_memory_bytes": settings.cache_max_memory_mb * 1024 * 1024,
        "stale_if_error_s": settings.cache_stale_if_error_seconds,
    }
    semantic = {"mode": settings.semantic_cache_mode, "max_error": settings.semantic_max_error}
    return {"exact": exact, "semantic": semantic}


def _prompts(settings: Settings) -> dict[str, Any]:
    found: dict[str, Any] = {"built_in": BUILT_IN, "reload": settings.prompt_auto_reload}
    return found | ({"directory": settings.prompt_templates_dir} if settings.enable_custom_prompts else {})


def _experiments(settings: Settings) -> list[dict[str, Any]]:
    """Compare two versions of the classification prompt by what salespeople say of the leads."""
    if settings.prompt_experiment is None:
        return []
    arms = [
        {"name": f"version-{version}", "set": {"prompt": {"version": version}}}
        for version in settings.compared_versions
    ]
    return [
        {
            "name": EXPERIMENT,
            "who": {"prompts": [CLASSIFY]},
            "arms": arms,
            "primary": {"metric": f"score.{FEEDBACK}", "bounds": [0, 1]},
            "metrics": [{"metric": "cost_usd"}],
            "window_s": settings.prompt_experiment_days * 86400,
        }
    ]


def _url(address: str) -> str:
    """OLLAMA_HOST may be written without its scheme."""
    return address if "://" in address else f"http://{address}"
