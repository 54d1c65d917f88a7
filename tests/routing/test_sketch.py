import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.routing.sketch import Sketch

times = st.lists(st.floats(0.0, 2000.0), max_size=200)


def filled(values, parent=None):
    sketch = Sketch(parent)
    for value in values:
        sketch.add(value)
    return sketch


def drawn(count, median=1.0, seed=1):
    rnd = random.Random(seed)
    return [median * rnd.lognormvariate(0.0, 1.0) for _ in range(count)]


def test_one_that_knows_nothing_is_patient():
    assert Sketch().quantile(0.95) > 30.0
    assert Sketch(Sketch()).quantile(0.95) > 30.0


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.95, 0.99])
def test_quantiles_are_right_to_within_a_bucket(share):
    values = sorted(drawn(3000))
    assert filled(values).quantile(share) == pytest.approx(values[int(share * 3000)], rel=0.08)


def test_what_is_saved_is_the_mean_excess():
    values = drawn(3000)
    late = [value for value in values if value > 2.0]
    saved = sum(max(value - 2.5, 0.0) for value in late) / len(late)
    assert filled(values).excess(2.0, 0.5) == pytest.approx(saved, rel=0.1)


def test_nothing_known_of_such_a_long_time_means_a_long_time():
    assert filled(drawn(100)).excess(500.0, 1.0) == 499.0


def test_few_times_are_shrunk_to_the_parents():
    slow = filled(drawn(2000, median=10.0))
    few, many = filled(drawn(2), slow), filled(drawn(1000), slow)
    assert filled([], slow).quantile(0.5) == pytest.approx(slow.quantile(0.5), rel=0.1)
    assert many.quantile(0.5) < few.quantile(0.5) <= slow.quantile(0.5)
    assert many.quantile(0.5) == pytest.approx(1.0, rel=0.15)


def test_older_times_fade():
    sketch = filled(drawn(4000, median=10.0))
    for value in drawn(12_000):
        sketch.add(value)
    assert sketch.quantile(0.5) == pytest.approx(1.0, rel=0.3)


def test_times_that_were_cut_short_count_as_the_longer_ones():
    values = drawn(3500)
    whole, cut = filled(values), filled(values[:1000])
    for value in values[1000:]:
        if value > 3.0:
            cut.add_beyond(3.0)
        else:
            cut.add(value)
    for share in (0.5, 0.9, 0.95):
        assert cut.quantile(share) == pytest.approx(whole.quantile(share), rel=0.15)


@given(times, times, st.floats(0.0, 5000.0), st.floats(0.0, 5000.0))
def test_quantiles_grow_and_savings_are_never_negative(values, cut, waited, answer):
    sketch = filled(values, filled(values[::2]))
    for value in cut:
        sketch.add_beyond(value)
    quantiles = [sketch.quantile(share / 20) for share in range(21)]
    assert quantiles == sorted(quantiles)
    assert quantiles[0] > 0.0
    assert sketch.excess(waited, answer) >= 0.0
