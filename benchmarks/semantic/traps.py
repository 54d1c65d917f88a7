"""Pairs that read alike and mean something else: one known, the other asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.semantic.data import Memo, read_traps
from penstock.matching.evaluation import index_for
from penstock.matching.partition import Partition

NEAR = 0.5
"""A cosine from which on anything that is not vetoed counts as a hit."""


def traps(data: Path, embedder: Memo) -> dict[str, Any]:
    """Count hits by kind: on other meanings (false) and on the same (true), of all and of those without vetoes."""
    kinds = {}
    for kind, pairs in read_traps(data).items():
        embedder.embed([text for a, b, _ in pairs for text in (a, b)])
        counts = dict.fromkeys(("same", "same_hit", "same_hit_without_vetoes", "other", "other_hit"), 0)
        for a, b, label in pairs:
            partition = Partition(index_for(embedder.one(a)))
            partition.add(a, embedder.one(a), 0)
            proposal = partition.propose(b, embedder.one(b))
            near = proposal is not None and proposal.features.similarity >= NEAR
            hit = near and proposal is not None and proposal.veto is None
            counts["same" if label else "other"] += 1
            counts["same_hit" if label else "other_hit"] += hit
            counts["same_hit_without_vetoes"] += bool(near and label)
        kinds[kind] = counts
    total = {name: sum(counts[name] for counts in kinds.values()) for name in next(iter(kinds.values()))}
    return {
        "traps_false_hit_rate": round(total["other_hit"] / total["other"], 5),
        "traps_true_hit_ratio": round(total["same_hit"] / max(1, total["same_hit_without_vetoes"]), 4),
        "traps_by_kind": kinds,
    }
