"""The semantic cache's decision on public pairs: hits and errors, the promise on streams, traps, and its cost.

    python -m benchmarks.semantic --data DIR [--orders 10] [--requests 3000]

One JSON object on the last line. `vcache` is the rule of its paper, written from the paper: for each entry a
logistic curve over similarity, explored until its own labels bound its error.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from math import exp, log, sqrt
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from benchmarks.semantic_data import qqp_pairs, rows, stream
from penstock.embedders.lexical import LexicalEmbedder
from penstock.matching.evaluation import Outcome, evaluate
from penstock.matching.model import PooledModel
from penstock.matching.partition import Partition, Proposal
from penstock.matching.policy import Policy
from penstock.matching.weights import PRIOR, WEIGHTS

EMBEDDER = LexicalEmbedder()


def mock(data: Path) -> dict[str, float]:
    """Insert every origin, ask every similar; the share asked that is answered at the best cut with that precision."""
    pairs = rows(data / "paraphrase/gptcache-mock/mock.jsonl.gz")
    model = PooledModel(WEIGHTS)
    figures: dict[str, float] = {}
    for name, edits, vetoed, score in (
        ("", True, True, lambda p: model.probability(p.features, p.entry)),
        ("_facts_only", False, True, lambda p: model.probability(p.features, p.entry)),
        ("_facts_only_margin", False, True, lambda p: p.features.margin),
        ("_no_veto_margin", False, False, lambda p: p.features.margin),
        ("_no_veto_similarity", False, False, lambda p: p.features.similarity),
    ):
        partition = Partition(edits=edits)
        for place, pair in enumerate(pairs):
            partition.add(pair["origin"], EMBEDDER.embed_one(pair["origin"]), place)
        found = []
        for place, pair in enumerate(pairs):
            proposal = partition.propose(pair["similar"], EMBEDDER.embed_one(pair["similar"]))
            if proposal and not (vetoed and proposal.veto):
                found.append((score(proposal), proposal.answer == place))
        for precision in (99, 95):
            figures[f"mock_hit_rate_at_precision_{precision}{name}_lexical"] = hits(found, precision) / len(pairs)
    return figures


def hits(found: list[tuple[float, bool]], precision: int) -> int:
    best = right = 0
    for count, (_, ok) in enumerate(sorted(found, reverse=True), 1):
        right += ok
        if 100 * right >= precision * count:
            best = right
    return best


def vcache(requests: list[tuple[str, int]], delta: float, seed: int) -> Outcome:
    """Explore with the probability that keeps the error under `delta`, from each entry's own labels alone."""
    chance, partition = Random(seed), Partition(edits=False)
    labels: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    served = wrong = missed = 0
    for question, answer in requests:
        vector = EMBEDDER.embed_one(question)
        proposal = partition.propose(question, vector)
        if proposal is not None:
            similarity = proposal.features.similarity
            if chance.random() > exploration(labels[proposal.entry], similarity, delta):
                served += 1
                wrong += proposal.answer != answer
                continue
            labels[proposal.entry].append((similarity, proposal.answer == answer))
        missed += 1
        partition.add(question, vector, answer)
    return Outcome(served, wrong, missed, 0, 0, 0)


def exploration(seen: list[tuple[float, bool]], similarity: float, delta: float) -> float:
    """Return how probably an entry is explored, so that (1 - it) × P(wrong) ≤ `delta`."""
    if len(seen) < 2:
        return 1.0
    threshold, slope = 0.8, 20.0
    for _ in range(30):
        gradient = sum((right - _sigmoid(slope * (s - threshold))) * -slope for s, right in seen)
        threshold = min(1.0, max(0.0, threshold + 0.002 * gradient / sqrt(len(seen))))
    shift = sqrt(log(1 / 0.05) / (2 * len(seen)))
    right = _sigmoid(slope * (similarity - threshold)) * max(0.0, 1 - shift)
    return max(0.0, 1 - delta / max(delta, 1 - right))


def _sigmoid(value: float) -> float:
    return 1 / (1 + exp(-max(-30.0, min(30.0, value))))


def streams(data: Path, orders: int, requests: int) -> dict[str, Any]:
    """Play the half of qqp nothing was fitted on."""
    pairs = qqp_pairs(data, half=1)
    figures: dict[str, Any] = {"qqp_requests": requests, "qqp_orders": orders}
    for percent in (1, 2, 5, 10, 20):
        ours, theirs = [], []
        for seed in range(orders):
            order = stream(pairs, seed=seed, requests=requests)
            ours.append(evaluate(order, EMBEDDER, percent / 100, seed=seed))
            theirs.append(vcache(order, percent / 100, seed))
        within = sum(100 * o.wrong <= percent * o.served for o in ours)
        serving = any(o.served for o in ours)  # who serves nothing keeps every promise, which says nothing
        figures[f"qqp_runs_within_delta_{percent}pct_lexical"] = within / orders if serving else None
        for name, outcomes in (("", ours), ("_vcache", theirs)):
            figures[f"qqp_served_{percent}pct{name}_lexical"] = [o.served for o in outcomes]
            figures[f"qqp_wrong_{percent}pct{name}_lexical"] = [o.wrong for o in outcomes]
        theirs_right = sum(o.served - o.wrong for o in theirs)
        ours_right = sum(o.served - o.wrong for o in ours)
        figures[f"qqp_hits_vs_vcache_{percent}pct_lexical"] = ours_right / theirs_right if theirs_right else None
    return figures


def trap_pairs(data: Path) -> dict[str, list[tuple[str, str, int]]]:
    kinds: dict[str, list[tuple[str, str, int]]] = defaultdict(list)
    for pair in rows(data / "paraphrase/cannot-negation/pairs.jsonl.gz"):
        kinds[f"cannot {pair['source']}"].append((pair["a"], pair["b"], pair["label"]))
    for pair in rows(data / "paraphrase/qqp/pairs.jsonl.gz"):
        if pair["kind"] != "other":
            kinds[f"qqp {pair['kind']}"].append((pair["a"], pair["b"], pair["label"]))
    groups = defaultdict(list)
    for row in rows(data / "intents/nlupp/banking.jsonl.gz"):
        slots = json.dumps({k: v["text"].lower() for k, v in row.get("slots", {}).items()}, sort_keys=True)
        groups[tuple(sorted(row.get("intents", ())))].append((row["text"], slots))
    for members in groups.values():
        for (a, one), (b, other) in pairwise(members):
            if one != "{}" and other != "{}":
                kinds["nlupp"].append((a, b, int(one == other)))
    return kinds


def traps(data: Path) -> dict[str, Any]:
    """One question known, the other asked, by kind; served where the rules allow and similarity is 0.5 at least."""
    figures: dict[str, Any] = {}
    totals = [0, 0, 0, 0]
    for kind, pairs in trap_pairs(data).items():
        counts = [0, 0, 0, 0, 0]
        for a, b, label in pairs:
            partition = Partition()
            partition.add(a, EMBEDDER.embed_one(a), 0)
            proposal = partition.propose(b, EMBEDDER.embed_one(b))
            near = proposal is not None and proposal.features.similarity >= 0.5
            hit = near and proposal is not None and proposal.veto is None
            counts[0 if label else 2] += 1
            counts[1 if label else 3] += hit
            counts[4] += bool(near and label)
        for place, value in enumerate((counts[2], counts[3], counts[1], counts[4])):
            totals[place] += value
        figures[kind] = dict(zip(("same", "same_hit", "other", "other_hit", "same_hit_no_veto"), counts, strict=True))
    return {
        "traps_false_hit_rate_lexical": totals[1] / totals[0],
        "traps_true_hit_ratio_lexical": totals[2] / totals[3],
        "traps_by_kind_lexical": figures,
    }


def cost(data: Path) -> dict[str, float]:
    """Microseconds at 1,000 entries, beside a loop of additions that tells how fast the machine is just now."""
    order = stream(qqp_pairs(data, half=1), seed=0, requests=2000)
    partition, policy = Partition(), Policy(PooledModel(WEIGHTS), PRIOR)
    for question, answer in order[:1000]:
        partition.add(question, EMBEDDER.embed_one(question), answer)
    asked = [question for question, _ in order[1000:]]
    vectors = [EMBEDDER.embed_one(question) for question in asked]
    proposals: list[Proposal] = []

    def propose(place: int) -> None:
        if found := partition.propose(asked[place], vectors[place]):
            proposals.append(found)

    return {
        "embed_us_p50_lexical": _micros(lambda place: EMBEDDER.embed_one(asked[place]), len(asked)),
        "propose_us_p50_1000_entries_lexical": _micros(propose, len(asked)),
        "decide_us_p50": _micros(lambda place: policy.decide(proposals[place]), len(proposals)),
    }


def _micros(act: Callable[[int], object], count: int) -> float:
    taken = []
    for place in range(count):
        start = time.perf_counter()
        act(place)
        taken.append(time.perf_counter() - start)
    return round(median(taken) * 1e6, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--orders", type=int, default=10)
    parser.add_argument("--requests", type=int, default=3000)
    arguments = parser.parse_args()
    figures: dict[str, Any] = {}
    for part in (mock, traps, cost):
        figures |= part(arguments.data)
        print(json.dumps(figures), flush=True)
    figures |= streams(arguments.data, arguments.orders, arguments.requests)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
