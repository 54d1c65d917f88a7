"""Settings of budgets."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from penstock.config.section import Section
from penstock.core.budget import Budget
from penstock.core.money import to_picodollars

MOST_USD, MOST_TOKENS = 5_000_000, 10**15
"""What databases' whole numbers have room for, in picodollars."""


class BudgetSettings(Section):
    """How much somebody's requests may cost in a period; what would cost more is refused."""

    scope: Literal["organisation", "team", "key"] = Field(description="What `subject` names.")
    subject: str = Field(
        min_length=1, max_length=200, description="An organisation, a tenant (`organisation/team`), or a key's id."
    )
    period: Literal["day", "month", "total"] = Field("month", description="Of the calendar in UTC, or for ever.")
    unit: Literal["usd", "tokens"] = Field("usd", description="What is counted.")
    amount: Decimal = Field(gt=0, le=MOST_TOKENS, description="US dollars, at most 5 million, or tokens.")
    soft: list[Annotated[float, Field(gt=0, le=1)]] = Field(
        [], max_length=20, description="Shares of the amount at which an event is raised, such as 0.8."
    )
    allow_unpriced: bool = Field(False, description="Allow models without a price; what they cost is not counted.")

    @model_validator(mode="after")
    def _counts(self) -> Self:
        if self.unit == "tokens" and self.amount % 1:
            raise ValueError(f"expected whole tokens, not {self.amount}")
        if self.unit == "usd" and self.amount > MOST_USD:
            raise ValueError(f"expected at most {MOST_USD} dollars")
        return self

    @property
    def id(self) -> str:
        """Its name in the store; what was spent stays when the rest is changed."""
        return f"config:{self.scope}:{self.subject}:{self.period}:{self.unit}"


def each_once(budgets: Sequence[BudgetSettings]) -> None:
    """Refuse two budgets that nothing tells apart.

    Raises:
        ValueError: There are two of a scope, subject, period and unit.
    """
    names = [budget.id.removeprefix("config:") for budget in budgets]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"expected each scope, subject, period and unit once; {twice} is there twice")


def configured(budgets: Sequence[BudgetSettings]) -> list[Budget]:
    """Return the budgets that the settings ask for."""
    return [
        Budget(
            each.id, each.scope, each.subject, each.period, each.unit, amount_of(each.unit, each.amount),
            tuple(sorted(each.soft)), each.allow_unpriced, configured=True,
        )
        for each in budgets
    ]  # fmt: skip


def amount_of(unit: str, amount: Decimal) -> int:
    """Return an amount of dollars in picodollars, one of tokens as it is."""
    return int(amount) if unit == "tokens" else to_picodollars(amount)
