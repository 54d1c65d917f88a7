"""Every setting, read from the environment: the name of a field in capitals is the name of its variable."""

from __future__ import annotations

import os
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from redis.asyncio.connection import parse_url

HERE = Path(__file__).parent


def _setting(group: str, default: Any, description: str, **limits: Any) -> Any:  # noqa: ANN401 - pydantic's Field
    return Field(default, title=group, description=description, **limits)


class SettingsError(ValueError):
    """An environment variable cannot be used."""


class Settings(BaseModel):
    """The whole configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    host: str = _setting("Server", "127.0.0.1", "Address to listen on.")
    port: int = _setting("Server", 8000, "Port to listen on.", ge=0, le=65535)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = _setting("Server", "INFO", "What is logged.")
    enable_prometheus: bool = _setting("Server", True, "Serve `GET /metrics` for Prometheus.")
    enable_streaming: bool = _setting("Server", True, "Serve `POST /api/classify/signal/stream`.")

    database_url: str = _setting(
        "Leads", "sqlite:///leads.db", "Where leads are: `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/NAME`."
    )
    lead_score_threshold: float = _setting("Leads", 50, "A signal becomes a lead from this score on.", ge=0, le=100)
    create_leads: bool = _setting("Leads", True, "Make leads of signals whose request does not say.")

    llm_provider: Literal["auto", "simulated", "ollama", "openai"] = _setting(
        "Models",
        "auto",
        "Who answers: `auto` takes an OpenAI-compatible server if OPENAI_BASE_URL or OPENAI_API_KEY is set, Ollama if "
        "OLLAMA_HOST is, and else simulates.",
    )
    openai_base_url: str | None = _setting("Models", None, "Any OpenAI-compatible server, a Penstock gateway too.")
    openai_api_key: str | None = _setting("Models", None, "Its key.")
    ollama_host: str | None = _setting("Models", None, "Ollama's address; http://127.0.0.1:11434 if nothing is said.")
    small_model: str = _setting("Models", "gemma3:1b", "The model that filters.", min_length=1)
    large_model: str = _setting("Models", "gemma3:4b", "The model that classifies.", min_length=1)
    use_quantized_models: bool = _setting("Models", False, "Use the two models below in their place.")
    small_model_quantized: str = _setting("Models", "gemma3:1b-it-qat", "Quantised weights of the small model.")
    large_model_quantized: str = _setting("Models", "gemma3:4b-it-qat", "Quantised weights of the large model.")
    enable_model_fallback: bool = _setting("Models", False, "Ask ALTERNATIVE_MODEL when the large model fails.")
    alternative_model: str = _setting("Models", "mistral:7b", "Who is asked then.", min_length=1)
    classification_temperature: float = _setting("Models", 0.0, "Of classifying.", ge=0, le=2)
    dossier_temperature: float = _setting("Models", 0.3, "Of writing dossiers.", ge=0, le=2)
    prefilter_max_tokens: int = _setting("Models", 60, "Longest answer of the small model.", ge=16)
    classification_max_tokens: int = _setting("Models", 300, "Longest answer of the large model.", ge=32)
    dossier_max_tokens: int = _setting("Models", 500, "Longest dossier.", ge=32)
    request_timeout_seconds: float = _setting("Models", 120, "One model call, its retries included.", gt=0)
    max_retries: int = _setting("Models", 1, "Further tries of a call that failed.", ge=0, le=10)
    model_concurrency_limit: int = _setting("Models", 0, "Model calls at once, of all requests; 0 is no limit.", ge=0)
    warm_models_on_start: bool = _setting("Models", False, "Ask each model once at the start, so that it is loaded.")
    simulated_small_seconds: float = _setting("Models", 0.05, "How long a simulated small model takes.", ge=0)
    simulated_large_seconds: float = _setting("Models", 0.5, "How long a simulated large model takes.", ge=0)
    simulated_tokens_per_second: float = _setting(
        "Models", 60, "How fast simulated models write after that; 0 says everything at once.", ge=0
    )

    enable_dynamic_context: bool = _setting("Context", True, "Fit Ollama's context window (`num_ctx`) to the input.")
    context_window_min: int = _setting("Context", 512, "Smallest window, tokens.", ge=128)
    context_window_max: int = _setting("Context", 8192, "Largest window, tokens; longer signals are refused.", ge=128)
    context_window_overhead: int = _setting("Context", 400, "Tokens kept for the instructions.", ge=0)

    enable_response_cache: bool = _setting("Cache", True, "Answer repeated signals from the cache.")
    cache_backend: Literal["memory", "sqlite", "redis"] = _setting(
        "Cache",
        "memory",
        "Where answers are: `sqlite` keeps them over restarts in a file; `redis` keeps them in memory, and shares "
        "finished classifications with other instances through Redis.",
    )
    cache_database: str = _setting("Cache", "lead_engine_cache.db", "The file of `sqlite`.", min_length=1)
    redis_url: str = _setting("Cache", "redis://127.0.0.1:6379/0", "The server of `redis`: one, not a Redis Cluster.")
    redis_timeout_seconds: float = _setting("Cache", 0.25, "One exchange with it; what is late is a miss.", gt=0)
    cache_ttl_seconds: float = _setting("Cache", 86400, "How long an answer stays fresh.", ge=0)
    cache_max_size: int = _setting("Cache", 10_000, "Answers kept; the least valuable go first.", ge=1)
    cache_max_memory_mb: int = _setting("Cache", 64, "Memory for them.", ge=1)
    cache_stale_if_error_seconds: float = _setting(
        "Cache", 3600, "How long past that an answer may stand in for a model that fails.", ge=0
    )
    semantic_cache_mode: Literal["off", "shadow", "on"] = _setting(
        "Cache", "off", "Answer signals in other words from the cache too, as far as SEMANTIC_MAX_ERROR allows."
    )
    semantic_max_error: float = _setting("Cache", 0.01, "Share of such answers that may be wrong.", gt=0, lt=1)

    enable_multi_stage: bool = _setting("Stages", True, "Rules and the small model first; off asks the large one only.")
    enable_rules: bool = _setting("Stages", True, "Drop obvious noise without a model.")
    prefilter_score_threshold: float = _setting(
        "Stages", 30, "Signals the small model scores lower are dropped; the large model never sees them.", ge=0, le=100
    )
    prefilter_accept_threshold: float | None = _setting(
        "Stages", None, "From this score on the small model's category is taken; by default never.", ge=0, le=100
    )

    batch_enable_parallel: bool = _setting("Batches", True, "Classify signals of a batch at once.")
    batch_concurrency_limit: int = _setting("Batches", 5, "How many at once.", ge=1, le=256)
    batch_max_size: int = _setting("Batches", 1000, "Most signals in a batch.", ge=1)
    batch_timeout_seconds: float = _setting("Batches", 600, "A whole batch; what is late is an error.", gt=0)
    batch_budget_usd: Decimal | None = _setting(
        "Batches", None, "US dollars for a batch; what is beyond is an error, and so is a model of unknown price.", ge=0
    )

    enable_custom_prompts: bool = _setting("Prompts", True, "Use the files of PROMPT_TEMPLATES_DIR, not the built-in.")
    prompt_templates_dir: str = _setting("Prompts", str(HERE / "templates"), "Where the prompts are, YAML or JSON.")
    prompt_auto_reload: bool = _setting("Prompts", True, "Read them again when they change.")
    prompt_version: str | None = _setting("Prompts", None, "Version or label of the classification prompt to use.")
    prompt_experiment: str | None = _setting(
        "Prompts", None, "Two versions to compare, as `1,2`: half of the signals go to each."
    )
    prompt_experiment_days: float = _setting(
        "Prompts", 1, "How long after a signal feedback on its lead counts for that.", gt=0
    )

    enable_health_monitoring: bool = _setting("Health", True, "Ask the providers how they are, regularly.")
    health_check_interval_seconds: float = _setting("Health", 30, "Between two checks.", gt=0)
    health_latency_threshold_seconds: float = _setting("Health", 2, "A slower check counts as degraded.", gt=0)

    enable_embeddings: bool = _setting("Matching", False, "Make vectors of leads, to find similar ones.")
    embedding_model: str = _setting("Matching", "nomic-embed-text", "Who makes them.", min_length=1)
    similarity_threshold: float = _setting("Matching", 0.8, "Leads at least so near are similar (cosine).", ge=-1, le=1)
    similar_leads_limit: int = _setting("Matching", 5, "Most similar leads to name.", ge=1)

    @field_validator("redis_url")
    @classmethod
    def _address_of_redis(cls, value: str) -> str:
        try:
            parse_url(value)
        except ValueError:  # which may say a part of the password
            raise ValueError("expected redis://HOST:PORT/DATABASE, rediss://… or unix://…") from None
        return value

    @model_validator(mode="after")
    def _one_choice_of_versions(self) -> Self:
        if self.prompt_experiment is not None:
            if self.prompt_version is not None:
                raise ValueError("expected PROMPT_VERSION or PROMPT_EXPERIMENT, not both")
            if len(set(self.compared_versions)) != 2:
                raise ValueError("PROMPT_EXPERIMENT: expected two versions, as 1,2")
        return self

    @property
    def compared_versions(self) -> list[str]:
        """The versions of PROMPT_EXPERIMENT."""
        return [each.strip() for each in (self.prompt_experiment or "").split(",") if each.strip()]

    @property
    def provider(self) -> Literal["simulated", "ollama", "openai"]:
        """Who answers."""
        if self.llm_provider != "auto":
            return self.llm_provider
        if self.openai_base_url or self.openai_api_key:
            return "openai"
        return "ollama" if self.ollama_host else "simulated"

    @property
    def cache_kept_in(self) -> Literal["memory", "sqlite"]:
        """Where this instance's own answers are."""
        return "sqlite" if self.cache_backend == "sqlite" else "memory"

    @property
    def shares_results(self) -> bool:
        """Whether Redis is used: not while prompts are compared, since a result is that of one of them."""
        return self.enable_response_cache and self.cache_backend == "redis" and self.prompt_experiment is None

    @property
    def models(self) -> tuple[str, str]:
        """The small and the large model in use."""
        if self.use_quantized_models:
            return self.small_model_quantized, self.large_model_quantized
        return self.small_model, self.large_model


def read(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings; empty variables count as unset.

    Raises:
        SettingsError: A variable cannot be used; the message names it.
    """
    given = os.environ if environ is None else environ
    found = {name: given[name.upper()] for name in Settings.model_fields if given.get(name.upper())}
    try:
        return Settings(**found)
    except ValidationError as error:
        wrong = [": ".join([*map(str.upper, map(str, each["loc"])), each["msg"]]) for each in error.errors()]
        raise SettingsError("; ".join(wrong)) from None


def table() -> str:
    """Return all settings as a table in Markdown."""
    lines = ["| Variable | Default | Meaning |", "|---|---|---|"]
    group = None
    for name, field in Settings.model_fields.items():
        if field.title != group:
            group = field.title
            lines.append(f"| **{group}** | | |")
        default = (
            ""
            if field.default is None
            else f"`{str(field.default).replace(str(HERE), '.').replace('True', 'true').replace('False', 'false')}`"
        )
        lines.append(f"| `{name.upper()}` | {default} | {field.description} |")
    return "\n".join(lines)
