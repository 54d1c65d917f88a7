"""The nearest dense vectors of one partition, at one byte a number: all compared while few, a graph searched beyond."""

from __future__ import annotations

from math import inf

import numpy as np
from numpy.typing import NDArray
from usearch.index import Index

from penstock.abc import Vector

_EMPTY = np.empty(0, np.int8)


class DenseIndex:
    """Cosine over dense vectors in a graph of near neighbours (HNSW: Malkov & Yashunin 2016), small ones in full.

    A vector is scaled so that its largest number is 127 or -127, which no cosine sees but the rounding does: cosines
    are within 0.004. A vector without length is in, and near nothing.

    Args:
        exact: Up to how many entries all are compared.
        links: Of each entry to others, in the graph.
        add_breadth: Candidates kept while an entry finds its place.
        search_breadth: Candidates kept while searching.
    """

    def __init__(self, exact: int = 2000, links: int = 16, add_breadth: int = 48, search_breadth: int = 40) -> None:
        self._exact = exact
        self._links = links
        self._add_breadth = add_breadth
        self._search_breadth = search_breadth
        self._graph: Index | None = None
        self._nowhere: set[int] = set()

    def __len__(self) -> int:
        return len(self._nowhere) + (len(self._graph) if self._graph is not None else 0)

    def add(self, entry: int, vector: Vector) -> None:
        """Add or replace `entry`.

        Raises:
            ValueError: The vector has another number of dimensions than the first one.
        """
        numbers = self._rounded(vector)
        self.remove(entry)
        if not len(numbers):
            self._nowhere.add(entry)
            return
        if self._graph is None:
            self._graph = Index(
                ndim=len(numbers),
                metric="cos",
                dtype="i8",
                connectivity=self._links,
                expansion_add=self._add_breadth,
                expansion_search=self._search_breadth,
            )
        self._graph.add(entry, numbers, threads=1)

    def remove(self, entry: int) -> None:
        """Forget `entry`, if it is there."""
        self._nowhere.discard(entry)
        if self._graph is not None and entry in self._graph:
            self._graph.remove(entry, threads=1)

    def nearest(self, vector: Vector, count: int = 8) -> list[tuple[int, float]]:
        """Return up to `count` entries with their cosines, nearest first.

        Raises:
            ValueError: The vector has another number of dimensions than the entries.
        """
        numbers = self._rounded(vector)
        graph = self._graph
        if not len(numbers) or graph is None or not len(graph):
            return []
        found = graph.search(numbers, count, threads=1, exact=len(graph) <= self._exact)
        return [
            (entry, 1.0 - distance)
            for entry, distance in zip(found.keys.tolist(), found.distances.tolist(), strict=True)
        ]

    def _rounded(self, vector: Vector) -> NDArray[np.int8]:
        if not isinstance(vector, bytes):
            raise TypeError("a dense index takes dense vectors")
        numbers = np.frombuffer(vector, "<f4")
        if self._graph is not None and len(numbers) not in {0, self._graph.ndim}:
            raise ValueError(f"a vector of {len(numbers)} numbers, but those of the partition have {self._graph.ndim}")
        largest = float(np.abs(numbers).max(initial=0.0))
        return np.rint(numbers * (127.0 / largest)).astype(np.int8) if 0.0 < largest < inf else _EMPTY
