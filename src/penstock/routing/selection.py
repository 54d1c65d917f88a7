"""In which order the targets behind a name are tried."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

from penstock.core.route import Route, Target


def arrange(route: Route, random: Random) -> Sequence[Target]:
    """Order the targets of `route`: the first is tried, the rest are its substitutes.

    Lower `order` goes first and, inside one `order`, targets of weight 0 go last. Otherwise ``ordered`` keeps the
    configured order, while ``weighted`` draws: each place goes to one of the remaining targets with a probability in
    proportion to its weight. So does ``balanced`` where there is no balancer, which otherwise chooses by load.

    Args:
        route: The name's targets and strategy.
        random: Draws for ``weighted``; not used by ``ordered``.
    """
    targets = route.targets
    if len(targets) == 1:
        return targets
    if route.strategy == "ordered":
        return sorted(targets, key=_rank)
    return sorted(targets, key=lambda target: (*_rank(target), _lot(target.weight, random)))


def _rank(target: Target) -> tuple[int, bool]:
    return target.order, target.weight == 0


def _lot(weight: float, random: Random) -> float:
    """Draw a number whose order among others is a weighted draw without putting back.

    Of independent exponential variables with rates w, the one of rate w_i is the smallest with probability w_i / Σw
    (Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006).
    """
    return -math.log(1.0 - random.random()) / weight if weight else 0.0
