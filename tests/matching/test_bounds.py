from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.matching.bounds import RATES, ChangeDetector, ErrorBound, upper_quantile


def served(rate: float, chance: float, seed: int) -> tuple[ErrorBound, float]:
    """Serve 1,500 answers that are wrong at `rate`; return the bound and the lowest it ever was."""
    random, bound, lowest = Random(seed), ErrorBound(0.05), 1.0
    for count in range(1500):
        audited = random.random() < chance
        bound.served(wrong=audited and random.random() < rate, chance=chance)
        if count % 25 == 0:
            lowest = min(lowest, bound.value())
    return bound, min(lowest, bound.value())


@pytest.mark.parametrize(("rate", "chance"), [(0.02, 0.2), (0.1, 0.1), (0.3, 1.0)])
def test_the_bound_is_below_the_rate_in_few_of_many_streams(rate: float, chance: float) -> None:
    broken = sum(served(rate, chance, seed)[1] < rate for seed in range(60))
    assert broken <= 7  # 3 are allowed on average


def test_audits_that_find_nothing_bring_the_bound_down() -> None:
    assert served(0.0, 0.2, 1)[0].value() <= 0.03
    assert served(0.0, 1.0, 1)[0].value() <= 0.005
    assert ErrorBound().value() == 1.0


@given(st.lists(st.tuples(st.booleans(), st.floats(0.01, 1.0)), max_size=60))
def test_the_bound_is_one_that_can_be_stated(audits: list[tuple[bool, float]]) -> None:
    bound = ErrorBound()
    for wrong, chance in audits:
        bound.served(wrong=wrong, chance=chance)
    assert bound.value() in {1.0, *RATES}


def test_there_is_an_alarm_soon_after_a_rise_and_seldom_before() -> None:
    early, delays = 0, []
    for seed in range(20):
        random, detector = Random(seed), ChangeDetector(0.02)
        early += sum(
            detector.served(wrong=random.random() < 0.1 and random.random() < 0.01, chance=0.1) for _ in range(500)
        )
        after = 0
        while not detector.served(wrong=random.random() < 0.1 and random.random() < 0.4, chance=0.1):
            after += 1
        delays.append(after)
    assert early <= 2
    assert sum(delays) / len(delays) < 200


@given(st.floats(1e-4, 0.5), st.floats(1e-6, 0.1), st.floats(0.0, 3.0))
def test_the_quantile_rises_with_its_deviations(mean: float, variance: float, deviations: float) -> None:
    assert upper_quantile(mean, variance, deviations + 0.5) >= upper_quantile(mean, variance, deviations)
