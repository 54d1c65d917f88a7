"""How many tokens a request will use, from what earlier ones of its model did."""

from __future__ import annotations

import math
from typing import Any

_UNKNOWN_OUTPUT = 256.0
"""Output tokens of a model nothing is known of."""
_NEW = 0.05
"""Weight of the newest observation once there are some."""
_SOME = 20
"""So many make a mean of which one has that weight."""
_LEAST_RATIO, _MOST_RATIO = 0.25, 4.0
"""By how much an estimate is taken to be off at most."""
_CAPS = ("max_completion_tokens", "max_tokens")


Tokens = tuple[float, float, float]
"""Predicted tokens of one request: input, output, and how many more output tokens are still usual."""


class Forecast:
    """Learns a model's mean output, and by how much estimates of its input are off."""

    __slots__ = ("_count", "_output", "_ratio", "_variance")

    def __init__(self) -> None:
        self._output = _UNKNOWN_OUTPUT
        self._variance = 0.0
        self._ratio = 1.0
        self._count = 0

    def predict(self, payload: dict[str, Any], estimated_input: int, *, generates: bool = True) -> Tokens:
        """Predict from a body in canonical form whose input is estimated at so many tokens.

        `max_tokens` caps the output of each of the `n` choices; an embedding generates none.
        """
        given, spread = estimated_input * self._ratio, 0.0
        if not generates:
            return given, 0.0, 0.0
        number = 1
        if "n" in payload:
            choices = payload["n"]
            number = choices if type(choices) is int and choices > 0 else 1
        output, most = self._output * number, math.inf
        for name in _CAPS:
            if name in payload:
                cap = payload[name]
                if type(cap) is int and 0 <= cap * number < most:
                    most = float(cap * number)
        if output >= most:
            output = most
        else:
            spread = math.sqrt(self._variance * number)
            if spread > most - output:
                spread = most - output
        return given, output, spread

    def learn(self, predicted_input: float, input_tokens: int, output_tokens: int) -> None:
        """A request used so many; 0 as `predicted_input` says nothing about estimates."""
        weight = _NEW
        if self._count < _SOME:
            self._count += 1
            weight = 1 / self._count
        output = self._output
        off = output_tokens - output
        self._output = output + weight * off
        if self._count > 1:
            self._variance += weight * (off * off - self._variance)
        if predicted_input > 0 and input_tokens > 0:
            known = self._ratio
            ratio = input_tokens / (predicted_input / known)
            if ratio < _LEAST_RATIO:
                ratio = _LEAST_RATIO
            elif ratio > _MOST_RATIO:
                ratio = _MOST_RATIO
            self._ratio = known + weight * (ratio - known)
