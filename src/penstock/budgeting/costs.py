"""What requests cost at most, by their size: worked out once a route."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from penstock.budgeting.bill import PER_TOKEN, Cost, Rate, cost
from penstock.budgeting.tariff import Charges, Tariffs
from penstock.core.route import Route

_ANY = -1
"""Prompts of any length have more tokens."""
_REMEMBERED = 4096


class Due(msgspec.Struct, frozen=True):
    """What requests by a route cost at most in dollars.

    Attributes:
        route: Which.
        charges: What the targets of each of its legs charge.
        usual: What requests cost.
        longer: What those with more tokens of input cost, by that number, the highest first.
        unpriced: The price of a target is unknown.
        until: When to look again, on `Clock.monotonic`.
    """

    route: Route
    charges: tuple[Charges, ...]
    usual: Cost
    longer: tuple[tuple[int, Cost], ...]
    unpriced: bool
    until: float

    def cost(self, prompt: int) -> Cost:
        """Return what a request with at most `prompt` tokens of input costs."""
        for above, each in self.longer:
            if prompt > above:
                return each
        return self.usual


class Costs:
    """What requests cost at most, worked out once a route: a cascade's may have to be paid for with all its models."""

    def __init__(self, tariffs: Tariffs, tries: int) -> None:
        """A target is tried up to `tries` times."""
        self._tariffs = tariffs
        self._tries = tries
        # By the identity of routes, since one of the same name may have fewer targets; what is kept keeps its route.
        self._dollars: dict[tuple[int, str, bool], Due] = {}
        self._tokens: dict[tuple[int, bool], tuple[Route, Cost]] = {}

    def dollars(self, route: Route, service_tier: str, now: float, *, generates: bool) -> Due:
        """Return what requests cost in dollars; `generates` is False for embeddings, `now` is `Clock.monotonic`."""
        key = (id(route), service_tier, generates)
        known = self._dollars.get(key)
        if known is None or known.until < now:
            if len(self._dollars) >= _REMEMBERED:
                self._dollars.clear()
            known = self._dollars[key] = self._due(route, service_tier, generates=generates)
        return known

    def tokens(self, route: Route, *, generates: bool) -> Cost:
        """Return what requests cost in tokens."""
        known = self._tokens.get((id(route), generates))
        if known is None:
            if len(self._tokens) >= _REMEMBERED:
                self._tokens.clear()
            rates = [PER_TOKEN] * len(route.legs)
            known = self._tokens[id(route), generates] = (route, self._sum(route, rates, generates=generates))
        return known[1]

    def _due(self, route: Route, service_tier: str, *, generates: bool) -> Due:
        charges = tuple(self._tariffs.of(leg, service_tier) for leg in route.legs)
        steps = {tier.above for each in charges for tier in each.tiers} | {_ANY}
        costs = {
            above: self._sum(route, [each.rate(above + 1) for each in charges], generates=generates) for above in steps
        }
        usual = costs.pop(_ANY)
        return Due(
            route,
            charges,
            usual,
            tuple(sorted(costs.items(), reverse=True)),
            any(each.unpriced for each in charges),
            min(each.until for each in charges),
        )

    def _sum(self, route: Route, rates: Sequence[Rate], *, generates: bool) -> Cost:
        costs = []
        for leg, rate in zip(route.legs, rates, strict=True):
            hedged = generates and leg.hedge is not None  # two answers may be paid for
            costs.append(cost(rate, self._tries * len(leg.targets) + hedged, 1 + hedged))
        return Cost(*map(sum, zip(*costs, strict=True)))
