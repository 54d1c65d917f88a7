"""Shares that follow success.

What a bandit learns decides whom it asks next, so its sample is no fair one: plain means of it are biased, and tests of
fixed shares do not hold. The intervals here do, because each unit is weighted by the inverse of the probability with
which it was assigned, which is known and depends only on units before it (see `penstock.experiments.sequence`); the
floor keeps these weights, and so the intervals, from becoming boundless.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

from penstock.core.experiment import Experiment

LEAST = 20
"""Units each arm must have before shares change."""
CHANGE = 0.02
"""Smaller changes of all shares are not worth moving anybody."""
_DRAWS = 2000

Rewards = Mapping[str, tuple[int, float, float | None]]
"""Number of units, their mean reward (higher is better) and its standard deviation, of each arm."""


def shares(experiment: Experiment, rewards: Rewards, now: Mapping[str, float]) -> dict[str, float] | None:
    """Return the arms' next shares; None when they stay as they are.

    Args:
        experiment: Says the policy and the floor.
        rewards: What each arm has brought.
        now: The shares in force.
    """
    bandit = experiment.bandit
    if bandit is None or any(count < LEAST for count, _, _ in rewards.values()):
        return None
    chances = _thompson(experiment.name, rewards) if bandit.policy == "thompson" else _ucb(rewards)
    free = 1.0 - bandit.floor * len(rewards)
    wanted = {arm: bandit.floor + free * chance for arm, chance in chances.items()}
    return wanted if max(abs(wanted[arm] - now[arm]) for arm in wanted) > CHANGE else None


def _thompson(name: str, rewards: Rewards) -> dict[str, float]:
    """Return with which probability each arm is the best one (Thompson 1933), its mean being normal around the mean."""
    total = sum(count for count, _, _ in rewards.values())
    # The same everywhere, whoever computes it.
    chance = random.Random(f"{name} {total}")
    wins = dict.fromkeys(rewards, 0)
    errors = [(arm, mean, (deviation or 0.0) / math.sqrt(count)) for arm, (count, mean, deviation) in rewards.items()]
    for _ in range(_DRAWS):
        wins[max((chance.gauss(mean, error), arm) for arm, mean, error in errors)[1]] += 1
    return {arm: won / _DRAWS for arm, won in wins.items()}


def _ucb(rewards: Rewards) -> dict[str, float]:
    """Give all to the arm that may be the best (Auer, Cesa-Bianchi, Fischer 2002, with the deviations seen)."""
    total = sum(count for count, _, _ in rewards.values())
    hopes = {
        arm: mean + (deviation or 0.0) * math.sqrt(2 * math.log(total) / count)
        for arm, (count, mean, deviation) in rewards.items()
    }
    best = max(hopes, key=hopes.__getitem__)
    return {arm: float(arm == best) for arm in rewards}
