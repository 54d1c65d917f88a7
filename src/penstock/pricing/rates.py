"""What one token, request or search costs, and what a call's counts come to: exact decimal arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType

import msgspec

from penstock.core.usage import Usage

PARENTS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "input": (),
    "cached_input": ("input",),
    "cache_write": ("input",),
    "cache_write_1h": ("cache_write", "input"),
    "input_audio": ("input",),
    "cached_audio": ("cached_input", "input_audio", "input"),
    "input_image": ("input",),
    "cached_image": ("cached_input", "input_image", "input"),
    "input_video": ("input",),
    "cached_video": ("cached_input", "input_video", "input"),
    "output": (),
    "reasoning": ("output",),
    "output_audio": ("output",),
    "output_image": ("output",),
    "search": (),
})  # fmt: skip
"""The kinds of things billed, in the order of `counts`, each with those whose price applies when it has none."""

_NOTHING = Decimal(0)
_INPUT, _OUTPUT = (tuple(PARENTS).index(kind) for kind in ("input", "output"))


class Rates(msgspec.Struct, frozen=True):
    """USD for one of each.

    Attributes:
        above: The rates apply to requests with more input tokens than this, to all of their tokens.
        each: USD per token (or search) by kind, in the order of `PARENTS`; None where no price is known.
        request: USD per request.
    """

    above: int
    each: tuple[Decimal | None, ...]
    request: Decimal = _NOTHING

    def amount(self, usage: Usage) -> Decimal | None:
        """Return what `usage` costs in USD; None when some of it has no price, since that is not the same as free."""
        each, total = self.each, self.request
        given, made = usage.input_tokens, usage.output_tokens
        input_, output = each[_INPUT], each[_OUTPUT]
        plain = not (  # as it is for many calls: `counts` has nothing but input and output
            usage.cached_input_tokens
            or usage.reasoning_tokens
            or usage.cache_write_tokens
            or usage.cache_write_1h_tokens
            or usage.input_audio_tokens
            or usage.cached_audio_tokens
            or usage.output_audio_tokens
            or usage.input_image_tokens
            or usage.cached_image_tokens
            or usage.output_image_tokens
            or usage.input_video_tokens
            or usage.cached_video_tokens
            or usage.web_searches
        )
        if plain and input_ is not None and output is not None:
            if given > 0:
                total += input_ * given
            if made > 0:
                total += output * made
            return total
        for count, rate in zip(counts(usage), each, strict=True):
            if count > 0:
                if rate is None:
                    return None
                total += rate * count
        return total

    def parts(self, usage: Usage) -> dict[str, Decimal | None]:
        """Return what each kind of `usage` costs in USD, None where it has no price; their sum is `amount`."""
        parts: dict[str, Decimal | None] = {
            kind: None if rate is None else rate * count
            for kind, count, rate in zip(PARENTS, counts(usage), self.each, strict=True)
            if count > 0
        }
        return {**parts, "request": self.request} if self.request else parts


def rates(above: int, prices: Mapping[str, Decimal], request: Decimal = _NOTHING) -> Rates:
    """Make rates of USD per token by kind; what has no price takes its parent's."""
    return Rates(above, tuple(_find(kind, prices) for kind in PARENTS), request)


def counts(usage: Usage) -> tuple[int, ...]:
    """Divide the counts so that no token is in two kinds, in the order of `PARENTS`.

    Providers' counts may contradict each other; a kind that would be negative costs nothing.
    """
    cached, write, reasoning = usage.cached_input_tokens, usage.cache_write_tokens, usage.reasoning_tokens
    hour, audio, cached_audio = usage.cache_write_1h_tokens, usage.input_audio_tokens, usage.cached_audio_tokens
    image, cached_image = usage.input_image_tokens, usage.cached_image_tokens
    video, cached_video = usage.input_video_tokens, usage.cached_video_tokens
    said_audio, said_image = usage.output_audio_tokens, usage.output_image_tokens
    fresh_audio, fresh_image, fresh_video = audio - cached_audio, image - cached_image, video - cached_video
    return (
        usage.input_tokens - cached - write - fresh_audio - fresh_image - fresh_video,
        cached - cached_audio - cached_image - cached_video,
        write - hour,
        hour,
        fresh_audio,
        cached_audio,
        fresh_image,
        cached_image,
        fresh_video,
        cached_video,
        usage.output_tokens - reasoning - said_audio - said_image,
        reasoning,
        said_audio,
        said_image,
        usage.web_searches,
    )


def _find(kind: str, prices: Mapping[str, Decimal]) -> Decimal | None:
    return next((prices[name] for name in (kind, *PARENTS[kind]) if name in prices), None)
