"""What the targets of a route charge, at the dearest."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal

import msgspec

from penstock.budgeting.bill import Rate
from penstock.core.route import Route, Target
from penstock.pricing.prices import RECHECK_S, Price
from penstock.pricing.rates import PARENTS, Rates

MACHINE_TIME_S = 60.0
"""Time of a machine paid by the hour that a request is taken to need."""
_KINDS = tuple(PARENTS)
_INPUT = _KINDS.index("input")
_INPUTS = tuple(i for i, kind in enumerate(_KINDS) if kind == "input" or "input" in PARENTS[kind])
_OUTPUTS = tuple(i for i, kind in enumerate(_KINDS) if kind == "output" or "output" in PARENTS[kind])
_REMEMBERED = 4096
_PICO = 12


class _Tier(msgspec.Struct, frozen=True):
    above: int
    rate: Rate


class Charges(msgspec.Struct, frozen=True):
    """What a route's targets charge.

    Attributes:
        unpriced: Targets whose price is unknown.
        until: When to look again, on `Clock.monotonic`.
    """

    tiers: tuple[_Tier, ...]
    unpriced: tuple[Target, ...]
    until: float

    def rate(self, prompt: int) -> Rate:
        """Return the dearest rate for a request with at most `prompt` tokens of input; all 0 if nothing has a price."""
        if len(self.tiers) == 1:
            return self.tiers[0].rate
        rates = [tier.rate for tier in self.tiers if prompt > tier.above]
        return Rate(*(max(each) for each in zip(*rates, strict=True))) if rates else Rate(0, 0, 0, 0)


class Tariffs:
    """Knows the charges of routes, for a minute each."""

    def __init__(self, price: Callable[[str, str, str], Price], now: Callable[[], float]) -> None:
        """`price` is as `penstock.pricing.prices.Pricer.price`, `now` as `Clock.monotonic`."""
        self._price = price
        self._now = now
        self._known: dict[tuple[bytes, str, str], Charges] = {}

    def of(self, route: Route, service_tier: str = "") -> Charges:
        """Return what the route's targets charge."""
        key = (route.identity, route.model, service_tier)
        known = self._known.get(key)
        if known is None or known.until < self._now():
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[key] = self._charges(route.targets, service_tier)
        return known

    def _charges(self, targets: Sequence[Target], service_tier: str) -> Charges:
        tiers: list[_Tier] = []
        unpriced: list[Target] = []
        for target in targets:
            price = self._price(target.provider, target.model, service_tier)
            if price.origin == "simulated":
                tiers.append(_Tier(-1, Rate(0, 0, 0, 0)))
                continue
            hour = Decimal(0) if price.own is None else price.own.usd_per_hour or Decimal(0)
            found = [tier for rates in price.tiers if (tier := _tier(rates, hour)) is not None]
            tiers += found
            if not found or len(found) < len(price.tiers):
                unpriced.append(target)
        return Charges(tuple(tiers), tuple(unpriced), self._now() + RECHECK_S)


def _tier(rates: Rates, usd_per_hour: Decimal) -> _Tier | None:
    """Return None for rates that do not say what a token of the prompt costs."""
    prompt = rates.each[_INPUT]
    if prompt is None:
        return None
    time = usd_per_hour * Decimal(MACHINE_TIME_S) / 3600
    return _Tier(rates.above, Rate(
        _pusd(prompt), _dearest(rates, _INPUTS), _dearest(rates, _OUTPUTS), _pusd(rates.request + time),
    ))  # fmt: skip


def _dearest(rates: Rates, kinds: Sequence[int]) -> int:
    return max((_pusd(rate) for kind in kinds if (rate := rates.each[kind]) is not None), default=0)


def _pusd(usd: Decimal) -> int:
    return math.ceil(usd.scaleb(_PICO))
