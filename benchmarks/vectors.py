"""What do the indexes of vectors cost, and what do they miss? `python -m benchmarks.vectors --data PATH`.

Each index, at each size, in a process of its own:

- `inverted`: sparse vectors of questions and statements (qqp, then cannot-negation) by the lexical embedder;
- `exact` and `graph`: dense vectors, `DenseIndex` made to compare all of them, and none. Which of the two it does is a
  matter of size as it is shipped.

What is asked is not in the index. A recall is the share found of the 8 that are nearest when everything is compared in
floating point; `near` counts only those with a cosine of 0.5 or more (sparse) or 0.7 (dense), which are all that could
answer. Times are the median over questions, each the shortest of five.

Dense vectors are read from `--vectors FILE` (.npy of float32, a row a vector, 400 more than the largest size), or drawn
(384 numbers that depend on 32, around one of 500 centres).
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.outcome import finish
from benchmarks.processes import say
from benchmarks.semantic_data import rows
from penstock.abc import Vector, VectorIndex
from penstock.embedders.lexical import LexicalEmbedder
from penstock.matching.indexes.dense import DenseIndex
from penstock.matching.indexes.inverted import InvertedIndex

SIZES = {"1k": 1_000, "10k": 10_000, "100k": 100_000}
ASKED = 400
COUNT = 8
WIDTH, FREEDOM, CENTRES = 384, 32, 500
KINDS = ["inverted", "exact", "graph"]
SETS = ("qqp", "cannot-negation")

Floats = npt.NDArray[np.float32]
Cosines = npt.NDArray[np.floating[Any]]


def texts(data: Path) -> list[str]:
    """Return every text once, in an order of chance."""
    found: dict[str, None] = {}
    for name in SETS:
        for row in rows(data / f"paraphrase/{name}/pairs.jsonl.gz"):
            found[row["a"]] = found[row["b"]] = None
    order = list(found)
    Random(1).shuffle(order)
    return order


class Exact:
    """Every cosine of a question with all entries, weighted as the inverted index weighs."""

    def __init__(self, vectors: Sequence[Mapping[int, float]]) -> None:
        places: dict[int, int] = {}
        self._places = places
        starts = np.cumsum([0, *map(len, vectors)])
        terms = np.fromiter((places.setdefault(t, len(places)) for v in vectors for t in v), np.int64, starts[-1])
        weights = np.fromiter((w for v in vectors for w in v.values()), np.float64, starts[-1])
        entries = np.repeat(np.arange(len(vectors)), np.diff(starts))
        order = np.argsort(terms, kind="stable")
        counts = np.bincount(terms)
        self._bounds = list(pairwise(np.cumsum([0, *counts]).tolist()))
        self._rarest = np.log(1.0 + (len(vectors) + 8.0) / 0.5)
        self._rarity = np.log(1.0 + (len(vectors) + 8.0) / (counts + 0.5))
        self._entries = entries[order]
        self._weights = (weights * self._rarity[terms])[order]
        self._lengths = np.sqrt(np.bincount(entries, (weights * self._rarity[terms]) ** 2, minlength=len(vectors)))

    def cosines(self, vector: Mapping[int, float]) -> Cosines:
        products = np.zeros(len(self._lengths))
        square = 0.0
        for term, weight in vector.items():
            place = self._places.get(term)
            if place is None:
                square += (weight * self._rarest) ** 2
                continue
            value = weight * self._rarity[place]
            square += value**2
            start, stop = self._bounds[place]
            products[self._entries[start:stop]] += value * self._weights[start:stop]
        found: Cosines = products / np.maximum(self._lengths * np.sqrt(square), 1e-12)
        return found


def drawn(count: int) -> Floats:
    """Return clustered vectors."""
    chance = np.random.default_rng(1)
    centres = chance.standard_normal((CENTRES, FREEDOM), np.float32)
    free = centres[chance.integers(0, CENTRES, count)] + 0.7 * chance.standard_normal((count, FREEDOM), np.float32)
    vectors: Floats = free.astype(np.float32) @ chance.standard_normal((FREEDOM, WIDTH), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def measure(kind: str, size: int, data: Path, vectors: Path | None) -> dict[str, float]:
    """Fill an index with `size` entries and ask it."""
    if kind == "inverted":
        return _sparse(texts(data)[: size + ASKED])
    matrix = np.load(vectors, mmap_mode="r") if vectors else drawn(size + ASKED)
    matrix = np.array(matrix[: size + ASKED], "<f4")
    if len(matrix) < size + ASKED:
        raise SystemExit(f"{vectors} has {len(matrix)} rows, {size + ASKED} are needed")
    asked, known = matrix[:ASKED], matrix[ASKED:]
    index = DenseIndex(exact=size if kind == "exact" else 0)
    figures = _fill(index, (row.tobytes() for row in known))
    return figures | _ask(index, [row.tobytes() for row in asked], iter(asked @ known.T), 0.7)


def _sparse(chosen: list[str]) -> dict[str, float]:
    embed = LexicalEmbedder().embed_one
    for text in chosen:
        embed(text)
    index = InvertedIndex()
    figures = _fill(index, (embed(text) for text in chosen[ASKED:]))
    asked = [embed(text) for text in chosen[:ASKED]]
    exact = Exact([embed(text) for text in chosen[ASKED:]])
    return figures | _ask(index, asked, map(exact.cosines, asked), 0.5)


def _fill(index: VectorIndex, vectors: Iterator[Vector]) -> dict[str, float]:
    gc.collect()
    before = _resident()
    took = []
    for entry, vector in enumerate(vectors):
        started = time.perf_counter()
        index.add(entry, vector)
        took.append(time.perf_counter() - started)
    gc.collect()
    return {
        "add_us": round(1e6 * median(took), 1),
        "build_s": round(sum(took), 2),
        "mb": round((_resident() - before - 8 * len(took)) / 1e6, 1),
    }


def _ask(index: VectorIndex, asked: Sequence[Vector], truths: Iterator[Cosines], near: float) -> dict[str, float]:
    found = hits = close = close_hits = firsts = 0
    for vector, cosines in zip(asked, truths, strict=True):
        best = np.argsort(-cosines)[:COUNT]
        given = [entry for entry, _ in index.nearest(vector, COUNT)]
        found += COUNT
        hits += len(set(given) & set(best.tolist()))
        firsts += bool(given) and bool(cosines[given[0]] >= cosines[best[0]] - 0.01)
        those = [entry for entry in best.tolist() if cosines[entry] >= near]
        close += len(those)
        close_hits += len(set(those) & set(given))
    took = [[_time(index, vector) for vector in asked] for _ in range(5)]
    return {
        "nearest_us_p50": round(1e6 * median(map(min, *took)), 1),
        "recall_at_8": round(hits / found, 3),
        "recall_at_8_near": round(close_hits / close, 3) if close else 1.0,
        "first": round(firsts / len(asked), 3),
    }


def _time(index: VectorIndex, vector: Vector) -> float:
    started = time.perf_counter()
    index.nearest(vector, COUNT)
    return time.perf_counter() - started


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="where the public sets are")
    parser.add_argument("--vectors", type=Path, help="dense vectors, a .npy of float32")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--json", action="store_true", help="print only the last line")
    options = parser.parse_args()
    started = time.monotonic()
    figures: dict[str, float] = {}
    for kind in options.kinds:
        for size in options.sizes:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
                given = alone.submit(measure, kind, SIZES[size], options.data, options.vectors).result()
            if size == "100k":
                given["mb_per_100k"] = given["mb"]
            del given["mb"]
            if not options.json:
                say(f"{kind} {size}: " + ", ".join(f"{name} {value:g}" for name, value in given.items()))
            figures |= {f"{name}_{kind}_{size}": value for name, value in given.items()}
    finish(figures, started=started, n=ASKED)


if __name__ == "__main__":
    main()
