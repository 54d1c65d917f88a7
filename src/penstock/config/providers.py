"""Settings of providers: where models are, how to reach them, and how much they are given."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from penstock.config.section import HeaderFields, HttpUrl, Key, ProxyUrl, Seconds, Section, or_boolean, terms


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
