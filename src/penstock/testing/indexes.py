"""The check that an index keeps the promises of `penstock.abc.VectorIndex`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from penstock.abc import Vector, VectorIndex

_NEAR = 0.95
"""Cosine of a vector and itself, at the least; what an index learns from its entries may lag behind."""


def check_vector_index(new_index: Callable[[], VectorIndex], vectors: Sequence[Vector]) -> None:
    """Check an index: empty, add, count, order, ties, replace, remove, add again, empty vectors, another kind.

    Args:
        new_index: Makes an empty index.
        vectors: At least three, of one kind, no two with a cosine above 0.9.
    """
    index = new_index()
    _require(len(index) == 0, "a new index is not empty")
    _require(list(index.nearest(vectors[0])) == [], "an empty index finds something")
    index.remove(7)
    for place, vector in enumerate(vectors):
        index.add(place, vector)
        _require(len(index) == place + 1, "len() is not how many were added")
    for place, vector in enumerate(vectors):
        found = _found(index, vector, len(vectors))
        _require(found[:1] == [place], "an entry is not nearest to its own vector")
        _require(_found(index, vector, 1) == [place], "a count of 1 does not give the nearest alone")
    _check_changes(index, vectors)

    nothing: Vector = b"" if isinstance(vectors[0], bytes) else {}
    index.add(0, nothing)
    _require(len(index) == len(vectors), "an entry with an empty vector is not counted")
    _require(0 not in _found(index, vectors[0], len(vectors)), "an entry with an empty vector is near something")
    _require(_found(index, nothing, 8) == [], "something is near an empty vector")
    index.add(0, vectors[0])
    _require(_found(index, vectors[0], 1) == [0], "an entry whose vector was empty cannot be found by its new one")
    try:
        index.nearest({} if isinstance(vectors[0], bytes) else b"")
    except TypeError:
        return
    raise AssertionError("a vector of another kind is not a TypeError")


def _check_changes(index: VectorIndex, vectors: Sequence[Vector]) -> None:
    twin, everything = len(vectors), len(vectors) + 1
    index.add(twin, vectors[0])
    _require(set(_found(index, vectors[0], 2)) == {0, twin}, "of two entries with one vector, not both are found")
    index.add(twin, vectors[1])
    _require(len(index) == everything, "an entry that is added again counts twice")
    _require(set(_found(index, vectors[1], 2)) == {1, twin}, "an entry that was added again is not at its new place")
    _require(_found(index, vectors[0], 1) == [0], "an entry that was added again hides another")
    near = dict(index.nearest(vectors[0], everything))
    _require(near.get(twin, 0.0) < _NEAR, "an entry that was added again is still at its old place")
    index.remove(twin)
    index.remove(twin)
    for place, vector in enumerate(vectors):
        index.remove(place)
        _require(len(index) == len(vectors) - 1, "len() is not how many are left")
        _require(place not in _found(index, vector, everything), "a removed entry is found")
        index.add(place, vector)
        _require(_found(index, vector, 1) == [place], "an entry that was removed cannot be added again")
    _require(len(index) == len(vectors), "removing and adding again changes how many there are")


def _found(index: VectorIndex, vector: Vector, count: int) -> list[int]:
    """Return what is near, once its form has been checked."""
    found = index.nearest(vector, count)
    entries = [entry for entry, _ in found]
    cosines = [cosine for _, cosine in found]
    _require(len(found) <= count, "more are found than asked for")
    _require(len(set(entries)) == len(entries), "an entry is found twice")
    _require(cosines == sorted(cosines, reverse=True), "what is found is not nearest first")
    _require(all(-1.001 <= cosine <= 1.001 for cosine in cosines), "a cosine is not between -1 and 1")
    return entries


def _require(kept: bool, otherwise: str) -> None:  # noqa: FBT001 - reads like an assertion
    if not kept:
        raise AssertionError(otherwise)
