"""Pairs that read alike and mean something else: one known, the other asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.semantic.data import Memo, read_traps
from penstock.matching.evaluation import index_for
from penstock.matching.model import Features
from penstock.matching.partition import Partition
from penstock.matching.policy import Policy

SURE = 0.99
"""The model's probability from which on a proposal counts as a hit, with the rules that forbid and without them: that
which the default promise of 1 % wrong asks for."""
POINTS = (0.9, 0.95, 0.97, 0.98, 0.99)
COSINES = (0.5, 0.8, 0.9)

_COUNTS = ("same", "same_hit", "same_hit_without_vetoes", "other", "other_hit", "other_hit_without_vetoes",
           "other_hit_same_words")  # fmt: skip


def traps(data: Path, embedder: Memo) -> dict[str, Any]:
    """Count hits by kind: on other meanings (false) and on the same (true), with vetoes and without.

    `other_hit_same_words` are those of the false whose words are the same in the same order, but for articles,
    auxiliaries and endings: labels nobody could tell from the texts.
    """
    model = Policy.shipped(embedder.name).model
    kinds = {}
    points = {f"{point}": dict.fromkeys(("true", "false"), 0) for point in POINTS}
    cosines = {f"{cosine}": dict.fromkeys(("true", "false"), 0) for cosine in COSINES}
    for kind, pairs in read_traps(data).items():
        embedder.embed([text for a, b, _ in pairs for text in (a, b)])
        counts = dict.fromkeys(_COUNTS, 0)
        for a, b, label in pairs:
            side, truth = ("same", "true") if label else ("other", "false")
            counts[side] += 1
            partition = Partition(index_for(embedder.one(a)))
            partition.add(a, embedder.one(a), 0)
            proposal = partition.propose(b, embedder.one(b))
            if proposal is None:
                continue
            probability = model.probability(proposal.features, proposal.entry)
            allowed = proposal.veto is None
            counts[f"{side}_hit_without_vetoes"] += probability >= SURE
            counts[f"{side}_hit"] += allowed and probability >= SURE
            counts["other_hit_same_words"] += not label and allowed and probability >= SURE and _same(proposal.features)
            for point in POINTS:
                points[f"{point}"][truth] += allowed and probability >= point
            for cosine in COSINES:
                cosines[f"{cosine}"][truth] += proposal.features.similarity >= cosine
        kinds[kind] = counts
    total = {name: sum(counts[name] for counts in kinds.values()) for name in _COUNTS}
    return {
        "traps_false_hit_rate": round(total["other_hit"] / total["other"], 5),
        "traps_false_hit_rate_without_vetoes": round(total["other_hit_without_vetoes"] / total["other"], 5),
        "traps_true_hit_ratio": round(total["same_hit"] / max(1, total["same_hit_without_vetoes"]), 4),
        "traps_total": total,
        "traps_by_kind": kinds,
        "traps_by_probability": points,
        "traps_by_cosine_alone": cosines,
    }


def _same(features: Features) -> bool:
    return not features.difference and not features.function and features.order == 1.0
