"""Every setting, its meaning, unit and default. Unknown keys are errors; `penstock config schema` publishes this."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

Seconds = Annotated[float, Field(gt=0)]
Level = Literal["ultra", "high", "medium", "low"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


class KeySettings(_Section):
    """A key clients may use, and whose requests they then are."""

    key: SecretStr
    tenant: str = Field("default", min_length=1, max_length=200)


class ServerSettings(_Section):
    """Where and how the gateway listens."""

    host: str = "127.0.0.1"
    port: int = Field(4141, ge=0, le=65535, description="0 takes a free port.")
    keys: list[KeySettings] = Field([], description="Without keys only loopback addresses are served.")
    max_body_bytes: int = Field(32 * 1024 * 1024, gt=0, description="Larger request bodies are refused with 413.")
    drain_s: Seconds = Field(30.0, description="How long running requests may go on after SIGTERM.")
    reload: bool = Field(True, description="Reload the configuration when its file changes; SIGHUP always does.")


class LatencySettings(_Section):
    """How long the simulated provider takes."""

    first_token_s: float = Field(0.05, ge=0)
    tokens_per_s: float = Field(200.0, ge=0, description="0 sends everything at once after the first token's time.")
    jitter: float = Field(0.0, ge=0, le=1, description="Each time is scaled by up to ± this share, from the request.")


class FaultSettings(_Section):
    """A fault the simulated provider plays on some of its requests."""

    every: int = Field(1, ge=1, description="Applies to each n-th request.")
    first: int = Field(0, ge=0, description="If set, applies to the first n requests only.")
    kind: Literal["status", "timeout", "connect", "incomplete", "slow"] = "status"
    status: int = Field(503, ge=400, le=599)
    retry_after_s: float | None = Field(None, ge=0)
    after_tokens: int = Field(3, ge=0, description="For `incomplete`: tokens sent before the stream breaks.")
    delay_s: float = Field(1.0, ge=0, description="For `slow`: added to the time to the first token.")


class TimeoutSettings(_Section):
    """Limits for the phases of one attempt."""

    connect_s: Seconds = 5.0
    first_byte_s: Seconds = Field(120.0, description="From the request being sent to the answer's headers.")
    idle_s: Seconds = Field(60.0, description="Between two reads of an answer.")
    total_s: Seconds = Field(600.0, description="One attempt in all.")


class ProviderSettings(_Section):
    """An account at a provider, or a server of your own."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    kind: str = Field(description="openai, anthropic, ollama, simulated, or a row of `penstock config show --kinds`.")
    base_url: str | None = Field(None, description="For kinds that have one, the vendor's own by default.")
    api_key: SecretStr | None = Field(None, description="By default the kind's environment variable.")
    headers: dict[str, str] = Field({}, description="Added to every request.")
    query: dict[str, str] = Field({}, description="Added to every URL, e.g. Azure's api-version.")
    timeouts: TimeoutSettings = TimeoutSettings()
    max_connections: int = Field(256, ge=1, description="More requests than this wait for a connection.")
    max_response_bytes: int = Field(64 * 1024 * 1024, gt=0, description="Larger answers, decoded, are refused.")
    ca_file: str | None = Field(None, description="PEM file of certificates to trust instead of the system's.")
    proxy: str | None = Field(None, description="Proxy URL; by default the environment's, `none` for no proxy.")
    latency: LatencySettings | None = None
    faults: list[FaultSettings] = []


class TargetSettings(_Section):
    """One provider's model behind a model name."""

    provider: str
    model: str = Field("*", min_length=1, description="`*` passes on the name the client used.")
    weight: float = Field(1.0, ge=0)
    order: int = Field(0, ge=0)
    timeout_s: Seconds | None = None


class ModelSettings(_Section):
    """A model name clients use; `*` inside matches any text, the most specific name wins."""

    name: str = Field(min_length=1)
    targets: list[TargetSettings] = Field(min_length=1)
    strategy: Literal["ordered", "weighted"] = Field(
        "ordered", description="`ordered` tries targets as listed (and by `order`); `weighted` spreads by `weight`."
    )
    cache_ttl_s: float | None = Field(None, ge=0, description="0 switches caching off for this model.")
    timeout_s: Seconds | None = Field(None, description="Total time for a request; the default is `timeout_s`.")


class ExactCacheSettings(_Section):
    """Answers to requests that were asked before, word for word."""

    enabled: bool = True
    ttl_s: float = Field(7200.0, ge=0, description="How long an answer stays fresh.")
    max_entries: int = Field(10_000, ge=1)
    max_memory_bytes: int = Field(64 * 1024 * 1024, ge=0, description="Answers beyond this are read from the store.")
    max_entry_bytes: int = Field(4 * 1024 * 1024, gt=0, description="Larger answers are not cached.")
    stale_while_revalidate_s: float = Field(0.0, ge=0)
    stale_if_error_s: float = Field(0.0, ge=0)
    tool_calls: bool = Field(False, description="Also cache answers that call tools.")


class CacheSettings(_Section):
    """Caches and the joining of identical concurrent requests."""

    exact: ExactCacheSettings = ExactCacheSettings()
    coalesce: bool = Field(True, description="Identical concurrent requests make one upstream call.")


class StoreSettings(_Section):
    """Where answers, records and stored completions are kept."""

    url: str = Field("sqlite:///penstock.db", description="`sqlite:///FILE`, or `memory:` to keep nothing.")


class RetrySettings(_Section):
    """Second tries on the same target, before the first event only."""

    attempts: int = Field(2, ge=1, description="Tries per target, the first included.")
    backoff_s: Seconds = Field(0.25, description="Mean of the first wait; doubles with each try (full jitter).")
    max_backoff_s: Seconds = 8.0
    budget: float = Field(0.2, ge=0, le=1, description="Retries may be at most this share of requests.")


class BreakerSettings(_Section):
    """Stepping over a target that fails."""

    failures: int = Field(5, ge=1, description="Consecutive failures that open the breaker.")
    recovery_s: Seconds = Field(10.0, description="How long it stays open before one request probes.")


class PollingSettings(_Section):
    """Waiting for long-running work."""

    min_s: Seconds = 2.0
    max_s: Seconds = 8.0
    backoff: float = Field(1.5, ge=1)


class Settings(_Section):
    """The whole configuration."""

    level: Level = Field("high", description="How hard to save: sets defaults that explicit settings override.")
    server: ServerSettings = ServerSettings()
    providers: list[ProviderSettings] = []
    models: list[ModelSettings] = []
    cache: CacheSettings = CacheSettings()
    store: StoreSettings = StoreSettings()
    retry: RetrySettings = RetrySettings()
    breaker: BreakerSettings = BreakerSettings()
    polling: PollingSettings = PollingSettings()
    timeout_s: Seconds = Field(600.0, description="Total time for a request, retries and failover included.")

    def document(self) -> dict[str, Any]:
        """The settings as plain JSON values, secrets masked."""
        return self.model_dump(mode="json")
