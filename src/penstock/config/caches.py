"""Settings of the caches."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from penstock.config.section import Seconds, Section, or_boolean, terms
from penstock.config.semantic import SemanticCacheSettings


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


class RefreshSettings(Section):
    """Renewing answers that are likely to be asked for again, before they go stale."""

    least: float = Field(
        0.5, gt=0, lt=1, description="Misses that a renewal must be expected to spare; at 0.5, one for every two calls."
    )
    per_minute: int = Field(6, ge=1, description="Answers renewed in any minute at most.")
    horizon_s: Seconds = Field(
        60.0, description="How long before it goes stale an answer may be renewed; a quarter of its lifetime at most."
    )


class WarmSettings(Section):
    """Questions that are taken into the cache at the start."""

    file: str = Field(min_length=1, description="Questions, a line of JSON each, as `penstock cache warm` takes them.")
    tenant: str = Field("default", min_length=1, description="Whose they are.")
    concurrency: int = Field(4, ge=1, le=64, description="Questions asked at once.")


class CacheSettings(Section):
    """Caches and the joining of identical concurrent requests."""

    exact: ExactCacheSettings = Field(ExactCacheSettings(), description="Answers to requests asked before.")
    semantic: SemanticCacheSettings = Field(
        SemanticCacheSettings(), description="Answers to questions asked before in other words."
    )
    refresh: Annotated[RefreshSettings | None, BeforeValidator(terms)] = Field(
        None,
        description="Renew what recurs before it goes stale; `true` for the defaults, by default never.",
        json_schema_extra=or_boolean,
    )
    warm: list[WarmSettings] = Field(
        [], description="Questions that are taken in at the start; the gateway serves meanwhile."
    )
    coalesce: bool = Field(True, description="Identical concurrent requests make one upstream call.")

    @model_validator(mode="after")
    def _renews_what_it_has(self) -> Self:
        for name in ("refresh", "warm"):
            if getattr(self, name) and not self.exact.enabled:
                raise ValueError(f"expected {name} only with exact.enabled: true")
        return self
