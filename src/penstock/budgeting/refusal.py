"""What somebody hears whose budgets do not allow a request."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from penstock.budgeting.bill import Bill
from penstock.budgeting.purse import Purse
from penstock.core.errors import BudgetExceeded

_RETRY_S = 2.0
"""When to come back if others that are under way hold what is left."""


def refusal(bills: Sequence[tuple[Purse, Bill]], today: float) -> BudgetExceeded:
    """Return the error for a request that costs `bills`: about the budget that is short for longest.

    Args:
        bills: What it costs in each of its budgets, at least one.
        today: Now, in seconds since the epoch.
    """
    short = [(purse, each.least) for purse, each in bills if purse.free + purse.left < each.least]
    purse, least = max(short or [(bills[0][0], bills[0][1].least)], key=lambda each: each[0].end)
    budget, ends = purse.budget, purse.end
    resets = "it does not reset" if ends == float("inf") else f"it resets at {_iso(ends)}"
    said = (
        f"{budget.name[0].upper()}{budget.name[1:]} does not allow this request: {budget.shown(purse.spent)} of "
        f"{budget.shown(budget.amount)} is spent, and it may cost {budget.shown(least)} or more; {resets}."
    )
    retry_after = None if ends == float("inf") else max(ends - today, 1.0)
    if purse.spent + least <= budget.amount:
        said += " Requests under way hold the rest; what they do not need will be free when they end."
        retry_after = _RETRY_S
    return BudgetExceeded(said, retry_after=retry_after)


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%MZ")
