"""Answers what was asked before in other words, as far as the promised error rate allows.

What is missed teaches: the fresh answer is compared with the one that would have been given. Of what is served a part
is asked again behind the client's back. `penstock.matching.policy` decides; see `docs/guides/semantic-cache.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import msgspec

from penstock.caching.answer_cache import AnswerCache
from penstock.caching.asking import Asked, asked
from penstock.caching.entries import Entry
from penstock.caching.freshness import Verdict, decide
from penstock.caching.key import cache_key
from penstock.config.semantic import SemanticCacheSettings
from penstock.core.call import SemanticNote
from penstock.core.clock import Clock
from penstock.core.errors import NOTHING_CACHED, NotCached, PenstockError
from penstock.core.handler import Exit, Handler, Phased, Step
from penstock.core.request import NO_DIRECTIVES, Request
from penstock.core.response import Response
from penstock.core.route import SemanticMode
from penstock.core.tasks import TaskGroup
from penstock.matching.policy import Decision
from penstock.semantic.explaining import mode_of
from penstock.semantic.learner import Learner
from penstock.semantic.memory import Lookup, Memory

_NAME = "Penstock-Semantic"
_WAITING = 10_000
"""Questions whose answers are on their way, at most; what is beyond is not learnt from."""


class SemanticCache(Phased):
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

    def at_hand(self, request: Request) -> Entry | None:
        """Return the entry in memory that the layer will answer `request` with, for `give`; None without one.

        What was found is on the call, where the layer looks for it, and so is that it is at hand: the layers before
        this one let such a call pass.
        """
        lookup = None if self._mode(request) != "on" else self._look_up_at_once(request)
        if lookup is None or lookup.proposal is None or not self._serves(request, lookup, "on"):
            return None
        question = self._memory.questions.get(lookup.proposal.entry)
        entry = None if question is None else self._answers.find(question.key)
        if entry is None or entry.held is None or entry.tenant != request.tenant:
            return None
        if decide(entry, self._clock.wall(), request.cache) is not Verdict.HIT:
            return None
        request.call.at_hand = True
        return entry

    def give(self, request: Request, entry: Entry) -> Response:
        """Answer `request` with what is `at_hand` for it."""
        lookup = request.call.lookup
        assert isinstance(lookup, Lookup)
        self._count(request, lookup)
        request.call.cache = "semantic"
        known = (entry.body, entry.events)
        response = self._answers.give(request, entry, known, self._clock.wall(), f"{_NAME}; hit{_detail(lookup)}")
        self._given(request, lookup)
        return response

    def enter(self, request: Request, inner: Handler, /) -> Step | None:
        """Let pass what is not answered by meaning, and learn from its answer."""
        mode, directives = self._mode(request), request.cache
        if directives is not NO_DIRECTIVES and directives.only_if_cached:
            return None
        if mode == "off":
            return request, None
        lookup = self._look_up_at_once(request)
        if lookup is None or self._serves(request, lookup, mode):
            return None
        self._count(request, lookup)
        return request, self._miss(request, lookup, mode)

    async def handle(self, request: Request, inner: Handler, /) -> Response:
        """Answer from what is known, or from `inner`.

        Raises:
            NotCached: The client wants only a cached answer, and there is none of this meaning either.
        """
        mode, call = self._mode(request), request.call
        if request.cache.only_if_cached:
            inner = _nothing_cached
            if mode == "off":
                return await inner(request)
        lookup = call.lookup if isinstance(call.lookup, Lookup) else None
        if lookup is None:
            place = self._place(request)
            if place is None:
                return await inner(request)
            try:
                lookup = await self._memory.look_up(request, place, self._usable())
            except PenstockError as error:
                self._memory.stats.failed += 1
                call.cache_status.append(f'{_NAME}; fwd=bypass; detail="{error.code}"')
                return await inner(request)
        self._count(request, lookup)
        if self._serves(request, lookup, mode):
            response = await self._serve(request, lookup)
            if response is not None:
                return response
        missed = self._miss(request, lookup, mode)
        try:
            return await inner(request)
        except BaseException as error:
            missed.failed(error)
            raise

    def _mode(self, request: Request) -> SemanticMode:
        route = request.route
        if request.cache.no_store or (route is not None and route.cache_ttl_s == 0):
            return "off"
        return mode_of(request, self._settings)

    def _place(self, request: Request) -> Asked | None:
        settings = self._settings
        return asked(request, settings.max_question_chars, first_turn_only=settings.first_turn_only)

    def _look_up_at_once(self, request: Request) -> Lookup | None:
        """Return what is known of the question, and keep it on the call; None without one, or if that takes a wait."""
        call = request.call
        if call.lookup is None and self._memory.immediate:
            place = self._place(request)
            call.lookup = None if place is None else self._memory.look_up_at_once(request, place, self._usable())
        return call.lookup if isinstance(call.lookup, Lookup) else None

    def _serves(self, request: Request, lookup: Lookup, mode: SemanticMode) -> bool:
        decision = lookup.decision
        return mode == "on" and decision is not None and decision.serve and not request.cache.no_cache

    def _count(self, request: Request, lookup: Lookup) -> None:
        stats = self._memory.stats
        stats.asked += 1
        request.call.semantic = "miss"
        if lookup.proposal is not None:
            stats.proposed += 1
            stats.vetoed += lookup.proposal.veto is not None

    def _miss(self, request: Request, lookup: Lookup, mode: SemanticMode) -> _Missed:
        """Note that nothing is given, and learn from the fresh answer."""
        proposal, decision = lookup.proposal, lookup.decision
        shadow = mode == "shadow"
        if shadow and proposal is not None and decision is not None and decision.serve and not request.cache.no_cache:
            self._note(request, "shadow", proposal.entry, decision)
            self._memory.stats.shadow += 1
        request.call.cache_status.append(f"{_NAME}; fwd=miss{_detail(lookup, mode)}")
        return _Missed(self._waiting, self._expect(request, lookup, shadow=shadow))

    def _usable(self) -> Callable[[bytes], bool]:
        """Whether there is a fresh answer; one that is too old for this client only is of use to others."""
        answers, now = self._answers, self._clock.wall()
        return lambda key: answers.lookup(key, now) is not None

    async def _serve(self, request: Request, lookup: Lookup) -> Response | None:
        """Give the answer that was proposed; None when it has gone meanwhile."""
        question = None if lookup.proposal is None else self._memory.questions.get(lookup.proposal.entry)
        entry = None if question is None else self._answers.lookup(question.key, self._clock.wall())
        if entry is None:
            return None
        response = await self._answers.serve_known(request, entry, f"{_NAME}; hit{_detail(lookup)}")
        if response is None:
            return None
        self._given(request, lookup)
        return response

    def _given(self, request: Request, lookup: Lookup) -> None:
        """Note that what was proposed was given, and have a part of it checked."""
        proposal, decision = lookup.proposal, lookup.decision
        assert proposal is not None
        assert decision is not None
        self._memory.stats.served += 1
        self._note(request, "hit", proposal.entry, decision)
        self._memory.questions.touch(proposal.entry)
        self.learner.decided(request, lookup, served=True)
        if self._random.random() < decision.audit:
            self._tasks.spawn(self.learner.audit(request, lookup), name="check what was answered by meaning")
        else:
            lookup.policy.served(proposal, decision, right=None, now=self._clock.wall())

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


async def _nothing_cached(request: Request) -> Response:
    raise NotCached(NOTHING_CACHED)


class _Missed(Exit):
    """There will be nothing to learn from a call that fails."""

    __slots__ = ("_key", "_waiting")

    def __init__(self, waiting: dict[bytes, tuple[Request, Lookup, bool]], key: bytes) -> None:
        self._waiting = waiting
        self._key = key

    def failed(self, error: BaseException, /) -> None:
        self._waiting.pop(self._key, None)


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
