"""Scores and outcomes for ``store.url: memory:``, as far back as its ledger reaches."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from penstock.core.experiment import Outcome, Score, values_of
from penstock.stores.memory import Recorded

MOST = 10_000
"""Scores that are kept."""


class MemoryScoreStore:
    """`penstock.abc.ScoreStore` while the process lives.

    Args:
        finished: Returns the calls the ledger keeps, oldest first, each with its number.
    """

    def __init__(self, finished: Callable[[], Iterable[tuple[int, Recorded]]]) -> None:
        self._finished = finished
        self._kept: OrderedDict[tuple[str, str, str], Score] = OrderedDict()

    async def put(self, score: Score) -> Score:
        """Keep a score, unless there is one; return what is kept."""
        kept = self._kept.setdefault((score.tenant, score.request_id, score.name), score)
        if len(self._kept) > MOST:
            self._kept.popitem(last=False)
        return kept

    async def outcomes(self, *, after: int, since: float, until: float, limit: int) -> Sequence[Outcome]:
        """Return calls that took part in experiments, in the order of their numbers."""
        found = [
            _outcome(number, each, self._scores(each.tenant, each.call.id))
            for number, each in self._finished()
            if each.call.arms and number > after and since <= each.call.started_at < until
        ]
        return found[:limit]

    def _scores(self, tenant: str, request_id: str) -> dict[str, tuple[float, float]]:
        return {
            name: (score.value, score.at)
            for (owner, ident, name), score in self._kept.items()
            if owner == tenant and ident == request_id
        }


def _outcome(number: int, finished: Recorded, scores: dict[str, tuple[float, float]]) -> Outcome:
    call = finished.call
    served, usage = call.served, call.usage
    unknown = any(attempt.cost_source == "unknown" for attempt in call.attempts)
    first = None if served is None or served.first_token_s is None else served.started - call.started
    values = values_of(
        outcome=finished.outcome,
        cache=call.cache,
        cost_usd=None if unknown else float(sum(attempt.cost_usd or 0 for attempt in call.attempts)),
        duration_s=finished.duration_s,
        first_token_s=None if first is None or served is None else first + (served.first_token_s or 0.0),
        input_tokens=None if usage is None else usage.input_tokens,
        output_tokens=None if usage is None else usage.output_tokens,
    )
    return Outcome(number, call.started_at, call.unit, call.arms or {}, values, scores)
