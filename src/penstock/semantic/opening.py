"""Putting together what compares answers, as the settings say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from penstock.abc import Embedder, VectorIndex
from penstock.config.semantic import JudgeSettings, SemanticCacheSettings
from penstock.core.clock import Clock
from penstock.core.money import to_picodollars
from penstock.core.request import Request
from penstock.matching.indexes.inverted import InvertedIndex
from penstock.matching.labels.allowance import Allowance
from penstock.matching.labels.chain import BY_EXACT, BY_RULE, ByJudge, ByVector, Chain, Labeller, Said
from penstock.matching.labels.chain import Ask as AskJudge
from penstock.matching.labels.judge import Judge
from penstock.matching.labels.text import answer_text
from penstock.semantic.asking import other
from penstock.semantic.learner import Ask
from penstock.semantic.memory import Memory


def index_for(embedder: Embedder) -> Callable[[], VectorIndex]:
    """Return what makes the index of a partition for the vectors of `embedder`."""
    if embedder.dimensions == 0:
        return InvertedIndex
    from penstock.matching.indexes.dense import DenseIndex  # noqa: PLC0415 - needs the extra `semantic`

    return DenseIndex


def make_chain(settings: SemanticCacheSettings, memory: Memory, ask: Ask) -> Chain:
    """Make the labellers that `settings` name, in their order."""
    return chain_of(settings.labels, settings.judge, memory.embedder, memory.allowance, ask, memory.clock)


def chain_of(
    kinds: Sequence[str],
    judge: JudgeSettings | None,
    embedder: Embedder,
    allowance: Callable[[JudgeSettings], Allowance],
    ask: Ask,
    clock: Clock,
) -> Chain:
    """Make labellers of `kinds`, in their order.

    Args:
        kinds: As in `LabelKind`.
        judge: For ``judge``: the model that is asked.
        embedder: For ``answers``: what makes vectors of answers.
        allowance: Says how often a judge may be asked.
        ask: Answers a request through the whole pipeline.
        clock: Says when such a request began.
    """
    labellers: list[Labeller] = []
    for kind in kinds:
        if kind == "exact":
            labellers.append(BY_EXACT)
        elif kind == "rule":
            labellers.append(BY_RULE)
        elif kind == "answers":
            labellers.append(ByVector(embedder))
        elif judge is not None:
            labellers.append(ByJudge(Judge(judge.model), allowance(judge), _asker(judge.model, ask, clock)))
    return Chain(labellers)


def _asker(model: str, ask: Ask, clock: Clock) -> AskJudge:
    async def said(payload: dict[str, Any], behalf: Request | None) -> Said:
        if behalf is None:
            raise AssertionError("a judge is asked on behalf of a request")
        body = {name: value for name, value in payload.items() if name != "model"}
        request = other(behalf, "judge", "chat", model, body, clock)
        response = await ask(request)
        try:
            text = answer_text(await response.read())
        finally:
            await response.aclose()
        costs = [attempt.cost_usd for attempt in request.call.attempts]
        known = [to_picodollars(cost) for cost in costs if cost is not None]
        return Said(text or "", sum(known) if len(known) == len(costs) else None)

    return said
