"""Answers what was asked before in other words, as far as the promised error rate allows.

What is missed teaches: the fresh answer is compared with the one that would have been given. Of what is served a part
is asked again behind the client's back. `penstock.matching.policy` decides; see `docs/guides/semantic-cache.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import msgspec

from penstock.caching.answer_cache import AnswerCache
from penstock.caching.asking import asked
from penstock.caching.key import cache_key
from penstock.config.semantic import SemanticCacheSettings
from penstock.core.call import SemanticNote
from penstock.core.clock import Clock
from penstock.core.errors import PenstockError
from penstock.core.handler import Handler
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import SemanticMode
from penstock.core.tasks import TaskGroup
from penstock.matching.policy import Decision
from penstock.semantic.learner import Learner
from penstock.semantic.memory import Lookup, Memory

_NAME = "Penstock-Semantic"
_WAITING = 10_000
"""Questions whose answers are on their way, at most; what is beyond is not learnt from."""


class SemanticCache:
    """The layer, under an exact cache that has the answers.

    Attributes:
        learner: What finds out whether its answers were right.
    """

    def __init__(
        self,
        settings: SemanticCacheSettings,
        memory: Memory,
        answers: AnswerCache,
        learner: Learner,
        clock: Clock,
        random: Random,
        tasks: TaskGroup,
    ) -> None:
        self._settings = settings
        self._memory = memory
        self._answers = answers
        self.learner = learner
        self._clock = clock
        self._random = random
        self._tasks = tasks
        self._waiting: dict[bytes, tuple[Request, Lookup, bool]] = {}
        # Of several configurations the newest is told; what the older ones wait for is not learnt from.
        answers.on_keep["semantic"] = self._kept
        answers.on_leave["semantic"] = memory.questions.drop_key

    async def __call__(self, request: Request, inner: Handler, /) -> Response:
        """Answer from what is known, or from `inner`."""
        settings, directives, route = self._settings, request.cache, request.route
        mode = request.semantic or (route.semantic if route is not None else None) or settings.mode
        if mode == "off" or directives.no_store or (route is not None and route.cache_ttl_s == 0):
            return await inner(request)
        place = asked(request, settings.max_question_chars, first_turn_only=settings.first_turn_only)
        if place is None:
            return await inner(request)
        stats, call = self._memory.stats, request.call
        try:
            lookup = await self._memory.look_up(request, place, self._usable())
        except PenstockError as error:
            stats.failed += 1
            call.cache_status.append(f'{_NAME}; fwd=bypass; detail="{error.code}"')
            return await inner(request)
        stats.asked += 1
        call.semantic = "miss"
        proposal, decision = lookup.proposal, lookup.decision
        if proposal is not None and decision is not None:
            stats.proposed += 1
            stats.vetoed += proposal.veto is not None
            if decision.serve and not directives.no_cache:
                if mode == "on":
                    response = await self._serve(request, lookup, proposal.entry, decision)
                    if response is not None:
                        return response
                else:
                    self._note(request, "shadow", proposal.entry, decision)
                    stats.shadow += 1
        call.cache_status.append(f"{_NAME}; fwd=miss{_detail(lookup, mode)}")
        key = self._expect(request, lookup, shadow=mode == "shadow")
        try:
            return await inner(request)
        except BaseException:
            self._waiting.pop(key, None)
            raise

    def _usable(self) -> Callable[[bytes], bool]:
        """Whether there is a fresh answer; one that is too old for this client only is of use to others."""
        answers, now = self._answers, self._clock.wall()
        return lambda key: answers.lookup(key, now) is not None

    async def _serve(self, request: Request, lookup: Lookup, number: int, decision: Decision) -> Response | None:
        """Give the answer that was proposed; None when it has gone meanwhile."""
        questions = self._memory.questions
        question = questions.get(number)
        entry = None if question is None else self._answers.lookup(question.key, self._clock.wall())
        if entry is None:
            return None
        response = await self._answers.serve_known(request, entry, f"{_NAME}; hit{_detail(lookup)}")
        if response is None:
            return None
        self._memory.stats.served += 1
        self._note(request, "hit", number, decision)
        questions.touch(number)
        self.learner.decided(request, lookup, served=True)
        if self._random.random() < decision.audit:
            self._tasks.spawn(self.learner.audit(request, lookup), name="check what was answered by meaning")
        elif lookup.proposal is not None:
            lookup.policy.served(lookup.proposal, decision, right=None, now=self._clock.wall())
        return response

    def _note(self, request: Request, note: SemanticNote, number: int, decision: Decision) -> None:
        question = self._memory.questions.get(number)
        request.call.semantic = note
        request.call.semantic_audit = decision.audit
        request.call.semantic_key = None if question is None else question.key

    def _expect(self, request: Request, lookup: Lookup, *, shadow: bool) -> bytes:
        """Learn when the fresh answer is stored, if it is; return the key under which it will be."""
        waiting, key = self._waiting, cache_key(request)
        waiting.pop(key, None)
        while len(waiting) >= _WAITING:
            del waiting[next(iter(waiting))]
        # What was asked is in the lookup; a conversation before it would take its room until there is an answer.
        waiting[key] = (msgspec.structs.replace(request, payload={}), lookup, shadow)
        return key

    def _kept(self, key: bytes) -> None:
        expected = self._waiting.pop(key, None)
        if expected is not None:
            request, lookup, shadow = expected
            self._tasks.spawn(self.learner.kept(request, lookup, key, shadow=shadow), name="learn from an answer")


def _detail(lookup: Lookup, mode: SemanticMode = "on") -> str:
    """Say in the terms of RFC 9211 why: the probability that the answer is right, and what forbids it."""
    if lookup.proposal is None or lookup.decision is None:
        return ""
    said = f"p={lookup.decision.probability:.4f}"
    if lookup.proposal.veto:
        said += f" veto={lookup.proposal.veto}"
    elif mode == "shadow" and lookup.decision.serve:
        said += " shadow"
    return f'; detail="{said}"'
