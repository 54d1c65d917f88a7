"""Shares that follow success."""

import pytest

from penstock.core.experiment import Arm, Bandit, Change, Experiment, Metric
from penstock.experiments.bandit import shares

EVEN = {"a": 0.5, "b": 0.5}


def experiment(policy="thompson", floor=0.1):
    arms = (Arm("a"), Arm("b", 1.0, Change(model="x")))
    return Experiment("tone", arms, Metric("score.helpful", "higher"), bandit=Bandit(policy, floor))


@pytest.mark.parametrize("policy", ["thompson", "ucb"])
def test_the_arm_that_does_better_gets_more_and_the_other_its_floor(policy):
    found = shares(experiment(policy), {"a": (500, 0.2, 0.1), "b": (500, 0.8, 0.1)}, EVEN)
    assert found == pytest.approx({"a": 0.1, "b": 0.9})


def test_thompson_shares_follow_how_certain_it_is():
    unsure = shares(experiment(), {"a": (50, 0.5, 0.5), "b": (50, 0.55, 0.5)}, EVEN)
    surer = shares(experiment(), {"a": (5000, 0.5, 0.5), "b": (5000, 0.55, 0.5)}, EVEN)
    assert 0.5 < unsure["b"] < 0.8 < surer["b"]
    assert sum(unsure.values()) == pytest.approx(1)


def test_ucb_tries_what_is_little_known():
    found = shares(experiment("ucb"), {"a": (5000, 0.55, 0.5), "b": (30, 0.5, 0.5)}, EVEN)
    assert found["b"] == pytest.approx(0.9)


def test_shares_stay_while_little_is_known_or_little_would_change():
    assert shares(experiment(), {"a": (500, 0.2, 0.1), "b": (19, 0.8, 0.1)}, EVEN) is None
    assert shares(experiment(), {"a": (500, 0.2, 0.1), "b": (500, 0.8, 0.1)}, {"a": 0.11, "b": 0.89}) is None


def test_every_process_comes_to_the_same_shares():
    rewards = {"a": (50, 0.5, 0.5), "b": (50, 0.55, 0.5)}
    assert shares(experiment(), rewards, EVEN) == shares(experiment(), rewards, EVEN)
