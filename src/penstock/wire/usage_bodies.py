"""Token counts in recorded answers of any provider, told apart by their shape."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from penstock.core.canonical import read_usage
from penstock.core.usage import Usage, unusual_tier
from penstock.wire.anthropic_messages import answer as anthropic

Path = tuple[str, ...]
"""Keys to follow; ``[X]`` picks the items of a list whose ``modality`` (or ``ttl``) is X, and adds them up."""


class Form(NamedTuple):
    """A way of reporting counts.

    Attributes:
        name: What it is called here.
        marks: Where the counts are, by keys; the body has this form when the last of them is there.
        counts: Paths from the counts, by field of `Usage`; what several lead to is added up.
    """

    name: str
    marks: tuple[Path, ...]
    counts: Mapping[str, tuple[Path, ...]] = MappingProxyType({})


def _by_modality(field: str, *modalities: str) -> tuple[Path, ...]:
    return tuple((field, f"[{each}]", "tokenCount") for each in modalities)


_IMAGES = ("IMAGE", "DOCUMENT")
"""Gemini counts the pages of documents like images, and bills them so."""

FORMS = (
    Form(
        "gemini",
        (("usageMetadata",),),
        {
            "input_tokens": (("promptTokenCount",), ("toolUsePromptTokenCount",)),
            "output_tokens": (("candidatesTokenCount",), ("thoughtsTokenCount",)),
            "cached_input_tokens": (("cachedContentTokenCount",),),
            "reasoning_tokens": (("thoughtsTokenCount",),),
            "input_audio_tokens": (
                *_by_modality("promptTokensDetails", "AUDIO"),
                *_by_modality("toolUsePromptTokensDetails", "AUDIO"),
            ),
            "cached_audio_tokens": _by_modality("cacheTokensDetails", "AUDIO"),
            "output_audio_tokens": _by_modality("candidatesTokensDetails", "AUDIO"),
            "input_image_tokens": _by_modality("promptTokensDetails", *_IMAGES),
            "cached_image_tokens": _by_modality("cacheTokensDetails", *_IMAGES),
            "output_image_tokens": _by_modality("candidatesTokensDetails", "IMAGE"),
            "input_video_tokens": _by_modality("promptTokensDetails", "VIDEO"),
            "cached_video_tokens": _by_modality("cacheTokensDetails", "VIDEO"),
        },
    ),
    Form(
        "bedrock",
        (("usage", "inputTokens"),),
        {
            "input_tokens": (("inputTokens",), ("cacheReadInputTokens",), ("cacheWriteInputTokens",)),
            "output_tokens": (("outputTokens",),),
            "cached_input_tokens": (("cacheReadInputTokens",),),
            "cache_write_tokens": (("cacheWriteInputTokens",),),
            "cache_write_1h_tokens": (("cacheDetails", "[1h]", "inputTokens"),),
        },
    ),
    Form(
        "cohere",
        (("usage", "billed_units"), ("meta", "billed_units")),
        {
            "input_tokens": (("billed_units", "input_tokens"),),
            "output_tokens": (("billed_units", "output_tokens"),),
        },
    ),
    Form(
        "responses",
        (("usage", "input_tokens_details"), ("usage", "output_tokens_details", "reasoning_tokens")),
        {
            "input_tokens": (("input_tokens",),),
            "output_tokens": (("output_tokens",),),
            "cached_input_tokens": (("input_tokens_details", "cached_tokens"),),
            "cache_write_tokens": (("input_tokens_details", "cache_write_tokens"),),
            "reasoning_tokens": (("output_tokens_details", "reasoning_tokens"),),
        },
    ),
    Form("anthropic", (("usage", "input_tokens"),)),
    Form("chat", (("usage", "prompt_tokens"),)),
    Form("ollama", (("prompt_eval_count",), ("eval_count",)), {
        "input_tokens": (("prompt_eval_count",),),
        "output_tokens": (("eval_count",),),
    }),
)  # fmt: skip
"""The first that fits counts."""


def find_form(body: Mapping[str, Any]) -> Form | None:
    """Return how an answer reports its counts, or None when it has none that are known."""
    return next((form for form in FORMS if any(_follow(body, mark) is not None for mark in form.marks)), None)


def read_body_usage(body: Mapping[str, Any]) -> Usage | None:
    """Read the token counts of a decoded answer.

    It may be one of OpenAI (chat, embeddings, responses), Anthropic, Gemini, Bedrock, Cohere or Ollama, or of a server
    that speaks like one of them.

    Returns:
        None when there are no counts, or they are no numbers.
    """
    form = find_form(body)
    if form is None:
        return None
    usage = _reported(body)
    try:
        if form.name == "chat":
            return read_usage(usage, body.get("service_tier"))
        if form.name == "anthropic":
            return anthropic.read_usage(msgspec.convert(usage, anthropic.UsageBody, strict=False))
        counts = {field: sum(_count(usage, path) for path in paths) for field, paths in form.counts.items()}
    except (TypeError, ValueError, AttributeError):
        return None
    tier = usage.get("serviceTier") or body.get("service_tier")
    return msgspec.structs.replace(
        Usage(), **counts, service_tier=unusual_tier(tier.lower() if isinstance(tier, str) else tier)
    )


def _reported(body: Mapping[str, Any]) -> dict[str, Any]:
    for name in ("usageMetadata", "usage", "meta"):
        if isinstance(found := body.get(name), dict):
            return found
    return dict(body)


def _follow(value: object, path: Path) -> object:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _count(value: object, path: Path) -> int:
    if not path:
        return int(value) if isinstance(value, int | float) else 0
    key, rest = path[0], path[1:]
    if key.startswith("["):
        items = value if isinstance(value, list) else ()
        chosen = [each for each in items if key[1:-1] in (_follow(each, ("modality",)), _follow(each, ("ttl",)))]
        return sum(_count(each, rest) for each in chosen)
    return _count(value.get(key), rest) if isinstance(value, Mapping) else 0
