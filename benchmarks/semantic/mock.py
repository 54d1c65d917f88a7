"""GPTCache's own test: every statement known, each asked in other words."""

from __future__ import annotations

from pathlib import Path

from benchmarks.semantic.data import Memo, read_mock
from benchmarks.semantic.neighbours import cosines
from benchmarks.semantic.ranking import Ranked, hits_at_error
from penstock.matching.evaluation import index_for
from penstock.matching.partition import Partition
from penstock.matching.policy import Policy


def mock(data: Path, embedder: Memo) -> dict[str, float]:
    """Return the share asked that is answered rightly, at the best cut with that precision."""
    pairs = read_mock(data)
    figures: dict[str, float] = {}
    for name, vetoed in (("", True), ("_without_vetoes", False)):
        found = _ours(pairs, embedder, vetoed=vetoed)
        for precision in (99, 95):
            hits = hits_at_error(found, 1 - precision / 100)
            figures[f"mock_hit_rate_at_precision_{precision}{name}"] = round(hits / len(pairs), 4)
    theirs = _nearest(pairs, embedder)
    for precision in (99, 95):
        hits = hits_at_error(theirs, 1 - precision / 100)
        figures[f"mock_hit_rate_at_precision_{precision}_gptcache"] = round(hits / len(pairs), 4)
    return figures


def _ours(pairs: list[tuple[str, str]], embedder: Memo, *, vetoed: bool) -> Ranked:
    partition = Partition(index_for(embedder.one(pairs[0][0])))
    model = Policy.shipped(embedder.name).model
    for place, (origin, _) in enumerate(pairs):
        partition.add(origin, embedder.one(origin), place)
    found = []
    for place, (_, similar) in enumerate(pairs):
        proposal = partition.propose(similar, embedder.one(similar))
        if proposal and not (vetoed and proposal.veto):
            found.append((model.probability(proposal.features, proposal.entry), proposal.answer == place))
    return found


def _nearest(pairs: list[tuple[str, str]], embedder: Memo) -> Ranked:
    """The nearest by cosine alone: any fixed threshold is a cut in this."""
    every = cosines(embedder.embed([a for a, _ in pairs]), embedder.embed([b for _, b in pairs]))
    return [(float(row.max()), int(row.argmax()) == place) for place, row in enumerate(every)]
