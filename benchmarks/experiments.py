"""How often an experiment finds a difference where there is none, however often one looks; and what that costs.

    python -m benchmarks.experiments --json

Each unit's value goes to the code that is shipped (`penstock.experiments`), which is asked after every single unit: the
most that anybody can peek. False alarms: the share of runs in which an arm is found better or worse than the control
although all arms draw from one distribution. Metrics: shares (1 in 20, 1 in 2), scores between 0 and 1, costs without
bounds (lognormal, sigma 1.5) and with bounds, and times with an infinite third moment (Pareto, 2.5); with fixed shares,
even and 9 to 1, and with bandits, whose shares change every 100 units. Power: how often, and after how many units on
average, a real difference is found; beside that, how many units a test of that power needs whose size is fixed in
advance (two-sided, 5 %), and what looking at such a test after every unit leads to. One JSON object on the last line.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from random import Random
from statistics import NormalDist
from typing import NamedTuple

from benchmarks.outcome import finish
from penstock.core.experiment import Arm, Bandit, Change, Experiment, Metric, Policy
from penstock.experiments.bandit import shares
from penstock.experiments.comparing import Comparison

ALPHA = 0.05
EVERY = 100
"""Units between changes of a bandit's shares."""
FIXED_Z = NormalDist().inv_cdf(1 - ALPHA / 2)
FIRST_LOOK = 100
"""Units before the first look at a test of fixed size."""
Draw = Callable[[Random, bool], float]


class Case(NamedTuple):
    """What is simulated."""

    name: str
    metric: str
    arms: int = 2
    weights: tuple[float, ...] = ()
    bandit: Policy | None = None


METRICS: dict[str, tuple[tuple[float, float] | None, Draw]] = {
    "share_5%": ((0.0, 1.0), lambda chance, better: float(chance.random() < (0.14 if better else 0.05))),
    "share_50%": ((0.0, 1.0), lambda chance, better: float(chance.random() < (0.64 if better else 0.5))),
    "score": ((0.0, 1.0), lambda chance, better: chance.betavariate(2.7 if better else 2.0, 5.0)),
    "cost": (None, lambda chance, better: chance.lognormvariate(0.0, 1.5) * (2.0 if better else 1.0)),
    "cost_bounded": ((0.0, 20.0), lambda chance, better: chance.lognormvariate(0.0, 1.5) * (1.8 if better else 1.0)),
    "time": (None, lambda chance, better: chance.paretovariate(2.5) * (1.4 if better else 1.0)),
}
"""Bounds, and how a value is drawn."""
CASES = [
    *(Case(f"{metric}, 2 arms", metric) for metric in METRICS),
    *(Case(f"{metric}, 4 arms", metric, 4) for metric in ("share_50%", "score", "cost")),
    Case("share_5%, 9 to 1", "share_5%", 2, (9.0, 1.0)),
    Case("cost, 9 to 1", "cost", 2, (9.0, 1.0)),
    Case("cost, 1 to 9", "cost", 2, (1.0, 9.0)),
    *(Case(f"{metric}, 2 arms, thompson", metric, 2, (), "thompson") for metric in ("share_50%", "cost")),
    Case("score, 4 arms, thompson", "score", 4, (), "thompson"),
    Case("share_50%, 2 arms, ucb", "share_50%", 2, (), "ucb"),
]
POWER = ("share_50%", "share_5%", "score", "cost", "cost_bounded")
HEADLINE = "share_50%"
"""The metric whose power is reported on top."""


class Run(NamedTuple):
    """One experiment: after how many units a difference was found, by the sequence and by a test; None for never."""

    found: int | None
    naive: int | None


def experiment(case: Case, units: int) -> Experiment:
    """Return what is run."""
    weights = case.weights or (1.0,) * case.arms
    return Experiment(
        name=case.name,
        arms=tuple(Arm(f"arm{number}", weight, Change()) for number, weight in enumerate(weights)),
        primary=Metric("score.value", "higher", METRICS[case.metric][0]),
        most_units=units,
        alpha=ALPHA,
        bandit=None if case.bandit is None else Bandit(case.bandit, floor=0.1, every_s=1.0),
    )


def run(case: Case, units: int, seed: str, *, better: bool) -> Run:
    """Play one experiment to its end; the last arm is better, or none is."""
    chance, what, draw = Random(seed), experiment(case, units), METRICS[case.metric][1]
    comparison, weights = Comparison(what, what.primary), what.weights
    names = list(weights)
    best = names[-1] if better else ""
    naive: int | None = None
    for count in range(1, units + 1):
        arm = chance.choices(names, list(weights.values()))[0]
        comparison.add(arm, draw(chance, arm == best), weights)
        if any(comparison.certain(other) is not None for other in names[1:]):
            return Run(count, naive)
        if case.arms == 2 and not case.bandit and naive is None and count >= FIRST_LOOK and _test(comparison):
            naive = count
        if case.bandit and count % EVERY == 0:
            rewards = {name: comparison.spread(name) for name in names}
            weights = shares(what, rewards, weights) or weights
    return Run(None, naive)


def _test(comparison: Comparison) -> bool:
    """Whether a test of fixed size would find a difference now (Welch, whose t is normal by now)."""
    (one, mean, deviation), (other, other_mean, other_deviation) = (comparison.spread(f"arm{at}") for at in (0, 1))
    if deviation is None or other_deviation is None:
        return False
    error = math.sqrt(deviation**2 / one + other_deviation**2 / other)
    return abs(mean - other_mean) > FIXED_Z * error


def _many(job: tuple[Case, int, int, int, bool]) -> list[Run]:
    case, units, start, end, better = job
    return [run(case, units, f"{case.name} {better} {number}", better=better) for number in range(start, end)]


def fixed_units(metric: str, power: float) -> int:
    """Return how many units a test of fixed size needs, both arms together."""
    bounds, draw = METRICS[metric]
    chance = Random(metric)
    moments = []
    for better in (False, True):
        values = [draw(chance, better) for _ in range(400_000)]
        if bounds is not None:
            values = [min(max(value, bounds[0]), bounds[1]) for value in values]
        mean = math.fsum(values) / len(values)
        moments.append((mean, math.fsum((value - mean) ** 2 for value in values) / len(values)))
    (mean, variance), (other_mean, other_variance) = moments
    normal = NormalDist()
    wanted = normal.inv_cdf(1 - ALPHA / 2) + normal.inv_cdf(min(power, 0.9995))
    return math.ceil(2 * wanted**2 * (variance + other_variance) / (mean - other_mean) ** 2)


def main() -> None:
    """Run all cases."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.experiments", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--runs", type=int, default=2000, help="experiments of each case")
    parser.add_argument("--units", type=int, default=1000, help="units each is planned for, and ends with")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="accepted; the last line is always JSON")
    options = parser.parse_args()
    started = time.monotonic()
    alarms: dict[str, float] = {}
    naive: dict[str, float] = {}
    found: dict[str, dict[str, float]] = {}

    def played(case: Case, *, better: bool, pool: ProcessPoolExecutor) -> list[Run]:
        size = max(1, options.runs // 20)
        jobs = [(case, options.units, at, min(at + size, options.runs), better)
                for at in range(0, options.runs, size)]  # fmt: skip
        return [each for part in pool.map(_many, jobs) for each in part]

    with ProcessPoolExecutor(options.processes) as pool:
        for case in CASES:
            runs = played(case, better=False, pool=pool)
            alarms[case.name] = sum(each.found is not None for each in runs) / len(runs)
            if case.arms == 2 and not case.bandit:
                naive[case.name] = sum(each.naive is not None for each in runs) / len(runs)
            print(f"{case.name}: {alarms[case.name]:.2%} false alarms, naive {naive.get(case.name, math.nan):.2%}",
                  file=sys.stderr)  # fmt: skip
        for metric in POWER:
            runs = played(Case(f"{metric}, 2 arms", metric), better=True, pool=pool)
            power = sum(each.found is not None for each in runs) / len(runs)
            units = [each.found or options.units for each in runs]
            found[metric] = {
                "power": power,
                "mean_stopping_units": round(sum(units) / len(units)),
                "fixed_horizon_units": fixed_units(metric, power),
            }
            print(f"{metric}: {found[metric]}", file=sys.stderr)
    head = found[HEADLINE]
    finish(
        {
            "false_alarms": max(alarms.values()),
            "false_alarms_by_metric": alarms,
            "power": head["power"],
            "mean_stopping_units": head["mean_stopping_units"],
            "fixed_horizon_units": head["fixed_horizon_units"],
            "naive_peeking_false_alarms": naive[f"{HEADLINE}, 2 arms"],
            "naive_peeking_by_metric": naive,
            "power_by_metric": found,
            "units": options.units,
        },
        started=started,
        n=options.runs,
    )


if __name__ == "__main__":
    main()
