"""What a request may cost at most and as a rule, and how many tokens of answer an amount pays for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from penstock.core.budget import Ask, Granted

SHARE = 64
"""While a request's hard bound is less than this part of what is left, its budget is far from its limit."""
LEASE = 32
"""Part of what is left that a process takes at a time while its budget is far from its limit."""
ASSUMED_OUTPUT = 16_384
"""Tokens one choice of a request without a cap is taken to need at most, while its budget is far from its limit."""
LARGEST_CAP = 4096
"""The largest cap that is set where the client set none: models refuse caps larger than they can do."""
SMALLEST_CAP = 16
"""Fewer tokens than this are no answer."""
BYTES_PER_ESTIMATE = 4
"""A token is at least a byte, and estimates count at most four bytes a token."""
_BESIDE, _BESIDE_TOOLS = 16, 512
"""Tokens providers add to a prompt, and to one with tools."""


class Rate(NamedTuple):
    """What one of each costs, in picodollars or tokens, rounded up.

    Attributes:
        input: A token of the prompt.
        input_most: The dearest kind of token of the prompt.
        output: The dearest kind of token of the answer.
        fixed: The request.
    """

    input: int
    input_most: int
    output: int
    fixed: int


PER_TOKEN = Rate(1, 1, 1, 0)
"""For budgets in tokens."""


class Cost(NamedTuple):
    """What requests by one route cost at most, in a budget's unit, to be multiplied by their size.

    Attributes:
        estimate: A token of the prompt, as estimated without calibration.
        bare: Any request beside that.
        tools: Any request with tools, in place of `bare`.
        answer: A token of the cap, for each choice.
    """

    estimate: int
    bare: int
    tools: int
    answer: int


Size = tuple[int, int | None, int, bool]
"""A request in tokens: those of its prompt, as estimated without calibration; what the client allows one choice, None
if it does not say; how many choices it asks for, 0 for embeddings; and whether it has tools."""
Most = tuple[int, int, int]
"""What a request can cost in a budget's unit: without any answer; a token of the cap; tokens of the cap, as asked or
assumed."""
NOTHING: Most = (0, 0, 0)


def most_of(size: Size, cost: Cost) -> Most:
    """Return what a request of `size` can cost."""
    tokens, cap, choices, with_tools = size
    estimate, bare, tools, answer = cost
    base = tokens * estimate + (tools if with_tools else bare)
    return base, answer * choices, ASSUMED_OUTPUT if cap is None else cap


class Bill(NamedTuple):
    """What a request costs in a budget's unit.

    Attributes:
        base: At most, without any answer.
        each: A token of the cap, at most.
        wanted: Tokens of the cap, as asked or assumed.
        likely: The answer, as a rule.
    """

    base: int
    each: int
    wanted: int
    likely: int

    @property
    def most(self) -> int:
        """All of it, at most."""
        return self.base + self.each * self.wanted

    @property
    def least(self) -> int:
        """What it takes to send it at all."""
        return self.base + self.each * min(SMALLEST_CAP, self.wanted)

    def share_of(self, room: int) -> int:
        """Return what the request may hold of `room`: what it usually needs, or a small share, and no more than all."""
        return min(self.most, self.base + max(self.likely, room // SHARE))

    def cap_for(self, amount: int) -> int:
        """Return how many tokens of cap `amount` pays for; negative if not even the prompt."""
        if amount < self.base:
            return -1
        return self.wanted if not self.each else min((amount - self.base) // self.each, self.wanted)


def cost(rate: Rate, tries: int, answers: int) -> Cost:
    """Return what requests cost at `rate`.

    Args:
        rate: What is charged.
        tries: How often one may be sent; each try that ends without an answer may cost the prompt.
        answers: How many answers may be paid for where one is asked for.
    """
    fixed = rate.fixed * tries
    return Cost(
        BYTES_PER_ESTIMATE * rate.input_most + (tries - 1) * rate.input,
        fixed + _BESIDE * rate.input_most,
        fixed + _BESIDE_TOOLS * rate.input_most,
        rate.output * answers,
    )


def settle_on(bills: Sequence[Bill], mine: Sequence[int], rooms: Sequence[int]) -> int | None:
    """Return to how many tokens a request is to be capped so that all its budgets allow it; None if they do not.

    Args:
        bills: What it costs in each budget.
        mine: What it may hold of each.
        rooms: What is left of each, what is `mine` included.
    """
    wanted = bills[0].wanted
    cap = wanted
    for each, amount, room in zip(bills, mine, rooms, strict=True):
        cap = min(cap, each.cap_for(min(each.share_of(room), amount)))
    return cap if cap >= min(SMALLEST_CAP, wanted) else None


def grant(ask: Ask, left: int, spent: int) -> Granted:
    """Return what a process gets for `ask` when `left` is to be had."""
    room = max(left, 0)
    target = min(ask.most, max(ask.likely, ask.least + (room + max(ask.free, 0)) // SHARE))
    amount = min(room, max(target - ask.free, room // LEASE if target * LEASE <= room else 0, 0))
    return Granted(amount, left - amount, spent)
