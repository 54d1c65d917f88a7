"""For each question of a stream those before it that are nearest, once for all rules that look at nothing else."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.semantic.data import Memo, Stream
from penstock.abc import Vector
from penstock.matching.indexes.inverted import InvertedIndex

DIMENSIONS = 512
"""Of the dense vectors that sparse ones are folded into, for those who know no others."""

_KEPT = 48
_BLOCK = 256


class Nearest(NamedTuple):
    """A question's answer, and those before it with their cosines, nearest first."""

    answer: Hashable
    near: list[tuple[int, float]]


def neighbours(stream: Stream, embedder: Memo, *, folded: bool = False) -> list[Nearest]:
    """Find them: sparse vectors weighed by rarity as Penstock's index does, unless `folded` into dense ones."""
    vectors = embedder.embed([text for text, _ in stream])
    if isinstance(vectors[0], bytes) or folded:
        found = _dense(np.stack([dense(vector) for vector in vectors]))
    else:
        found = _sparse(vectors)
    return [Nearest(answer, near) for (_, answer), near in zip(stream, found, strict=True)]


def dense(vector: Vector) -> np.ndarray:
    """Return a dense vector of length 1; of a sparse one each feature goes to one place, with a sign."""
    if isinstance(vector, bytes):
        return np.frombuffer(vector, "<f4")
    found = np.zeros(DIMENSIONS, np.float32)
    for key, weight in vector.items():
        found[key % DIMENSIONS] += weight if (key // DIMENSIONS) % 2 else -weight
    length = float(np.linalg.norm(found))
    return found / length if length else found


def cosines(known: Sequence[Vector], asked: Sequence[Vector]) -> np.ndarray:
    """Return a row for each of `asked`."""
    found: np.ndarray = np.stack([dense(vector) for vector in asked]) @ np.stack([dense(vector) for vector in known]).T
    return found


def _dense(every: np.ndarray) -> Iterator[list[tuple[int, float]]]:
    for start in range(0, len(every), _BLOCK):
        block = every[start : start + _BLOCK] @ every[: start + _BLOCK].T
        for row in range(block.shape[0]):
            scores = block[row, : start + row]
            best = np.argpartition(-scores, _KEPT)[:_KEPT] if len(scores) > _KEPT else np.arange(len(scores))
            best = best[np.argsort(-scores[best], kind="stable")]
            yield [(int(place), float(scores[place])) for place in best]


def _sparse(vectors: list[Vector]) -> Iterator[list[tuple[int, float]]]:
    index = InvertedIndex()
    for number, vector in enumerate(vectors):
        yield list(index.nearest(vector, _KEPT))
        index.add(number, vector)
