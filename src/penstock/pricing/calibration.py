"""Estimates that learn: how many tokens a model really counts for what `estimate` expects, from what providers report.

Kept in the process and bounded; a restart begins anew, since the ledger has no text to learn from.
"""

from __future__ import annotations

from penstock.core.usage import Usage
from penstock.pricing.estimate import ASCII_CHARS_PER_TOKEN

MAX_MODELS = 1024
"""Models remembered; those unheard of for longest are forgotten."""
ENOUGH = 5
"""Reports after which a model's estimates are corrected."""

_EAGER, _EVERY = 64, 16
"""Every report is learned from at first, then one of some: counting a long prompt takes time."""
_KEEP = 1 - 1 / 64
"""How much of what was learned stays with each report, so that a model that changes is followed."""
_STEP = 2.0
"""A report that is off by more than this factor counts as if it were by so much; images and tools are."""
_STIFF = 0.01
"""How much the rules of thumb, an offset of 0 and a slope of 1, weigh beside one report."""
_TYPICAL_TOKENS = 1000
"""An offset of so many tokens is held as unlikely as a slope that is off by 1."""
_MIN_TOKENS = 8
"""Shorter texts say nothing about the length of a token."""

Key = tuple[str, str]
"""A provider's name in the configuration, and its name for the model."""


class _Line:
    """Reported = offset + slope × estimated, by least squares of the relative error, the newest reports weighing most.

    The offset is what a provider adds to every prompt, as hidden instructions; an outlier moves the line little.
    """

    __slots__ = ("_u", "_v", "offset", "reports", "slope", "uu", "uv", "vv")

    def __init__(self) -> None:
        self.offset, self.slope, self.reports = 0.0, 1.0, 0
        # Of offset · u + slope · v = 1, where u = 1 / reported and v = estimated / reported.
        self.uu = self.uv = self.vv = self._u = self._v = 0.0

    def add(self, reported: int, estimated: int) -> None:
        self.reports += 1
        aim = float(reported)
        if self.reports > ENOUGH:
            expected = self.offset + self.slope * estimated
            aim = min(max(aim, expected / _STEP), expected * _STEP)
        u, v = 1 / aim, estimated / aim
        self.uu = self.uu * _KEEP + u * u
        self.uv = self.uv * _KEEP + u * v
        self.vv = self.vv * _KEEP + v * v
        self._u = self._u * _KEEP + u
        self._v = self._v * _KEEP + v
        self._solve()

    def correct(self, estimated: int) -> int:
        return max(round(self.offset + self.slope * estimated), 1) if estimated else 0

    def _solve(self) -> None:
        # Without reports of different sizes there is no telling offset from slope: no offset, then.
        uu, vv = self.uu + _STIFF / _TYPICAL_TOKENS**2, self.vv + _STIFF
        v = self._v + _STIFF
        determinant = uu * vv - self.uv * self.uv
        offset = (self._u * vv - v * self.uv) / determinant
        slope = (v * uu - self._u * self.uv) / determinant
        if offset < 0 or slope <= 0:
            offset, slope = 0.0, v / vv
        self.offset, self.slope = offset, slope


class _Model:
    __slots__ = ("given", "made", "reports")

    def __init__(self) -> None:
        self.given = _Line()
        self.made = _Line()
        self.reports = 0


class Calibration:
    """Estimates tokens, corrected for each model once its provider has reported enough of them."""

    def __init__(self) -> None:
        self._models: dict[Key, _Model] = {}

    def skip(self, key: Key) -> bool:
        """Count a report of a model without learning from it, if enough are learned from; else it is to be learned."""
        model = self._models.get(key)
        if model is None or model.reports < _EAGER or not (model.reports + 1) % _EVERY:
            return False
        model.reports += 1
        return True

    def learn(self, key: Key, given: int, usage: Usage, output_chars: int) -> None:
        """Compare what the provider counted with what would have been estimated.

        Args:
            key: The model.
            given: Input tokens of the request's body, as `penstock.pricing.estimate` counts them.
            usage: What the provider reported.
            output_chars: How many characters of answer came.
        """
        model = self._models.get(key)
        if model is None:
            if len(self._models) >= MAX_MODELS:
                del self._models[next(iter(self._models))]
            model = self._models[key] = _Model()
        model.reports += 1
        self._models[key] = self._models.pop(key)  # now the last to be forgotten
        if given >= _MIN_TOKENS and usage.input_tokens > 0:
            model.given.add(usage.input_tokens, given)
        text = usage.output_tokens - usage.reasoning_tokens - usage.output_audio_tokens - usage.output_image_tokens
        if output_chars >= _MIN_TOKENS * ASCII_CHARS_PER_TOKEN and text > 0:
            model.made.add(text, output_chars // ASCII_CHARS_PER_TOKEN)

    def correct(self, key: Key, given: int) -> int:
        """Return how many input tokens a model counts where so many are estimated, as far as it is known."""
        model = self._models.get(key)
        return given if model is None or model.given.reports < ENOUGH else model.given.correct(given)

    def estimate(self, key: Key | None, given: int, output_chars: int) -> Usage:
        """Estimate the usage of a call; its `source` says whether the model was known well enough to correct it.

        Args:
            key: The model; None when it is not decided yet, for an estimate that is not corrected.
            given: As for `learn`.
            output_chars: How many characters of answer came, 0 before there are any.
        """
        made = -(-output_chars // ASCII_CHARS_PER_TOKEN)
        model = None if key is None else self._models.get(key)
        if model is None or model.given.reports < ENOUGH or (output_chars and model.made.reports < ENOUGH):
            return Usage(given, made, source="estimate")
        return Usage(model.given.correct(given), model.made.correct(made), source="calibrated")

    def states(self) -> list[tuple[Key, int, float, float]]:
        """List the models with how many reports each had, and the tokens counted for 1,000 expected in and out."""
        return [
            (key, model.reports, model.given.correct(1000) / 1000, model.made.correct(1000) / 1000)
            for key, model in self._models.items()
        ]
