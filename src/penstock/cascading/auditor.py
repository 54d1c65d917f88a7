"""Audits: requests drawn at random are put to all models of their cascade, and the answers are compared."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal

from penstock.cascading.known import Known
from penstock.cascading.reading import read_answer
from penstock.core.call import Call
from penstock.core.cascade import Stage
from penstock.core.clock import Clock
from penstock.core.errors import PenstockError
from penstock.core.money import to_picodollars
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.matching.labels.chain import Case, Chain
from penstock.routing.fallbacks import question_of
from penstock.semantic.asking import background

Ask = Callable[[Request], Awaitable[Response]]


class Auditor:
    """Asks models that were not asked, and tells what is known of a cascade how their answers compare.

    Args:
        labels: What compares two answers.
        ask: Answers a request through the whole pipeline, on its tenant's account.
        clock: Says when such a request began.
        judged: A model is among what compares. What it does not get to is left out; what rules cannot compare counts as
            worse, since nothing shows that it is not.
    """

    def __init__(self, labels: Chain, ask: Ask, clock: Clock, *, judged: bool) -> None:
        self._labels = labels
        self._ask = ask
        self._clock = clock
        self._judged = judged

    async def audit(self, request: Request, known: Known, answers: Mapping[str, bytes], given: str) -> None:
        """Learn from a request.

        Args:
            request: What was asked.
            known: Of its cascade.
            answers: Whole answers that are there, by the name of the stage.
            given: Whose answer was given.
        """
        counts = known.counts
        counts.audits += 1
        known.news = True
        stages = [stage for stage in known.cascade.stages if stage.route is not None]
        bodies = dict(answers)
        for stage in reversed(stages):
            if stage.name not in bodies:
                body = await self._answer(request, known, stage)
                if body is None:
                    counts.audits_failed += 1
                    return
                bodies[stage.name] = body
        names = [stage.name for stage in stages]
        last = read_answer(bodies[names[-1]], request.payload)
        if len(last) != 1 or last[0].fault is not None:  # nothing to measure by
            counts.unlabelled += 1
            return
        for place, name in enumerate(names[:-1]):
            await self._compare(request, known, name, bodies, escalated=given in names[place + 1 :])

    async def _compare(
        self, request: Request, known: Known, name: str, bodies: Mapping[str, bytes], *, escalated: bool
    ) -> None:
        said = read_answer(bodies[name], request.payload)
        last = read_answer(bodies[known.cascade.stages[-1].name], request.payload)
        if len(said) != 1:
            known.counts.unlabelled += 1
            return
        question, answer = question_of(request.payload), said[0].answer
        same: bool | None = False
        if said[0].fault is None:
            label = await self._labels.label(Case(question, question, answer.text, last[0].answer.text), request)
            same = None if label is None and self._judged else label is not None and label.same
        if same is None:
            known.counts.unlabelled += 1
            return
        await known.learn(name, question, answer, lost=not same, escalated=escalated)

    async def _answer(self, request: Request, known: Known, stage: Stage) -> bytes | None:
        route = stage.leg
        asked = background(request, "audit", self._clock, model=route.model, route=route, context="off",
                           context_tokens=None)  # fmt: skip
        try:
            response = await self._ask(asked)
            try:
                return await response.read()
            finally:
                await response.aclose()
        except PenstockError:
            return None
        finally:
            known.counts.audit_pusd += cost_of(asked.call) or 0


def cost_of(call: Call, first: int = 0) -> int | None:
    """Return what a call's attempts from number `first` on cost, in picodollars; None when a price is not known."""
    total = Decimal(0)
    for attempt in call.attempts[first:]:
        if attempt.cost_usd is not None:
            total += attempt.cost_usd
        elif attempt.cost_source == "unknown":
            return None
    return to_picodollars(total)
