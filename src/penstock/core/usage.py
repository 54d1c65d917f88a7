"""Token counts of one model call."""

from __future__ import annotations

from typing import Literal

import msgspec

UsageSource = Literal["provider", "estimate", "calibrated"]

_USUAL_TIERS = frozenset({"auto", "default", "standard"})


class Usage(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Tokens of one call; every count includes its parts.

    Attributes:
        input_tokens: All prompt tokens, cached ones, audio and images included.
        output_tokens: All generated tokens, reasoning, audio and images included.
        cached_input_tokens: Part of the input read from the provider's prompt cache.
        cache_write_tokens: Part of the input written to the provider's prompt cache.
        reasoning_tokens: Part of the output that is hidden reasoning.
        source: Who counted: the provider (``provider``), or Penstock, by rules of thumb (``estimate``) or by those
            corrected with what the provider reported of earlier calls (``calibrated``).
        cache_write_1h_tokens: Part of the cache write that is kept for an hour instead of minutes (Anthropic).
        input_audio_tokens: Part of the input that is audio.
        cached_audio_tokens: Part of the audio input read from the prompt cache, also in `cached_input_tokens`.
        output_audio_tokens: Part of the output that is audio.
        input_image_tokens: Part of the input that is images.
        cached_image_tokens: Part of the images read from the prompt cache, also in `cached_input_tokens`.
        output_image_tokens: Part of the output that is images.
        input_video_tokens: Part of the input that is video.
        cached_video_tokens: Part of the video read from the prompt cache, also in `cached_input_tokens`.
        web_searches: Searches the provider made for the answer, which it bills apart.
        service_tier: The provider's word for the tier that served the call, as ``flex`` or ``priority``; empty for the
            usual one.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    source: UsageSource = "provider"
    cache_write_1h_tokens: int = 0
    input_audio_tokens: int = 0
    cached_audio_tokens: int = 0
    output_audio_tokens: int = 0
    input_image_tokens: int = 0
    cached_image_tokens: int = 0
    output_image_tokens: int = 0
    input_video_tokens: int = 0
    cached_video_tokens: int = 0
    web_searches: int = 0
    service_tier: str = ""

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens


def unusual_tier(name: object) -> str:
    """Return a service tier's name, or nothing for the usual ones, which have the usual price."""
    return name if isinstance(name, str) and name not in _USUAL_TIERS else ""
