"""Settings of model names: where they lead, and what answers when that fails."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from penstock.config.cascades import CascadeSettings
from penstock.config.context import ModelContextSettings
from penstock.config.section import Seconds, Section, Template, or_boolean, terms
from penstock.core.route import SemanticMode


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
    targets: list[TargetSettings] = Field([], min_length=1, description="Where requests may go.")
    cascade: CascadeSettings | None = Field(
        None, description="Other models that are asked in place of targets, the cheapest first."
    )
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
    context: ModelContextSettings | None = Field(
        None, description="Whether its conversations are cut, and to how many tokens; by default as `context` says."
    )

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Self:
        if bool(self.targets) == (self.cascade is not None):
            raise ValueError("expected either targets or a cascade")
        if self.cascade is not None and (self.hedge is not None or self.strategy != "ordered"):
            raise ValueError("expected no hedge or strategy beside a cascade; those of its models count")
        return self
