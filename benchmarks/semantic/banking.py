"""Questions to a bank, whose intents stand for their answers: hits at few false ones."""

from __future__ import annotations

from operator import eq
from pathlib import Path

from benchmarks.processes import say
from benchmarks.semantic import peers
from benchmarks.semantic.data import Memo, Stream, read_intents
from benchmarks.semantic.neighbours import neighbours
from benchmarks.semantic.ranking import Ranked, hits_at_error
from benchmarks.semantic.streams import PROMISES
from penstock.matching.evaluation import play
from penstock.matching.policy import Policy

ERRORS = {"1pct": 0.01, "0.1pct": 0.001}


def banking(data: Path, embedder: Memo) -> dict[str, float | None]:
    """Return right hits ÷ requests, where wrong ÷ served is at most so much.

    Cut in hindsight, for all alike: every request is remembered, whatever is cut. vCache has no cut, so it is
    given the best of its own promises. `_served` is what the policy serves at a promise of 1 %, and its error.
    """
    stream = read_intents(data, seed=0)
    embedder.embed([text for text, _ in stream])
    say(f"{embedder.label}: banking77")
    ours = _ranked(stream, embedder)
    near = neighbours(stream, embedder, folded=True)
    theirs = [(each.near[0][1], stream[each.near[0][0]][1] == each.answer) for each in near if each.near]
    own = [
        peers.vcache(neighbours(stream, embedder), promise, eq, seed=0, add_right=add)
        for promise in PROMISES[::2]
        for add in (False, True)
    ]
    figures: dict[str, float | None] = {}
    for name, error in ERRORS.items():
        figures[f"banking77_hit_rate_at_false_{name}"] = _rate(hits_at_error(ours, error), stream)
        figures[f"banking77_hit_rate_at_false_{name}_gptcache"] = _rate(hits_at_error(theirs, error), stream)
        best = max((c.served - c.wrong for c in own if c.served and c.wrong <= error * c.served), default=0)
        figures[f"banking77_hit_rate_at_false_{name}_vcache"] = _rate(best, stream)
    steps = list(play(stream, embedder, Policy.shipped(embedder.name, delta=0.01)))
    served = [step for step in steps if step.served]
    figures["banking77_served_1pct"] = _rate(len(served), stream)
    figures["banking77_error_1pct"] = round(sum(not s.right for s in served) / len(served), 4) if served else None
    return figures


def _ranked(stream: Stream, embedder: Memo) -> Ranked:
    never = Policy.shipped(embedder.name, delta=1e-9)
    return [
        (step.probability, bool(step.right))
        for step in play(stream, embedder, never)
        if step.probability and step.veto is None
    ]


def _rate(hits: int, stream: Stream) -> float:
    return round(hits / len(stream), 4)
