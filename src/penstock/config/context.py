"""Settings of cutting conversations to a budget of tokens."""

from __future__ import annotations

from pydantic import Field

from penstock.config.section import Seconds, Section
from penstock.core.route import ContextMode, ContextTerms


class ContextSummarySettings(Section):
    """Who says in short what was left out of a conversation."""

    model: str | None = Field(
        None,
        min_length=1,
        description="A small model that writes summaries, as clients would call it; by default they are sentences "
        "taken from what was said.",
    )
    tokens: int | None = Field(
        None,
        ge=0,
        description="Most tokens of all summaries; by default an eighth of `context.tokens`, in mode `aggressive` "
        "768 at most.",
    )
    timeout_s: Seconds = Field(10.0, description="When the model has not answered by then, sentences are taken.")


class ContextSettings(Section):
    """Cutting conversations that are longer than they need to be."""

    mode: ContextMode = Field(
        "off",
        description="`budget` cuts those that exceed their tokens; `aggressive` cuts down to what the question needs.",
    )
    tokens: int | None = Field(
        None,
        ge=1,
        description="Most tokens messages and tools may have; by default what the models' windows leave beside the "
        "answer.",
    )
    recent_tokens: int | None = Field(
        None,
        ge=0,
        description="Tokens of the newest exchanges that a cut leaves as they are; by default a quarter of `tokens`, "
        "in mode `aggressive` as many as cost no more from the provider's cache than 8,192 that are not in it, "
        "16,384 at most.",
    )
    excerpt_tokens: int | None = Field(
        None,
        ge=0,
        description="Most tokens of what was left out that are repeated word for word because the question needs "
        "them; by default a quarter of `tokens`, 8,192 at most, in mode `aggressive` 4,096 at most.",
    )
    summary: ContextSummarySettings = Field(ContextSummarySettings(), description="In place of what is left out.")
    prompt_caching: bool = Field(
        True,
        description="Tell providers that must be told which beginning of a prompt will come again, so that they bill "
        "it as cached.",
    )


class ModelContextSettings(Section):
    """The same for one model; what is not said here is as in the top-level `context`."""

    mode: ContextMode | None = Field(None, description="As `context.mode`.")
    tokens: int | None = Field(None, ge=1, description="As `context.tokens`.")


def context_terms(common: ContextSettings, own: ModelContextSettings | None = None) -> ContextTerms:
    """Put together what the settings for all models and a model's own say."""
    own = own or ModelContextSettings()
    return ContextTerms(
        mode=own.mode or common.mode,
        tokens=own.tokens or common.tokens,
        summary_model=common.summary.model,
        summary_tokens=common.summary.tokens,
        recent_tokens=common.recent_tokens,
        excerpt_tokens=common.excerpt_tokens,
    )
