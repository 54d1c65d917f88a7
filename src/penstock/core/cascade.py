"""Several models behind one name, the cheapest first; and rules that answer without a model."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from penstock.core.route import Route


class FilterRule(msgspec.Struct, frozen=True):
    """What a question may have in it.

    Attributes:
        words: Words and phrases, in any case; one of them is enough.
        pattern: A regular expression, found anywhere.
        score: What it counts for; negative counts against.
    """

    words: tuple[str, ...] = ()
    pattern: str = ""
    score: float = 1.0


class Filter(msgspec.Struct, frozen=True):
    """A decision without a model; it applies when the scores of the rules that fit add up to what is said.

    Attributes:
        rules: What is looked for.
        at_least: It applies from this sum on;
        below: or under this one.
        answer: What is answered then; empty to go on with another stage.
        skip_to: The name of that stage; empty with an answer.
    """

    rules: tuple[FilterRule, ...]
    at_least: float | None = None
    below: float | None = None
    answer: str = ""
    skip_to: str = ""


class Stage(msgspec.Struct, frozen=True):
    """One step; either a filter or a model.

    Attributes:
        name: What it is called, for records; of a model its name.
        filter: What decides without a model.
        route: Where the model is.
    """

    name: str
    filter: Filter | None = None
    route: Route | None = None

    @property
    def leg(self) -> Route:
        """The route of its model."""
        if self.route is None:
            raise AssertionError(f"stage {self.name} has no model")
        return self.route


class Cascade(msgspec.Struct, frozen=True):
    """Stages, and on what terms an answer of an earlier one is given.

    Attributes:
        stages: In order; the last one is a model, whose answers are what the others' are measured by.
        max_error: Requests answered by an earlier model, and worse than the last one would have, ÷ all requests.
        confidence: With which probability that is kept.
        audits: Share of the requests that all models are asked, to learn from.
        loss_usd: What a worse answer costs whoever asked, in dollars; 0 saves all that `max_error` allows.
    """

    stages: tuple[Stage, ...]
    max_error: float = 0.02
    confidence: float = 0.95
    audits: float = 0.05
    loss_usd: Decimal = Decimal(0)
