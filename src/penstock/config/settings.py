"""Every setting, its meaning, unit and default. Unknown keys are errors; `penstock config schema` publishes this."""

from __future__ import annotations

from datetime import date
from typing import Any, Self

from pydantic import Field, model_validator

from penstock.config.alerting import AlertSettings, SinkSettings
from penstock.config.budgets import BudgetSettings, each_once
from penstock.config.caches import CacheSettings
from penstock.config.context import ContextSettings
from penstock.config.experiments import ExperimentSettings, fit_together
from penstock.config.models import CommonFallbackSettings, ModelSettings
from penstock.config.prompts import PromptSettings
from penstock.config.providers import ProviderSettings
from penstock.config.reports import ReportSettings
from penstock.config.section import (
    SECRET_NAME,
    Key,
    Level,
    Seconds,
    Section,
    StoreUrl,
    Usd,
)

_MASK = "**********"


class KeySettings(Section):
    """A key clients may use, and whose requests they then are."""

    key: Key = Field(min_length=1, description="What clients send as bearer token or x-api-key.")
    tenant: str = Field("default", min_length=1, max_length=200, description="Tenants share no cache and no record.")


class ServerSettings(Section):
    """Where and how the gateway listens."""

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(4141, ge=0, le=65535, description="0 takes a free port.")
    workers: int = Field(1, ge=1, le=256, description="Processes that answer; more than one on Linux only.")
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


class StoreSettings(Section):
    """Where answers, records and stored completions are kept."""

    url: StoreUrl = Field("sqlite:///penstock.db", description="`sqlite:///FILE`, or `memory:` to keep nothing.")
    retention_days: float | None = Field(
        90.0, gt=0, description="How long calls are kept; their sums stay. `null` keeps calls for ever."
    )
    hit_rows_per_s: float | None = Field(
        100.0,
        ge=0,
        description="How many plain hits a second, of one process, are kept as calls of their own; all are in the "
        "sums. `null` keeps all of them.",
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
    context: ContextSettings = Field(ContextSettings(), description="Cutting conversations that are too long.")
    prompts: PromptSettings = Field(PromptSettings(), description="Prompts that requests name.")
    store: StoreSettings = Field(StoreSettings(), description="Where things are kept.")
    retry: RetrySettings = Field(RetrySettings(), description="Second tries on the same target.")
    breaker: BreakerSettings = Field(BreakerSettings(), description="Stepping over a target that fails.")
    fallbacks: CommonFallbackSettings = Field(CommonFallbackSettings(), description="Answers when everything failed.")
    prices: list[PriceSettings] = Field([], description="What models cost you, where published prices do not say.")
    limits: LimitSettings = Field(LimitSettings(), description="Who waits, and how much each tenant may use.")
    budgets: list[BudgetSettings] = Field([], description="What may be spent; `penstock budgets` makes others.")
    experiments: list[ExperimentSettings] = Field([], description="What is compared with what.")
    polling: PollingSettings = Field(PollingSettings(), description="Waiting for long-running work.")
    sinks: list[SinkSettings] = Field([], description="Where alerts and reports go.")
    alerts: AlertSettings = Field(AlertSettings(), description="What is watched, and who is told.")
    reports: list[ReportSettings] = Field([], description="Reports that are sent once a day or a week.")
    timeout_s: Seconds = Field(600.0, description="Total time for a request, retries and failover included.")

    @model_validator(mode="after")
    def _each_budget_once(self) -> Self:
        each_once(self.budgets)
        return self

    @model_validator(mode="after")
    def _experiments_fit_together(self) -> Self:
        fit_together(self.experiments)
        kept = self.store.retention_days
        for each in self.experiments:
            if kept is not None and each.stop.days > kept:
                raise ValueError(
                    f"expected stop.days of the experiment {each.name} ({each.stop.days:g}) at most "
                    f"store.retention_days ({kept:g})"
                )
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
