"""What is inferred about a difference holds, whenever one looks."""

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.experiments.sequence import Difference

ALPHA = 0.05
LIMIT = math.log(1 / ALPHA)


def difference(bounds=(0.0, 1.0), planned=500.0):
    return Difference(bounds=bounds, alpha=ALPHA, planned=planned)


@pytest.mark.parametrize("probability", [0.5, 0.1])
@pytest.mark.parametrize("chance", [0.5, 0.05])
def test_nobody_gains_on_average_by_betting_against_what_is_so(probability, chance):
    """All possible courses of six units, each with its probability: the expected gain is at most one."""
    steps = [
        (treated, value, (probability if treated else 1 - probability) * (chance if value else 1 - chance))
        for treated in (True, False)
        for value in (0.0, 1.0)
    ]
    both = above = below = 0.0
    for course in itertools.product(steps, repeat=6):
        found = difference(planned=6.0)
        for treated, value, _ in course:
            found.add(value, treated=treated, probability=probability)
        likely = math.prod(weight for *_, weight in course)
        both += likely * math.exp(found.log_evidence())
        above += likely * math.exp(found.log_evidence_above(0.0))
        below += likely * math.exp(found.log_evidence_below(0.0))
    assert both <= 1 + 1e-9
    assert above <= 1 + 1e-9
    assert below <= 1 + 1e-9


def test_nor_does_it_help_that_the_shares_follow_success():
    """As above, with a share that depends on what the units before were like."""
    both, chance = 0.0, 0.3
    for course in itertools.product(itertools.product((True, False), (0.0, 1.0)), repeat=6):
        found, likely, balance = difference(planned=6.0), 1.0, 0
        for treated, value in course:
            probability = 0.9 if balance > 0 else 0.1 if balance < 0 else 0.5
            likely *= (probability if treated else 1 - probability) * (chance if value else 1 - chance)
            found.add(value, treated=treated, probability=probability)
            balance += int(value) if treated else -int(value)
        both += likely * math.exp(found.log_evidence())
    assert both <= 1 + 1e-9


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=60))
def test_the_interval_is_what_is_not_refuted(units):
    found = difference()
    for treated, value in units:
        found.add(value, treated=treated, probability=0.5)
        assert found.log_evidence() <= found.peak + 1e-9
    low, high = found.interval(ALPHA)
    assert low <= high
    width = max(high - low, 1e-6)
    for inside in (low + width / 100, (low + high) / 2, high - width / 100):
        assert found.log_evidence(inside) <= LIMIT + 1e-6
    for outside in (low - width / 100, high + width / 100):
        assert found.log_evidence(outside) >= LIMIT - 1e-6


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=30, max_size=60), st.floats(0.01, 1000))
def test_the_unit_of_a_metric_does_not_matter(units, scale):
    one, other = difference(bounds=None), difference(bounds=None)
    for treated, value in units:
        one.add(value, treated=treated, probability=0.3)
        other.add(value * scale, treated=treated, probability=0.3)
    assert other.effect == pytest.approx(one.effect * scale, abs=1e-9 * scale)
    assert other.log_evidence() == pytest.approx(one.log_evidence(), abs=1e-6)


@pytest.mark.parametrize(
    ("bounds", "draw", "truth"),
    [
        ((0.0, 1.0), lambda chance, treated: float(chance.random() < (0.6 if treated else 0.4)), 0.2),
        ((0.0, 1.0), lambda chance, treated: chance.betavariate(2, 5), 0.0),
        (None, lambda chance, treated: chance.lognormvariate(0, 1) + (1.0 if treated else 0.0), 1.0),
    ],
)
def test_the_truth_is_inside_at_every_look_nearly_always(bounds, draw, truth):
    missed = 0
    for run in range(60):
        chance, found = random.Random(run), difference(bounds, planned=400)
        for _ in range(400):
            treated = chance.random() < 0.5
            found.add(draw(chance, treated), treated=treated, probability=0.5)
            if found.log_evidence(truth) >= LIMIT:
                missed += 1
                break
    assert missed <= 6  # of 60; three are expected at most


def test_a_real_difference_is_found():
    chance, found = random.Random(1), difference(planned=1000)
    for _ in range(1000):
        treated = chance.random() < 0.5
        found.add(float(chance.random() < (0.65 if treated else 0.35)), treated=treated, probability=0.5)
    low, high = found.interval(ALPHA)
    assert 0 < low < 0.3 < high < 0.5
    assert found.log_evidence() > LIMIT


@pytest.mark.parametrize(("bounds", "control", "arm"), [((0.0, 1.0), 0.0, 1.0), (None, 2.0, 5.0), (None, 3.0, 3.0)])
def test_arms_without_any_variation(bounds, control, arm):
    found = difference(bounds)
    for number in range(400):
        found.add(arm if number % 2 else control, treated=bool(number % 2), probability=0.5)
    assert found.log_evidence() > LIMIT if arm != control else found.log_evidence() <= 0


def test_nothing_is_known_before_the_first_unit():
    assert difference().interval(ALPHA) == (-math.inf, math.inf)
