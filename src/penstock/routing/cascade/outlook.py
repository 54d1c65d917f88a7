"""Which quality to expect of a cheap answer that nobody has asked for yet."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

import msgspec

_GROUPS, _LEAST = 5, 10
_DIGITS = 3


class Outlook(msgspec.Struct, frozen=True):
    """Qualities that were seen, in groups by the prospect of the prompt.

    Attributes:
        bounds: Prospects between one group and the next, rising.
        qualities: Those of each group, one more group than bounds.
    """

    bounds: tuple[float, ...]
    qualities: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, seen: Iterable[tuple[float, float]]) -> Outlook | None:
        """Group pairs of prospect and quality; None if there are too few.

        Args:
            seen: Of requests drawn at random.
        """
        pairs = list(seen)
        groups = min(_GROUPS, len(pairs) // _LEAST)
        if not groups:
            return None
        rising = sorted(prospect for prospect, _ in pairs)
        cuts = {rising[len(rising) * number // groups] for number in range(1, groups)}
        bounds = tuple(sorted(cuts - {rising[0]}))
        found: list[list[float]] = [[] for _ in range(len(bounds) + 1)]
        for prospect, quality in pairs:
            found[bisect_right(bounds, prospect)].append(round(quality, 3))
        return cls(bounds, tuple(map(tuple, found)))

    def saving(self, prospect: float, threshold: float, large_usd: float, loss_usd: float) -> float:
        """Return the dollars that asking the cheap model first can be expected to save, its own cost not counted.

        Args:
            prospect: Of the prompt.
            threshold: From which quality on its answer is served.
            large_usd: What the large model costs.
            loss_usd: What a lost request costs.
        """
        qualities = self.qualities[bisect_right(self.bounds, prospect)]
        least = round(threshold, _DIGITS)  # as they are, or what is served at the threshold would not count
        served = [large_usd - loss_usd * (1.0 - quality) for quality in qualities if quality >= least]
        return sum(served) / len(qualities)
