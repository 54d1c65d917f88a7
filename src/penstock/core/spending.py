"""What all model calls of one piece of work may take together: a deadline, and an amount of money."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

IN_FORCE: ContextVar[Spending | None] = ContextVar("penstock_spending", default=None)
"""What the calls of the running task count towards."""


@contextmanager
def apart() -> Iterator[None]:
    """Begin tasks that do not count towards what is in force."""
    token = IN_FORCE.set(None)
    try:
        yield
    finally:
        IN_FORCE.reset(token)


class Spending:
    """A deadline and a budget, and what has become of it.

    Attributes:
        deadline: When the time is over, on `Clock.monotonic`; None for no limit.
        limit_pusd: What may be spent, picodollars; None for no limit.
        spent_pusd: What calls that have ended cost.
        held_pusd: What calls under way are expected to cost.
        unpriced: Calls whose cost is unknown, so not in `spent_pusd`.
        outer: What this is a part of; its limits hold too.
    """

    __slots__ = ("deadline", "held_pusd", "limit_pusd", "outer", "spent_pusd", "unpriced")

    def __init__(
        self, *, deadline: float | None = None, limit_pusd: int | None = None, outer: Spending | None = None
    ) -> None:
        """Begin with nothing spent; a deadline later than that of `outer` is no later."""
        further = None if outer is None else outer.deadline
        self.deadline: float | None = min((each for each in (deadline, further) if each is not None), default=None)
        self.limit_pusd = limit_pusd
        self.outer = outer
        self.spent_pusd = 0
        self.held_pusd = 0
        self.unpriced = 0

    @property
    def limited(self) -> bool:
        """Whether money is limited, here or further out."""
        return self.limit_pusd is not None or (self.outer is not None and self.outer.limited)

    def short(self, amount: int) -> Spending | None:
        """Return the innermost of these that has less than `amount` left; None when all have enough."""
        if self.limit_pusd is not None and self.spent_pusd + self.held_pusd + amount > self.limit_pusd:
            return self
        return self.outer.short(amount) if self.outer is not None else None

    def hold(self, amount: int) -> None:
        """Keep `amount` for a call that begins."""
        self.held_pusd += amount
        if self.outer is not None:
            self.outer.hold(amount)

    def settle(self, held: int, cost: int, *, unpriced: int = 0) -> None:
        """Let what a call cost take the place of what was held for it."""
        self.held_pusd -= held
        self.spent_pusd += cost
        self.unpriced += unpriced
        if self.outer is not None:
            self.outer.settle(held, cost, unpriced=unpriced)
