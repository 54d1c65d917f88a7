"""Fit the weights that the semantic cache ships with, and print them as the module `penstock.matching.weights`.

    python -m benchmarks.semantic_fit --data DIR > src/penstock/matching/weights.py

Reads the half of qqp whose answers hash to even: of it three quarters fit the model and one quarter counts how often
it is right. `benchmarks.semantic` reports on the other half.
"""

from __future__ import annotations

import argparse
from math import exp
from pathlib import Path

from benchmarks.semantic_data import qqp_pairs, stream
from penstock.embedders.lexical import LexicalEmbedder
from penstock.matching.model import Features, inputs
from penstock.matching.partition import Partition
from penstock.matching.threshold import BINS, bin_of

WORTH = 0.5
"""What a count of the public data is worth beside one of the user's own."""


def observations(requests: list[tuple[str, int]]) -> list[tuple[Features, bool]]:
    embedder, partition = LexicalEmbedder(), Partition()
    seen = []
    for question, answer in requests:
        vector = embedder.embed_one(question)
        proposal = partition.propose(question, vector)
        if proposal is not None and proposal.veto is None:
            seen.append((proposal.features, proposal.answer == answer))
        partition.add(question, vector, answer)
    return seen


def fit(seen: list[tuple[Features, bool]], rounds: int = 12, ridge: float = 1.0) -> list[float]:
    """Newton's method on the penalised likelihood."""
    rows = [inputs(features) for features, _ in seen]
    size = len(rows[0])
    weights = [0.0] * size
    for _ in range(rounds):
        gradient = [-ridge * w for w in weights]
        curve = [[ridge * (i == j) for j in range(size)] for i in range(size)]
        for row, (_, right) in zip(rows, seen, strict=True):
            p = 1 / (1 + exp(-sum(w * x for w, x in zip(weights, row, strict=True))))
            for i, x in enumerate(row):
                gradient[i] += (right - p) * x
                for j in range(i + 1):
                    curve[i][j] += p * (1 - p) * x * row[j]
        for i in range(size):
            for j in range(i):
                curve[j][i] = curve[i][j]
        step = solve(curve, gradient)
        weights = [w + s for w, s in zip(weights, step, strict=True)]
    return weights


def solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Gauss and Jordan; the matrix is positive definite."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for i, pivot in enumerate(rows):
        pivot[:] = [value / pivot[i] for value in pivot]
        for j, row in enumerate(rows):
            if j != i:
                row[:] = [value - row[i] * p for value, p in zip(row, pivot, strict=True)]
    return [row[-1] for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=16000)
    arguments = parser.parse_args()
    pairs = qqp_pairs(arguments.data, half=0)
    cut = 3 * len(pairs) // 4
    weights = fit(observations(stream(pairs[:cut], seed=0, requests=arguments.requests)))
    counts = [[0.0, 0.0] for _ in range(BINS)]
    for features, right in observations(stream(pairs[cut:], seed=0, requests=arguments.requests)):
        p = 1 / (1 + exp(-sum(w * x for w, x in zip(weights, inputs(features), strict=True))))
        counts[bin_of(p)][not right] += WORTH
    print('"""Fitted by `benchmarks.semantic_fit` on public data; do not edit."""\n')
    print("from __future__ import annotations\n\nfrom penstock.matching.model import Weights\n")
    print(f"WEIGHTS = Weights({', '.join(f'{weight:.4f}' for weight in weights)})")
    print(f"PRIOR: tuple[tuple[float, float], ...] = {tuple(tuple(pair) for pair in counts)}")
    print('"""How often the model was right (first) and wrong, by bin, on pairs it was not fitted on."""')


if __name__ == "__main__":
    main()
