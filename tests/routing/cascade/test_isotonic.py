"""Curves rise, and say what share of the labels was right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.routing.cascade.isotonic import isotonic

score = st.floats(min_value=-20, max_value=20)
labelled = st.lists(st.tuples(score, st.integers(min_value=0, max_value=1)), min_size=1, max_size=60)


@given(labelled, st.lists(score, min_size=2, max_size=20))
def test_a_curve_never_falls_and_stays_a_probability(pairs: list[tuple[float, int]], asked: list[float]):
    curve = isotonic(*zip(*pairs, strict=True))
    found = [curve(each) for each in sorted(asked)]
    assert found == sorted(found)
    assert all(0.0 <= each <= 1.0 for each in found)


@given(labelled)
def test_equal_scores_have_one_value(pairs: list[tuple[float, int]]):
    curve = isotonic(*zip(*pairs, strict=True))
    assert all(one < other for one, other in zip(curve.scores, curve.scores[1:], strict=False))


def test_a_curve_tells_what_share_was_right():
    scores = [float(place % 10) for place in range(1000)]
    labels = [float(place // 10 % 10 < place % 10) for place in range(1000)]
    curve = isotonic(scores, labels)
    assert [round(curve(float(each)), 2) for each in range(1, 10)] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def test_weights_count():
    curve = isotonic([1.0, 1.0], [0.0, 1.0], [30.0, 10.0])
    assert curve(1.0) == pytest.approx(10.5 / 41.0)


def test_nothing_cannot_be_calibrated():
    with pytest.raises(ValueError, match="no scores"):
        isotonic([], [])
