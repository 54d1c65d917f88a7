"""Whether answers that were given, or would have been, are right: found out off the critical path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from penstock.caching.answer_cache import AnswerCache
from penstock.caching.key import cache_key
from penstock.core.clock import Clock
from penstock.core.errors import PenstockError
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.matching.labels.chain import Case, Chain
from penstock.matching.labels.pending import Decided
from penstock.matching.labels.text import answer_text
from penstock.matching.model import Features
from penstock.matching.partition import Proposal
from penstock.matching.policy import Decision
from penstock.semantic.asking import background
from penstock.semantic.memory import Lookup, Memory

Ask = Callable[[Request], Awaitable[Response]]


class Learner:
    """Compares answers and tells the policies.

    Args:
        memory: What learns.
        answers: Where the answers are.
        labels: What compares two answers.
        ask: Answers a request through the whole pipeline, on its tenant's account.
        clock: Where time comes from.
    """

    def __init__(self, memory: Memory, answers: AnswerCache, labels: Chain, ask: Ask, clock: Clock) -> None:
        self.labels = labels
        self._memory = memory
        self._answers = answers
        self._ask = ask
        self._clock = clock

    async def kept(self, request: Request, lookup: Lookup, key: bytes, *, shadow: bool) -> None:
        """A question was answered afresh, and the answer is under `key`: learn from it, and know the question."""
        right = await self._compare(request, lookup, key)
        proposal, decision = lookup.proposal, lookup.decision
        if proposal is not None and decision is not None and right is not None:
            served = shadow and decision.serve
            if served:
                lookup.policy.served(proposal, decision._replace(audit=1.0), right=right, now=self._clock.wall())
            else:
                lookup.policy.missed(proposal, decision, right=right)
            self._count(request.tenant, request.model, proposal.entry, right=right, served=served)
        self._remember(request, lookup, key, right=right)

    async def audit(self, request: Request, lookup: Lookup) -> None:
        """Ask again what was answered by meaning, and compare; the fresh answer is the exact one from then on."""
        proposal, decision = lookup.proposal, lookup.decision
        if proposal is None or decision is None:
            return
        stats = self._memory.stats
        stats.audits += 1
        key = cache_key(request)
        try:
            response = await self._ask(background(request, "audit", self._clock))
            try:
                await response.read()
            finally:
                await response.aclose()
            right = await self._compare(request, lookup, key)
        except PenstockError:
            right = None
            stats.audits_failed += 1
        lookup.policy.served(proposal, decision, right=right, now=self._clock.wall())
        if right is not None:
            self._count(request.tenant, request.model, proposal.entry, right=right, served=True)
        self._remember(request, lookup, key, right=right)

    def decided(self, request: Request, lookup: Lookup, *, served: bool) -> None:
        """Keep a decision for as long as a person may say whether it was right."""
        proposal, decision = lookup.proposal, lookup.decision
        if proposal is None or decision is None:
            return
        self._memory.pending.add(
            Decided(
                request_id=request.call.id,
                tenant=request.tenant,
                model=request.model,
                question=proposal.entry,
                key=cache_key(request),
                features=tuple(proposal.features),
                probability=decision.probability,
                audit=decision.audit,
                served=served,
                at=self._clock.wall(),
            )
        )

    async def told(self, tenant: str, request_id: str, *, right: bool) -> bool:
        """Learn what a person says of the answer to a request.

        A right one is an exact hit from then on.

        Args:
            tenant: Whose request it was.
            request_id: The request.
            right: Whether the answer fitted.

        Returns:
            False when nothing was decided by meaning on such a request of the tenant's, or that was told already.
        """
        now = self._clock.wall()
        decided = self._memory.pending.take(tenant, request_id, now)
        if decided is None:
            return False
        policy = self._memory.policies.of(tenant, decided.model)
        # Who is asked at random praises too; who says so on their own mostly complains, which errs on the safe side.
        proposal = Proposal(decided.question, None, Features(*decided.features), None)
        decision = Decision(decided.served, decided.probability, decided.audit)
        policy.missed(proposal, decision, right=right)
        self._count(tenant, decided.model, decided.question, right=right, served=decided.served)
        question = self._memory.questions.get(decided.question)
        entry = None if question is None else self._answers.lookup(question.key, now)
        if right and entry is not None:
            await self._answers.alias(decided.key, entry)
        return True

    async def _compare(self, request: Request, lookup: Lookup, key: bytes) -> bool | None:
        """Say whether what was proposed says the same as the fresh answer under `key`."""
        proposal = lookup.proposal
        known = None if proposal is None else self._memory.questions.get(proposal.entry)
        if known is None:
            return None
        here, there = await self._text(known.key), await self._text(key)
        if here is None or there is None:
            return None
        label = await self.labels.label(Case(known.text, lookup.asked.text, here, there), request)
        if label is None:
            self._memory.stats.unlabelled += 1
            return None
        return label.same

    async def _text(self, key: bytes) -> str | None:
        entry = self._answers.lookup(key, self._clock.wall())
        body = None if entry is None else await self._answers.body(entry)
        return None if body is None else answer_text(body)

    def _remember(self, request: Request, lookup: Lookup, key: bytes, *, right: bool | None) -> None:
        if self._answers.find(key) is not None:  # it may have left while it was compared
            self._memory.remember(request, lookup, key, self._group(lookup) if right else None)

    def _group(self, lookup: Lookup) -> bytes | None:
        proposal = lookup.proposal
        known = None if proposal is None else self._memory.questions.get(proposal.entry)
        return None if known is None else known.group

    def _count(self, tenant: str, model: str, entry: int, *, right: bool, served: bool) -> None:
        stats = self._memory.stats
        stats.right += right
        stats.wrong += not right
        stats.wrong_served += served and not right
        self._memory.questions.judged(entry, right=right)
        if self._memory.policies.of(tenant, model).stale(entry):
            self._memory.questions.drop((entry,))
        if self._memory.questions.get(entry) is None:  # it left meanwhile, and nobody would forget it again
            self._memory.policies.of(tenant, model).model.forget(entry)
        self._memory.policies.learnt(tenant, model)
