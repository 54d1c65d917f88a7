from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from penstock.matching.indexes.dense import DenseIndex
from penstock.testing import check_vector_index

DIMENSIONS = 16


def vectors(count: int, *, seed: int = 0, around: int = 0) -> np.ndarray:
    """Return vectors of length 1; with `around`, each near one of so many centres."""
    chance = np.random.default_rng(seed)
    found = chance.standard_normal((count, DIMENSIONS))
    if around:
        found = (
            0.5 * found + 2 * np.random.default_rng(7).standard_normal((around, DIMENSIONS))[np.arange(count) % around]
        )
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype("<f4")


def filled(numbers: np.ndarray, **settings: int) -> DenseIndex:
    index = DenseIndex(**settings)
    for place, each in enumerate(numbers):
        index.add(place, each.tobytes())
    return index


@pytest.mark.parametrize("exact", [0, 2000])
def test_it_keeps_the_promises_of_an_index(exact: int) -> None:
    check_vector_index(lambda: DenseIndex(exact), [each.tobytes() for each in np.eye(8, dtype="<f4")])


def test_cosines_are_those_of_the_vectors() -> None:
    known, asked = vectors(200), vectors(20, seed=1)
    index = filled(known)
    for each in asked:
        expected = np.sort(known @ each)[::-1][:8]
        assert [cosine for _, cosine in index.nearest(each.tobytes())] == pytest.approx(expected, abs=0.01)


def test_beyond_the_exact_ones_most_of_the_nearest_are_found() -> None:
    known, asked = vectors(3000, around=50), vectors(100, seed=1, around=50)
    index = filled(known, exact=0)
    for place in range(0, 3000, 3):
        index.remove(place)
    known[::3] = 0.0
    hits = sum(
        len({entry for entry, _ in index.nearest(each.tobytes())} & set(np.argsort(-(known @ each))[:8].tolist()))
        for each in asked
    )
    assert hits >= 0.9 * 8 * len(asked)


def test_other_dimensions_are_refused() -> None:
    index = filled(vectors(3))
    with pytest.raises(ValueError, match="a vector of 4 numbers, but those of the partition have 16"):
        index.add(9, np.ones(4, "<f4").tobytes())
    with pytest.raises(ValueError, match="a vector of 4 numbers"):
        index.nearest(np.ones(4, "<f4").tobytes())
    assert len(index) == 3


@pytest.mark.parametrize("number", [0.0, float("nan"), float("inf")])
def test_a_vector_without_direction_is_near_nothing(number: float) -> None:
    index = filled(vectors(3))
    nowhere = np.full(DIMENSIONS, number, "<f4").tobytes()
    index.add(9, nowhere)
    assert len(index) == 4
    assert index.nearest(nowhere) == []
    assert 9 not in {entry for entry, _ in index.nearest(vectors(1).tobytes())}


class Changes(RuleBasedStateMachine):
    """An exact index agrees with comparing everything, whatever was added, replaced and removed before."""

    exact = 2000
    points = vectors(40, seed=3)

    def __init__(self) -> None:
        super().__init__()
        self.index = DenseIndex(self.exact)
        self.known: dict[int, np.ndarray] = {}

    @rule(entry=st.integers(0, 15), point=st.integers(0, 39))
    def add(self, entry: int, point: int) -> None:
        self.index.add(entry, self.points[point].tobytes())
        self.known[entry] = self.points[point]

    @rule(entry=st.integers(0, 15))
    def remove(self, entry: int) -> None:
        self.index.remove(entry)
        self.known.pop(entry, None)

    @rule(point=st.integers(0, 39), count=st.integers(1, 16))
    def look(self, point: int, count: int) -> None:
        asked = self.points[point]
        found = self.index.nearest(asked.tobytes(), count)
        best = sorted((float(each @ asked) for each in self.known.values()), reverse=True)[:count]
        assert [cosine for _, cosine in found] == pytest.approx(best, abs=0.02)
        for entry, cosine in found:
            assert cosine == pytest.approx(float(self.known[entry] @ asked), abs=0.02)

    @invariant()
    def all_are_counted(self) -> None:
        assert len(self.index) == len(self.known)


class ChangesOfTheGraph(Changes):
    """So few are all within reach of a search in the graph, so it agrees too."""

    exact = 0


TestChanges = Changes.TestCase
TestChangesOfTheGraph = ChangesOfTheGraph.TestCase
