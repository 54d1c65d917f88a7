"""What one request costs in a cascade, who answered it, and why."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from penstock.cascading.auditor import cost_of
from penstock.cascading.known import Known
from penstock.core.cascade import Cascade, Stage
from penstock.core.money import to_picodollars
from penstock.core.request import Request
from penstock.core.route import Route
from penstock.core.usage import Usage
from penstock.limiting.forecast import Forecast

Price = Callable[[Route, Usage], Decimal | None]
"""What a route's first target charges for tokens; None if that is not known, or not yet."""


class Account:
    """The account of one request.

    Attributes:
        asked: How many models were.
        reason: Why the stage that answers does.
        quality: The probability that the last earlier answer loses nothing; None if there is none.
    """

    def __init__(
        self, request: Request, cascade: Cascade, known: Known, forecast: Forecast, price: Price, inputs: int
    ) -> None:
        """`forecast` knows how long the cascade's answers are, `inputs` how many tokens the request has."""
        self.asked = 0
        self.reason = "passed"
        self.quality: float | None = None
        self._call = request.call
        self._payload = request.payload
        self._last = cascade.stages[-1]
        self._known = known
        self._forecast = forecast
        self._price = price
        self._inputs = inputs
        self._first_attempt = len(request.call.attempts)

    def expected_usd(self, stage: Stage) -> Decimal | None:
        """Return what asking the model of `stage` will cost; answers of all are taken to be of one length."""
        given, made, _ = self._forecast.predict(self._payload, self._inputs)
        return self._price(stage.leg, Usage(round(given), round(made)))

    def learn(self, usage: Usage | None) -> None:
        """A model used so many tokens."""
        if usage is not None:
            self._forecast.learn(float(self._inputs), usage.input_tokens, usage.output_tokens)

    def close(self, stage: Stage, usage: Usage | None) -> None:
        """Count who answered; `usage` is what the last model has used, or would have, None if nobody can say."""
        counts = self._known.counts
        self._known.news = True
        counts.requests += 1
        counts.stages[stage.name] = counts.stages.get(stage.name, 0) + 1
        counts.escalated += stage is self._last and self.asked > 1
        counts.uncertified += self.reason in ("uncertified", "drifted")
        if not self.asked:
            return
        spent = cost_of(self._call, self._first_attempt)
        spared = None if usage is None else self._price(self._last.leg, usage)
        if spent is None or spared is None:
            counts.unpriced += 1
        else:
            counts.saved_pusd += to_picodollars(spared) - spent

    def note(self, stage: Stage) -> None:
        """Say it on the call, in the terms of RFC 9651: members of a dictionary."""
        said = f"reason={self.reason}, calls={self.asked}"
        if self.quality is not None:
            said += f", quality={self.quality:.3f}"
        self._call.stage, self._call.verdict = stage.name, said
