from random import Random

from hypothesis import given
from hypothesis import strategies as st

from penstock.insight.interval import interval


def test_a_steady_sum_is_sure():
    found = interval(list(range(500)), [2.0] * 500)
    assert found.value == 1000.0
    assert 900 < found.low <= found.high < 1100


def test_one_burst_is_not():
    found = interval(list(range(500)), [0.0] * 400 + [50.0] * 10 + [0.0] * 90)
    assert found.value == 500.0
    assert found.low == 0.0
    assert found.high > 900


def test_nine_of_ten_periods_of_the_same_kind_are_inside():
    random = Random(5)
    inside = 0
    for _ in range(60):
        periods = [[random.expovariate(1.0) for _ in range(600)] for _ in range(2)]
        found = interval(list(range(600)), periods[0])
        # The interval is of the period's own sum; another period's differs by the noise of both.
        width = (found.high - found.low) * 2**0.5 / 2
        inside += abs(sum(periods[1]) - found.value) <= width
    assert 45 <= inside <= 60


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30))
def test_no_period_is_too_short(amounts):
    found = interval([0.0] * len(amounts), amounts)
    assert found.low == found.value == found.high
