"""What a process has of one budget, and which budgets pay for a request."""

from __future__ import annotations

import asyncio

from penstock.budgeting.periods import end_of
from penstock.core.budget import Budget

_DRY_S = 0.2
"""How long what the store had is believed when that was too little: refusals need not ask it each time."""


class Purse:
    """What this process has of one period of a budget.

    Attributes:
        budget: Which.
        start: When the period began.
        end: When it ends.
        free: What may be reserved without asking.
        left: What the store had beside that when it was asked last.
        spent: What was spent when it was asked last.
        running: Requests that have reserved something.
        tight: The limit is near: what is not needed goes back at once, for others to have.
        used_at: When it was last used, on `Clock.monotonic`.
        refused_at: When the store had too little, on the same clock.
    """

    __slots__ = ("budget", "end", "free", "left", "refused_at", "running", "spent", "start", "tight", "used_at")

    def __init__(self, budget: Budget, start: int) -> None:
        self.budget = budget
        self.start = start
        self.end = end_of(budget.period, start)
        self.free = 0
        self.left = 0
        self.spent = 0
        self.running = 0
        self.tight = False
        self.used_at = 0.0
        self.refused_at = float("-inf")

    def dry(self, least: int, now: float) -> bool:
        """Whether there was not so much to be had just now."""
        return self.free + self.left < least and now - self.refused_at < _DRY_S


Held = tuple[Purse, int]
"""What a request has reserved of a purse."""


class Group:
    """The purses of everything that requests of one tenant by one key fall under.

    Attributes:
        purses: One for each budget.
        lock: Held by the one request of them that asks the store.
        begins: From when on these are the periods, seconds since the epoch.
        ends: When one of the periods is over.
        dollars: Whether one of the budgets is in dollars.
        tokens: Whether one of them is in tokens.
        strict: One of those that do not allow models without a price; None if there is none.
    """

    __slots__ = ("begins", "dollars", "ends", "lock", "purses", "strict", "tokens")

    def __init__(self, purses: list[Purse]) -> None:
        self.purses = purses
        self.lock = asyncio.Lock()
        self.begins = max((float(purse.start) for purse in purses), default=0.0)
        self.ends = min((purse.end for purse in purses), default=float("inf"))
        dollars = [purse.budget for purse in purses if purse.budget.unit == "usd"]
        self.dollars = bool(dollars)
        self.tokens = len(dollars) < len(purses)
        self.strict = next((budget for budget in dollars if not budget.allow_unpriced), None)
