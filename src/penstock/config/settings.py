"""Every setting, its meaning, unit and default. Unknown keys are errors; `penstock config schema` publishes this."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from penstock.config.alerting import AlertSettings, SinkSettings
from penstock.config.budgets import BudgetSettings, each_once
from penstock.config.reports import ReportSettings
from penstock.config.section import (
    SECRET_NAME,
    HeaderFields,
    HttpUrl,
    Key,
    Level,
    ProxyUrl,
    Seconds,
    Section,
    StoreUrl,
    Template,
    Usd,
    or_boolean,
    terms,
)
from penstock.config.semantic import SemanticCacheSettings
from penstock.core.route import SemanticMode

_MASK = "**********"


class KeySettings(Section):
    """A key clients may use, and whose requests they then are."""

    key: Key = Field(min_length=1, description="What clients send as bearer token or x-api-key.")
    tenant: str = Field("default", min_length=1, max_length=200, description="Tenants share no cache and no record.")


class ServerSettings(Section):
    """Where and how the gateway listens."""

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(4141, ge=0, le=65535, description="0 takes a free port.")
    keys: list[KeySettings] = Field([], description="Keys for calling models; `penstock keys` makes others.")
    admin_key: Key | None = Field(
        None, min_length=16, description="What may do everything; also from PENSTOCK_ADMIN_KEY."
    )
    keys_ttl_s: Seconds = Field(
        900.0, description="How long keys that are known are served while the store cannot be read."
    )
    max_body_bytes: int = Field(32 * 1024 * 1024, gt=0, description="Larger request bodies are refused with 413.")
    max_connections: int = Field(10_000, ge=1, description="More connections than this are answered with 503.")
    header_timeout_s: Seconds = Field(10.0, description="A request's head must arrive within this, else 408.")
    body_timeout_s: Seconds = Field(60.0, description="Between two reads of a request's body, else 408.")
    write_timeout_s: Seconds = Field(60.0, description="A client that reads nothing for this long is cut off.")
    drain_s: Seconds = Field(30.0, description="How long running requests may go on after SIGTERM.")
    reload: bool = Field(True, description="Reload the configuration when its file changes; SIGHUP always does.")

    @model_validator(mode="after")
    def _each_key_once(self) -> Self:
        keys = [each.key.get_secret_value() for each in self.keys]
        if self.admin_key is not None:
            keys.append(self.admin_key.get_secret_value())
        if len(set(keys)) < len(keys):
            raise ValueError("expected each key once; two of server.keys and server.admin_key are the same")
        return self


class LatencySettings(Section):
    """How long the simulated provider takes."""

    first_token_s: float = Field(0.05, ge=0, description="Time to the first token.")
    tokens_per_s: float = Field(200.0, ge=0, description="0 sends everything at once after the first token's time.")
    jitter: float = Field(0.0, ge=0, le=1, description="Each time is scaled by up to ± this share, from the request.")


class FaultSettings(Section):
    """A fault the simulated provider plays on some of its requests."""

    every: int = Field(1, ge=1, description="Applies to each n-th request.")
    first: int = Field(0, ge=0, description="If set, applies to the first n requests only.")
    kind: Literal["status", "timeout", "connect", "incomplete", "slow"] = Field(
        "status",
        description="What goes wrong: an HTTP status, no answer, no connection, a broken stream, a late start.",
    )
    status: int = Field(503, ge=400, le=599, description="For `status`.")
    retry_after_s: float | None = Field(None, ge=0, description="For `status`: sent as Retry-After.")
    after_tokens: int = Field(3, ge=0, description="For `incomplete`: tokens sent before the stream breaks.")
    delay_s: float = Field(1.0, ge=0, description="For `slow`: added to the time to the first token.")


class TimeoutSettings(Section):
    """Limits for the phases of one attempt."""

    connect_s: Seconds = Field(5.0, description="Name look-up, connection and TLS.")
    first_byte_s: Seconds = Field(120.0, description="From the request being sent to the answer's headers.")
    idle_s: Seconds = Field(60.0, description="Between two reads of an answer.")
    total_s: Seconds = Field(600.0, description="One attempt in all.")


class HealthSettings(Section):
    """Asking a provider for its models now and then, to learn sooner that it is back."""

    interval_s: Seconds = Field(10.0, description="Between two checks.")
    always: bool = Field(
        False, description="Check also while nothing is wrong, to learn of a failure before a client does."
    )


class ProviderLimitSettings(Section):
    """How much a provider is given; what is more waits its turn. All tenants share it."""

    requests_per_minute: int | None = Field(None, ge=1, description="Requests in any minute; by default not counted.")
    tokens_per_minute: int | None = Field(
        None, ge=1, description="Input and output tokens in any minute, predicted ones first; by default not counted."
    )
    max_concurrency: int | None = Field(None, ge=1, description="Requests under way at once, streams to their end.")
    adaptive: bool = Field(
        False, description="Find out how many requests at once it does best with, up to `max_concurrency`."
    )

    def __bool__(self) -> bool:
        """Whether there is any limit."""
        return self.adaptive or any((self.requests_per_minute, self.tokens_per_minute, self.max_concurrency))


class ProviderSettings(Section):
    """An account at a provider, or a server of your own."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="What targets call it; also as `name/model`."
    )
    kind: str = Field(description="openai, anthropic, ollama, simulated, or a row of `penstock config show --kinds`.")
    base_url: HttpUrl | None = Field(None, description="For kinds that have one, the vendor's own by default.")
    api_key: Key | None = Field(None, description="By default the kind's environment variable.")
    headers: HeaderFields = Field({}, description="Added to every request.")
    query: dict[str, str] = Field({}, description="Added to every URL, e.g. Azure's api-version.")
    timeouts: TimeoutSettings = Field(TimeoutSettings(), description="Limits for the phases of one attempt.")
    max_connections: int = Field(256, ge=1, description="More requests than this wait for a connection.")
    max_response_bytes: int = Field(64 * 1024 * 1024, gt=0, description="Larger answers, decoded, are refused.")
    limits: ProviderLimitSettings = Field(ProviderLimitSettings(), description="How much it is given.")
    discount: Decimal = Field(
        Decimal(0), ge=0, le=1, description="Share taken off the published prices: 0.15 when you pay 85 %."
    )
    ca_file: str | None = Field(None, description="PEM file of certificates to trust instead of the system's.")
    proxy: ProxyUrl | None = Field(None, description="Proxy URL; by default the environment's, `none` for no proxy.")
    health: Annotated[HealthSettings | None, BeforeValidator(terms)] = Field(
        None,
        description="Active health checks; `true` for the defaults, by default none.",
        json_schema_extra=or_boolean,
    )
    latency: LatencySettings | None = Field(None, description="For kind simulated only.")
    faults: list[FaultSettings] = Field([], description="For kind simulated only.")


class TokenPriceSettings(Section):
    """USD per million tokens; a kind without a price takes that of the kind it is part of.

    Without a price for `input` or `output`, the cost of a call that has any is unknown.
    """

    input: Usd | None = Field(None, description="Prompt tokens of no other kind.")
    output: Usd | None = Field(None, description="Generated tokens of no other kind.")
    cached_input: Usd | None = Field(None, description="Prompt tokens read from the provider's cache.")
    cache_write: Usd | None = Field(None, description="Prompt tokens written to the provider's cache.")
    cache_write_1h: Usd | None = Field(None, description="Those written for an hour.")
    reasoning: Usd | None = Field(None, description="Hidden reasoning.")
    input_audio: Usd | None = Field(None, description="Audio in the prompt.")
    cached_audio: Usd | None = Field(None, description="Audio in the prompt, read from the provider's cache.")
    output_audio: Usd | None = Field(None, description="Generated audio.")
    input_image: Usd | None = Field(None, description="Images in the prompt.")
    cached_image: Usd | None = Field(None, description="Images in the prompt, read from the provider's cache.")
    output_image: Usd | None = Field(None, description="Generated images.")
    input_video: Usd | None = Field(None, description="Video in the prompt.")
    cached_video: Usd | None = Field(None, description="Video in the prompt, read from the provider's cache.")


class PriceSettings(Section):
    """What a model costs you, in place of its published price; the first entry that fits counts."""

    provider: str = Field("*", min_length=1, description="Name of the provider; `*` matches any text.")
    model: str = Field("*", min_length=1, description="The provider's name for the model; `*` matches any text.")
    since: date | None = Field(None, description="First day (UTC) of the price; by default always.")
    until: date | None = Field(None, description="First day (UTC) after it; by default none.")
    usd_per_million: TokenPriceSettings | None = Field(
        None, description="Tokens, by kind; without it tokens cost nothing beside what else is said here."
    )
    usd_per_request: Usd | None = Field(None, description="Each request.")
    usd_per_search: Usd | None = Field(None, description="Each web search the provider makes.")
    usd_per_hour: Usd | None = Field(
        None, description="Each hour the machine works; calls under way at the same time share it equally."
    )

    @model_validator(mode="after")
    def _says_a_price(self) -> Self:
        prices = (self.usd_per_million, self.usd_per_request, self.usd_per_search, self.usd_per_hour)
        if all(price is None for price in prices):
            raise ValueError("expected a price: usd_per_million, usd_per_request, usd_per_search or usd_per_hour")
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ValueError(f"expected since ({self.since}) before until ({self.until})")
        return self


class TargetSettings(Section):
    """One provider's model behind a model name."""

    provider: str = Field(description="Name of a provider, or a kind that needs no more than its key.")
    model: str = Field("*", min_length=1, description="`*` passes on the name the client used.")
    weight: float = Field(
        1.0,
        ge=0,
        description="Share of the traffic, for `weighted`; for `balanced`, how many times longer the first token may "
        "take there. 0 takes none unless others fail.",
    )
    order: int = Field(0, ge=0, description="Lower ones are tried first.")
    timeout_s: Seconds | None = Field(None, description="One attempt in all; the default is the provider's.")


class TemplateWhenSettings(Section):
    """Which requests a template answers; all that is said must fit."""

    operation: str | None = Field(
        None, min_length=1, description="What the client names in `x-penstock-operation` or its metadata's `operation`."
    )
    tag: str | None = Field(None, min_length=1, description="One of the request's tags.")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.operation is None and self.tag is None:
            raise ValueError("expected an operation, a tag, or both")
        return self


class TemplateSettings(Section):
    """A prepared answer, for when everything failed."""

    when: TemplateWhenSettings = Field(description="Which requests it answers.")
    answer: Template = Field(
        min_length=1, description="The text; `{question}`, `{model}`, `{operation}` and `{request_id}` are replaced."
    )


class FallbackSettings(Section):
    """What may be answered with, and marked as such, when a model cannot."""

    context_window: list[str] = Field([], description="Models asked when the prompt is too long for this one.")
    content_policy: list[str] = Field([], description="Models asked when the provider's policy refuses.")
    errors: list[str] = Field([], description="Models asked when all targets failed.")
    templates: list[TemplateSettings] = Field(
        [], description="Prepared answers for when that failed too; before those in the top-level `fallbacks`."
    )
    timeout_s: Seconds | None = Field(
        None, description="How long an answer may take to begin; by default as the top-level `fallbacks` say."
    )


class CommonFallbackSettings(Section):
    """Prepared answers for all models, and how long to wait before."""

    templates: list[TemplateSettings] = Field([], description="The first that fits is given when everything failed.")
    timeout_s: Seconds | None = Field(
        None,
        description="How long a model may take to begin its answer while there is something to fall back to; "
        "no limit by default.",
    )


class HedgeSettings(Section):
    """A second request beside a stream, or embeddings, whose answer is late to begin."""

    budget: float = Field(
        0.02, gt=0, le=0.5, description="Second requests may cost at most this share of the model's tokens."
    )
    quantile: float = Field(
        0.95, ge=0.5, lt=1, description="Share of the answers that begin before one counts as late."
    )


class ModelSettings(Section):
    """A model name clients use; `*` inside matches any text, the most specific name wins."""

    name: str = Field(min_length=1, description="What clients ask for.")
    targets: list[TargetSettings] = Field(min_length=1, description="Where requests may go.")
    strategy: Literal["ordered", "weighted", "balanced"] = Field(
        "ordered",
        description="`ordered` tries targets as listed (and by `order`); `weighted` spreads by `weight`; `balanced` "
        "picks the one whose first token is expected soonest.",
    )
    cache_ttl_s: float | None = Field(None, ge=0, description="0 switches caching off for this model.")
    timeout_s: Seconds | None = Field(None, description="Total time for a request; the default is `timeout_s`.")
    hedge: Annotated[HedgeSettings | None, BeforeValidator(terms)] = Field(
        None,
        description="Ask a second time when an answer is late to begin; `true` for the defaults, by default never.",
        json_schema_extra=or_boolean,
    )
    fallbacks: FallbackSettings | None = Field(None, description="Who or what answers when this model cannot.")
    semantic: SemanticMode | None = Field(
        None,
        description="Whether its questions are answered by meaning; by default as `cache.semantic.mode` says.",
    )


class ExactCacheSettings(Section):
    """Answers to requests that were asked before, word for word."""

    enabled: bool = Field(True, description="Off, every request goes upstream.")
    ttl_s: float = Field(7200.0, ge=0, description="How long an answer stays fresh.")
    max_entries: int = Field(10_000, ge=1, description="The least valuable answers beyond this are dropped.")
    max_memory_bytes: int = Field(64 * 1024 * 1024, ge=0, description="Answers beyond this are read from the store.")
    max_entry_bytes: int = Field(4 * 1024 * 1024, gt=0, description="Larger answers are not cached.")
    stale_while_revalidate_s: float = Field(
        0.0, ge=0, description="How long after its freshness an answer is still served while a new one is fetched."
    )
    stale_if_error_s: float = Field(
        0.0, ge=0, description="How long after its freshness an answer is still served when the providers fail."
    )
    tool_calls: bool = Field(False, description="Also cache answers that call tools.")


class CacheSettings(Section):
    """Caches and the joining of identical concurrent requests."""

    exact: ExactCacheSettings = Field(ExactCacheSettings(), description="Answers to requests asked before.")
    semantic: SemanticCacheSettings = Field(
        SemanticCacheSettings(), description="Answers to questions asked before in other words."
    )
    coalesce: bool = Field(True, description="Identical concurrent requests make one upstream call.")


class StoreSettings(Section):
    """Where answers, records and stored completions are kept."""

    url: StoreUrl = Field("sqlite:///penstock.db", description="`sqlite:///FILE`, or `memory:` to keep nothing.")
    retention_days: float | None = Field(
        90.0, gt=0, description="How long calls are kept; their sums stay. `null` keeps calls for ever."
    )
    secret: Key | None = Field(
        None,
        min_length=32,
        description="What keys are hashed with, also from PENSTOCK_SECRET; by default a file beside the database.",
    )


class RetrySettings(Section):
    """Second tries on the same target, before the first event only."""

    attempts: int = Field(2, ge=1, description="Tries per target, the first included.")
    backoff_s: Seconds = Field(0.25, description="Mean of the first wait; doubles with each try (full jitter).")
    max_backoff_s: Seconds = Field(8.0, description="Longest mean wait.")
    budget: float = Field(0.2, ge=0, le=1, description="Retries may be at most this share of requests.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.backoff_s > self.max_backoff_s:
            raise ValueError(f"expected backoff_s ({self.backoff_s}) at most max_backoff_s ({self.max_backoff_s})")
        return self


class BreakerSettings(Section):
    """Stepping over a target that fails."""

    failures: int = Field(5, ge=1, description="Consecutive failures that open the breaker.")
    recovery_s: Seconds = Field(10.0, description="How long it stays open before one request probes.")


class PollingSettings(Section):
    """Waiting for long-running work."""

    min_s: Seconds = Field(2.0, description="The first wait, and the shortest.")
    max_s: Seconds = Field(8.0, description="The longest wait.")
    backoff: float = Field(1.5, ge=1, description="Each wait is this many times the one before.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_s > self.max_s:
            raise ValueError(f"expected min_s ({self.min_s}) at most max_s ({self.max_s})")
        return self


class TenantLimitSettings(Section):
    """What a tenant may use; what is more is refused."""

    requests_per_minute: int | None = Field(None, ge=1, description="Requests, cached answers included.")
    tokens_per_minute: int | None = Field(None, ge=1, description="Input and output tokens that go to providers.")


class LimitSettings(Section):
    """Who waits when providers' limits are reached, and how much each tenant may use."""

    max_queued: int = Field(1000, ge=0, description="Requests that may wait for providers' limits; more are refused.")
    per_tenant: TenantLimitSettings = Field(TenantLimitSettings(), description="For every tenant that is not named.")
    tenants: dict[str, TenantLimitSettings] = Field({}, description="For single tenants, by name.")

    @property
    def for_tenants(self) -> bool:
        """Whether any tenant has limits."""
        return any(each != TenantLimitSettings() for each in (self.per_tenant, *self.tenants.values()))


class Settings(Section):
    """The whole configuration."""

    level: Level = Field("high", description="How hard to save: sets defaults that explicit settings override.")
    server: ServerSettings = Field(ServerSettings(), description="Where and how the gateway listens.")
    providers: list[ProviderSettings] = Field([], description="By default what the environment offers.")
    models: list[ModelSettings] = Field([], description="By default what the providers are known for.")
    cache: CacheSettings = Field(CacheSettings(), description="Answers that need not be asked for again.")
    store: StoreSettings = Field(StoreSettings(), description="Where things are kept.")
    retry: RetrySettings = Field(RetrySettings(), description="Second tries on the same target.")
    breaker: BreakerSettings = Field(BreakerSettings(), description="Stepping over a target that fails.")
    fallbacks: CommonFallbackSettings = Field(CommonFallbackSettings(), description="Answers when everything failed.")
    prices: list[PriceSettings] = Field([], description="What models cost you, where published prices do not say.")
    limits: LimitSettings = Field(LimitSettings(), description="Who waits, and how much each tenant may use.")
    budgets: list[BudgetSettings] = Field([], description="What may be spent; `penstock budgets` makes others.")
    polling: PollingSettings = Field(PollingSettings(), description="Waiting for long-running work.")
    sinks: list[SinkSettings] = Field([], description="Where alerts and reports go.")
    alerts: AlertSettings = Field(AlertSettings(), description="What is watched, and who is told.")
    reports: list[ReportSettings] = Field([], description="Reports that are sent once a day or a week.")
    timeout_s: Seconds = Field(600.0, description="Total time for a request, retries and failover included.")

    @model_validator(mode="after")
    def _each_budget_once(self) -> Self:
        each_once(self.budgets)
        return self

    def document(self) -> dict[str, Any]:
        """The settings as plain JSON values, secrets masked."""
        document = self.model_dump(mode="json")
        for provider in document["providers"]:
            for fields in (provider["headers"], provider["query"]):
                fields.update({name: _MASK for name in fields if SECRET_NAME.search(name)})
            if provider["proxy"] and "@" in provider["proxy"]:
                scheme, _, rest = provider["proxy"].partition("://")
                provider["proxy"] = f"{scheme}://{_MASK}@{rest.rpartition('@')[2]}"
        return document
