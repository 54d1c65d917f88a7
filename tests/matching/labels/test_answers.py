from __future__ import annotations

from array import array
from math import isclose, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.matching.labels.answers import DENSE, SPARSE, Thresholds, compare, cosine

REFUND = "You get a refund when you send the item back within 30 days."
TEXTS = st.sampled_from([
    REFUND, REFUND.replace("30", "14"), REFUND.replace("get a", "do not get a"), "Refunds take 30 days.", "", "No.",
    REFUND.replace("refund", "voucher"),
])  # fmt: skip
COSINES = st.floats(-1, 1)


@given(TEXTS, TEXTS, COSINES)
def test_it_does_not_matter_which_answer_came_first(one: str, other: str, near: float) -> None:
    assert compare(one, other, near, DENSE) is compare(other, one, near, DENSE)


@given(TEXTS, TEXTS, st.floats(SPARSE.same, 1))
def test_nothing_is_called_the_same_by_words_that_would_not_be_when_nearer(one: str, other: str, near: float) -> None:
    if compare(one, other, near, SPARSE):
        assert compare(one, other, 1.0, SPARSE)


@pytest.mark.parametrize(
    ("other", "near", "same"),
    [
        (REFUND, 1.0, True),
        (REFUND, 0.8, None),
        (REFUND, 0.4, False),
        (REFUND.replace("30", "14"), 0.99, False),
        (REFUND.replace("get a", "do not get a"), 0.99, False),
        (REFUND.replace("refund", "voucher"), 0.99, None),
        (REFUND.replace("30", "14") * 4, 0.99, None),
    ],
)
def test_near_is_the_same_unless_a_fact_differs(other: str, near: float, same: bool | None) -> None:
    assert compare(REFUND, other, near, DENSE) is same


def test_thresholds_are_in_order() -> None:
    with pytest.raises(ValueError, match="different below same"):
        compare("a", "a", 1.0, Thresholds(0.2, 0.9))


@given(st.lists(st.tuples(st.floats(-9, 9, width=32), st.floats(-9, 9, width=32)), min_size=1, max_size=8))
def test_dense_and_sparse_vectors_have_the_same_cosine(pairs: list[tuple[float, float]]) -> None:
    def unit(row: list[float]) -> list[float]:
        length = sqrt(sum(x * x for x in row)) or 1.0
        return [x / length for x in row]

    one, other = (unit([pair[side] for pair in pairs]) for side in (0, 1))
    dense = cosine(array("f", one).tobytes(), array("f", other).tobytes())
    sparse = cosine(dict(enumerate(one)), {place: x for place, x in enumerate(other) if x})
    assert isclose(dense, sparse, abs_tol=1e-5)


def test_vectors_of_two_kinds_are_not_compared() -> None:
    assert cosine({}, {1: 1.0}) == 0.0
    with pytest.raises(TypeError, match="not of one embedder"):
        cosine(b"\0\0\0\0", {1: 1.0})
