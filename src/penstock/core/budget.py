"""What somebody may spend, and what has become of it."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal, NamedTuple

import msgspec

from penstock.core.alert import AlertEvent
from penstock.core.money import to_usd

Scope = Literal["organisation", "team", "key"]
Period = Literal["day", "month", "total"]
Unit = Literal["usd", "tokens"]


class Budget(msgspec.Struct, frozen=True):
    """How much all requests of a subject may cost together in a period.

    Attributes:
        id: Its name in the store and in APIs.
        scope: What `subject` names.
        subject: An organisation, a tenant (``organisation/team``), or a key's id.
        period: ``day`` and ``month`` of the calendar in UTC, or ``total`` for ever.
        unit: What is counted.
        amount: The limit, in picodollars or tokens.
        soft: Shares of the amount at which an event is raised, once a period.
        allow_unpriced: A model whose price is unknown may be asked; what it costs is not counted, only that it was.
        created_at: Seconds since the epoch.
        configured: It comes from the configuration file, so only that can change it.
    """

    id: str
    scope: Scope
    subject: str
    period: Period
    unit: Unit
    amount: int
    soft: tuple[float, ...] = ()
    allow_unpriced: bool = False
    created_at: float = 0.0
    configured: bool = False

    @property
    def name(self) -> str:
        """How messages call it, e.g. ``the daily budget of team 'acme/search'``."""
        words = {"day": "daily ", "month": "monthly ", "total": ""}
        return f"the {words[self.period]}budget of {self.scope} '{self.subject}'"

    def shown(self, amount: int) -> str:
        """Return an amount in words, e.g. ``$1.50`` or ``2000 tokens``."""
        if self.unit == "tokens":
            return f"{amount} tokens"
        usd = to_usd(amount).normalize()
        return f"${max(usd, usd.quantize(Decimal('0.01')), key=lambda each: -int(each.as_tuple().exponent)):f}"


class BudgetState(NamedTuple):
    """One period of a budget.

    Attributes:
        start: When it began, seconds since the epoch; 0 for ``total``.
        spent: What calls in the ledger have cost.
        held: What processes hold for calls under way, or to come.
        unpriced: Calls whose cost is unknown, so not in `spent`.
    """

    start: int
    spent: int = 0
    held: int = 0
    unpriced: int = 0


class Ask(NamedTuple):
    """What a process wants of one budget for one request.

    Attributes:
        budget: Which.
        start: Which period.
        least: Without so much the request cannot be sent.
        likely: What it costs at most as a rule.
        most: What it can cost.
        free: What the process has at hand.
    """

    budget: Budget
    start: int
    least: int
    likely: int
    most: int
    free: int


class Granted(NamedTuple):
    """What a process was given: an amount, what is left for everybody after that, and what is spent so far."""

    amount: int
    left: int
    spent: int


class Move(NamedTuple):
    """A part of what a process holds that becomes spent when its call is in the ledger."""

    budget_id: str
    start: int
    amount: int


class BudgetEvent(NamedTuple):
    """A share of a budget was spent for the first time in its period, at a time in seconds since the epoch."""

    budget: Budget
    share: float
    spent: int
    at: float

    def alert(self) -> AlertEvent:
        """Return the same as an alert, in the budget's unit."""
        budget, usd = self.budget, self.budget.unit == "usd"
        spent, amount = (float(to_usd(each)) if usd else float(each) for each in (self.spent, budget.amount))
        return AlertEvent(
            f"budget:{budget.id}", "firing", "critical" if self.share >= 1 else "warning", self.at, spent,
            self.share * amount, self.message,
        )  # fmt: skip

    @property
    def message(self) -> str:
        """It in words."""
        budget = self.budget
        if self.share >= 1:
            return f"{budget.name} is used up: {budget.shown(self.spent)} of {budget.shown(budget.amount)} is spent"
        return (
            f"{budget.name}: {budget.shown(self.spent)} of {budget.shown(budget.amount)} is spent, more than "
            f"{self.share:.0%}"
        )


class Allowance(msgspec.Struct, frozen=True, gc=False):
    """What a call's budgets allowed it.

    Attributes:
        capped: To how many tokens its answer was limited because of them; None if they did not.
        remaining_pusd: Picodollars left of the tightest dollar budget when it was sent; None without one.
        remaining_tokens: The same of token budgets.
    """

    capped: int | None = None
    remaining_pusd: int | None = None
    remaining_tokens: int | None = None
