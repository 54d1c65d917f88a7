"""Token counts of one model call."""

from __future__ import annotations

from typing import Literal

import msgspec


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one call; every count includes its parts.

    Attributes:
        input_tokens: All prompt tokens, cached ones included.
        output_tokens: All generated tokens, reasoning included.
        cached_input_tokens: Part of the input read from the provider's prompt cache.
        cache_write_tokens: Part of the input written to the provider's prompt cache.
        reasoning_tokens: Part of the output that is hidden reasoning.
        source: Whether the provider reported the counts or Penstock estimated them.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    source: Literal["provider", "estimate"] = "provider"

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens
