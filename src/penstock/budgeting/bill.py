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


_tuple = tuple.__new__
"""Makes a named tuple of a tuple; its own constructor takes several times as long."""
PER_TOKEN = Rate(1, 1, 1, 0)
"""For budgets in tokens."""


class Size(NamedTuple):
    """A request in tokens.

    Attributes:
        estimate: Of the prompt, as estimated without calibration.
        cap: What the client allows one choice; None if it does not say.
        choices: Answers that are asked for; 0 for embeddings.
        tools: It has tools.
        tries: How often it may be sent; each try that ends without an answer may cost the prompt.
    """

    estimate: int
    cap: int | None
    choices: int
    tools: bool
    tries: int


class Bill(NamedTuple):
    """What a request costs in a budget's unit.

    Attributes:
        base: At most, without any answer.
        each: A token of the cap, at most.
        wanted: Tokens of the cap, as asked or assumed.
        likely: The answer, as a rule; 0 until somebody needs to know.
    """

    base: int
    each: int
    wanted: int
    likely: int = 0

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

    def at_ease(self, free: int, left: int) -> int | None:
        """Return the most it can cost, if `free` pays for that and it is a small share of `free` and `left`."""
        base, each, wanted, likely = self
        most = base + each * wanted
        share = (free + left) // SHARE
        return most if most <= free and most <= base + (likely if likely > share else share) else None

    def cap_for(self, amount: int) -> int:
        """Return how many tokens of cap `amount` pays for; negative if not even the prompt."""
        if amount < self.base:
            return -1
        return self.wanted if not self.each else min((amount - self.base) // self.each, self.wanted)


NOTHING = Bill(0, 0, 0)


def bill(size: Size, rate: Rate) -> Bill:
    """Return what a request of `size` costs at `rate`."""
    estimate, cap, choices, tools, tries = size
    input_, input_most, output, fixed = rate
    prompt = estimate * BYTES_PER_ESTIMATE + (_BESIDE_TOOLS if tools else _BESIDE)
    base = fixed * tries + prompt * input_most + (tries - 1) * estimate * input_
    return _tuple(Bill, (base, output * choices, ASSUMED_OUTPUT if cap is None else cap, 0))


def total(bills: Sequence[Bill]) -> Bill:
    """Return the bill for sending one request to several models, with the same cap."""
    if len(bills) == 1:
        return bills[0]
    return bills[0]._replace(base=sum(each.base for each in bills), each=sum(each.each for each in bills))


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
