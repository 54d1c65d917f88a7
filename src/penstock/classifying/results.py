"""What stages say, what is decided about it, and what comes of a text."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Literal

import msgspec

Decision = Literal["accept", "drop", "pass"]


class Opinion(msgspec.Struct, frozen=True):
    """What a stage says of a text.

    Attributes:
        label: The class.
        score: 0 to 100: how sure the stage is, unless its instructions ask for something else, as a relevance.
        fields: What else was asked for.
    """

    label: str
    score: float | None = None
    fields: dict[str, Any] = {}


Verify = Callable[[Opinion], Decision]
"""Decides about a stage's opinion: take it, drop the text, or pass it on to the next stage."""


def accept(opinion: Opinion) -> Decision:
    """Take whatever the stage says."""
    return "accept"


class Gate(msgspec.Struct, frozen=True):
    """Decides by the score; without one the text is passed on.

    Attributes:
        drop_below: Texts with a lower score are dropped: no later stage sees them.
        accept_from: With at least this score the stage's word is taken; by default it never is.
    """

    drop_below: float | None = None
    accept_from: float | None = None

    def __call__(self, opinion: Opinion) -> Decision:
        """Decide."""
        if opinion.score is None:
            return "pass"
        if self.drop_below is not None and opinion.score < self.drop_below:
            return "drop"
        return "accept" if self.accept_from is not None and opinion.score >= self.accept_from else "pass"


class Step(msgspec.Struct, frozen=True):
    """What one stage did.

    Attributes:
        stage: Its name.
        decision: What became of its opinion; ``failed`` when it had none.
        opinion: What it said; None when it failed.
        model_calls: Model calls that were sent; 0 for rules, and for answers from a cache.
        cached: A model's answer came from a cache.
        repaired: The model's first answer could not be used.
        cost_usd: What the calls cost; None when the price is not known.
        error: Why it failed.
        request_id: The last call's id in the record, for `AsyncClient.score`; empty for rules.
        prompt: The stored prompt it was made from, as ``NAME@VERSION``; empty without one.
        degraded: Why its answers are not the best possible ones, as `Answer.degraded`; empty when nothing went wrong.
    """

    stage: str
    decision: Decision | Literal["failed"]
    opinion: Opinion | None = None
    model_calls: int = 0
    cached: bool = False
    repaired: bool = False
    cost_usd: Decimal | None = Decimal(0)
    error: Exception | None = None
    request_id: str = ""
    prompt: str = ""
    degraded: tuple[str, ...] = ()


class Classification(msgspec.Struct, frozen=True):
    """What came of a text.

    Attributes:
        label: The class; the classifier's `dropped` for a text that was dropped, None for one that failed.
        score: As the stage gave it, 0 to 100.
        stage: The stage that decided; empty when all failed.
        fields: What else was asked for, as that stage gave it.
        dropped: A stage dropped it.
        steps: All stages that looked at it, in order.
        seconds: How long it took.
        error: Why there is no label.
    """

    label: str | None
    score: float | None = None
    stage: str = ""
    fields: dict[str, Any] = {}
    dropped: bool = False
    steps: tuple[Step, ...] = ()
    seconds: float = 0.0
    error: Exception | None = None

    @property
    def cost_usd(self) -> Decimal | None:
        """What all model calls cost; None when the price of one is not known."""
        costs = [step.cost_usd for step in self.steps]
        return None if None in costs else sum((cost for cost in costs if cost is not None), Decimal(0))

    @property
    def model_calls(self) -> int:
        """Model calls that were sent."""
        return sum(step.model_calls for step in self.steps)

    @property
    def request_id(self) -> str:
        """The last model call's id in the record; empty when no model was asked."""
        return next((step.request_id for step in reversed(self.steps) if step.request_id), "")

    @property
    def cached(self) -> bool:
        """Models were asked, and all their answers came from a cache."""
        return any(step.cached for step in self.steps) and not self.model_calls


class Partial(msgspec.Struct, frozen=True):
    """What a model has said so far.

    Attributes:
        stage: The stage that is being asked.
        value: The object so far; it grows, so copy what you keep.
        fields: Its members that are complete.
    """

    stage: str
    value: dict[str, Any]
    fields: dict[str, Any]


class Progress(msgspec.Struct, frozen=True):
    """How far a batch is.

    Attributes:
        done: Texts that are finished, failed ones included.
        total: All texts.
        failed: Texts without a label.
        cost_usd: What it cost so far; None when a price is not known.
    """

    done: int
    total: int
    failed: int
    cost_usd: Decimal | None
