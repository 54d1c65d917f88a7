"""How signals are classified: rules, the small model's filter, the large model."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any

from lead_engine.penstock_config import LARGE, SMALL
from lead_engine.prompts import CLASSIFY, PREFILTER
from lead_engine.settings import Settings
from penstock import AsyncClient, Classifier, Gate, ModelStage, Rules

CATEGORIES = ("hiring", "agency_search", "growth", "funding", "rebranding", "other")
DROPPED = "not_relevant"
"""The category of what a stage drops."""
RULES, PREFILTER_STAGE, CLASSIFIER_STAGE = "rules", "prefilter", "classifier"
FIELDS: dict[str, dict[str, Any]] = {
    "urgency": {"type": "string", "enum": ["low", "medium", "high"]},
    "company": {"type": ["string", "null"]},
}
NOISE = ("unsubscribe", "newsletter", "out of office", "lottery", "cookie policy", "delivery status notification")
_CHARS_PER_TOKEN = 3
"""Of text, at the fewest for most languages: a window that is too small would cut the signal."""

Options = Callable[[str], dict[str, Any]]


def make_classifier(client: AsyncClient, settings: Settings) -> Classifier:
    """Make what classifies signals."""
    version = f"@{settings.prompt_version}" if settings.prompt_version else ""
    large = ModelStage(
        LARGE,
        name=CLASSIFIER_STAGE,
        prompt=f"{CLASSIFY}{version}",
        options=_options(settings, settings.classification_max_tokens, compared=settings.prompt_experiment is not None),
    )
    stages: list[Rules | ModelStage] = [large]
    if settings.enable_multi_stage:
        gate = Gate(settings.prefilter_score_threshold, settings.prefilter_accept_threshold)
        options = _options(settings, settings.prefilter_max_tokens)
        small = ModelStage(SMALL, name=PREFILTER_STAGE, prompt=PREFILTER, verify=gate, fields={}, options=options)
        rules = [Rules(keywords={DROPPED: NOISE}, name=RULES)] if settings.enable_rules else []
        stages = [*rules, small, large]
    return Classifier(client, stages=stages, labels=CATEGORIES, dropped=DROPPED, fields=FIELDS, tags=["classify"])


def window(settings: Settings, text: str, answer_tokens: int) -> int:
    """Return the smallest context window that holds a signal, doubling from the smallest: each size loads anew."""
    needed = settings.context_window_overhead + len(text) // _CHARS_PER_TOKEN + answer_tokens
    size = settings.context_window_min
    while size < min(needed, settings.context_window_max):
        size *= 2
    return min(size, settings.context_window_max)


def longest_text(settings: Settings) -> int:
    """How many characters of a signal fit the largest window."""
    room = settings.context_window_max - settings.context_window_overhead - settings.classification_max_tokens
    return max(room, 0) * _CHARS_PER_TOKEN


def _options(settings: Settings, answer_tokens: int, *, compared: bool = False) -> Options:
    fitted = settings.enable_dynamic_context and settings.provider == "ollama"

    def options(text: str) -> dict[str, Any]:
        said: dict[str, Any] = {"temperature": settings.classification_temperature, "max_tokens": answer_tokens}
        if fitted:
            said["num_ctx"] = window(settings, text, answer_tokens)
        if compared:  # the same signal always gets the same version
            said["unit"] = sha256(text.encode()).hexdigest()
        return said

    return options
