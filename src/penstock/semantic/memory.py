"""What is known of a question when it comes: its vector, the nearest question before, and what to do about that."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from random import Random
from typing import NamedTuple

import msgspec

from penstock.abc import Embedder, Question, QuestionStore, Vector, VectorIndex
from penstock.caching.asking import Asked
from penstock.caching.questions import Questions
from penstock.config.semantic import JudgeSettings, SemanticCacheSettings
from penstock.core.clock import Clock
from penstock.core.errors import PenstockError, StoreError
from penstock.core.request import Request
from penstock.core.tasks import TaskGroup
from penstock.matching.labels.allowance import Allowance
from penstock.matching.labels.pending import Pending
from penstock.matching.partition import Partition, Proposal
from penstock.matching.policy import Decision, Policy
from penstock.semantic.policies import Policies
from penstock.semantic.stats import SemanticStats

_PATIENCE_S = 0.05
"""How long a question waits for its partition to be read; a large one is read while others miss."""
_AT_ONCE = 50
"""Questions of a partition that is being read whose vectors are made without letting others go on."""
_TRIES = 8
"""Questions whose answers are gone that one look-up removes at most, where they stand in its way."""
_PAGE = 1000
"""Questions read from the store at once when all are looked at."""

_PENDING, _SPENT = "pending", "judge"
"""Names under which the store has what belongs to no tenant and model."""

_log = logging.getLogger("penstock.cache")


class Lookup(NamedTuple):
    """What is known of a question.

    Attributes:
        asked: The question and its partition.
        vector: Where it lies.
        policy: What decides for its tenant and model.
        proposal: The nearest question whose answer is at hand, if there is any.
        decision: What to do about it.
    """

    asked: Asked
    vector: Vector
    policy: Policy
    proposal: Proposal | None = None
    decision: Decision | None = None


class Memory:
    """Questions and what was learnt; outlives configurations while the embedder is the same.

    Attributes:
        embedder: What makes vectors.
        questions: What was asked.
        policies: What was learnt, for each tenant and model.
        stats: What was done.
        pending: Decisions that can still be labelled.
        clock: Where time comes from.
    """

    def __init__(
        self,
        settings: SemanticCacheSettings,
        embedder: Embedder,
        new_index: Callable[[], VectorIndex],
        store: QuestionStore,
        clock: Clock,
        tasks: TaskGroup,
        random: Random,
    ) -> None:
        self.embedder = embedder
        # Of what makes vectors without waiting for anything.
        self._embed_at_once: Callable[[str], Vector] | None = getattr(embedder, "embed_one", None)
        self.questions: Questions[Partition] = Questions(
            store, lambda: Partition(new_index), settings.max_questions, self._left, random
        )
        self.stats = SemanticStats()
        self.pending = Pending()
        self.policies = Policies(store, embedder.name, settings.max_error, settings.audit)
        self._size = settings.max_questions
        self._made_of = settings.embedder
        self._store = store
        self.clock = clock
        self._tasks = tasks
        self._spent: Callable[[], bytes] | None = None
        self._loading: dict[bytes, asyncio.Task[None]] = {}

    @property
    def immediate(self) -> bool:
        """Whether a question can be looked up without a wait, unless its partition has to be read."""
        return self._embed_at_once is not None

    def adopt(self, settings: SemanticCacheSettings) -> bool:
        """Go on under `settings`, with all questions; False if they need another embedder or size."""
        if settings.embedder != self._made_of or settings.max_questions != self._size:
            return False
        self.policies.configure(settings.max_error, settings.audit)
        return True

    def inherit(self, other: Memory) -> None:
        """Go on with what `other` has counted, decided and spent, and with what it has learnt of the same vectors."""
        self.stats, self.pending, self._spent = other.stats, other.pending, other._spent
        if other.embedder.name == self.embedder.name:
            self.policies = other.policies

    def allowance(self, judge: JudgeSettings) -> Allowance:
        """Return what limits the calls of a judge; what was spent today counts, whatever the limits were then."""
        allowance = Allowance(judge.per_minute, judge.usd_per_day, self.clock)
        if self._spent:
            try:
                allowance.restore(self._spent())
            except msgspec.DecodeError as error:
                _log.warning("what the judge has cost today is not known, it cannot be read: %s", error)
        self._spent = allowance.dump
        return allowance

    def figures(self) -> SemanticStats:
        """Return what was done since the start, and how much is in memory."""
        return msgspec.structs.replace(
            self.stats,
            questions=len(self.questions),
            partitions=self.questions.partitions,
            alarms=sum(policy.alarms for _, policy in self.policies),
        )

    async def start(self) -> None:
        """Learn what the store has; if it cannot say, begin with nothing."""
        try:
            await self.questions.start()
            kept = await self.policies.start()
        except StoreError as error:
            _log.warning("the semantic cache starts empty, its store cannot be read: %s", error)
            return
        if spent := kept.get(_SPENT):
            self._spent = lambda: spent
        try:
            self.pending.restore(kept.get(_PENDING) or self.pending.dump(), self.clock.wall())
        except msgspec.DecodeError as error:
            _log.warning("decisions of earlier runs cannot be labelled, they cannot be read: %s", error)

    async def aclose(self) -> None:
        """Keep what was learnt, and free the embedder."""
        self.policies.save()
        self._store.keep(_PENDING, self.pending.dump())
        if self._spent:
            self._store.keep(_SPENT, self._spent())
        await self.embedder.aclose()

    async def look_up(self, request: Request, asked: Asked, usable: Callable[[bytes], bool]) -> Lookup:
        """Find what answers `asked`.

        Args:
            request: What it was asked with.
            asked: The question and its partition.
            usable: Whether there is an answer under a key that may be given now.

        Raises:
            PenstockError: The question cannot be embedded now.
        """
        (vector,) = await self.embedder.embed([asked.text], request)
        if self.questions.stored(asked.partition):
            await self._read(request, asked.partition)
        return self._find(request, asked, vector, usable)

    def look_up_at_once(self, request: Request, asked: Asked, usable: Callable[[bytes], bool]) -> Lookup | None:
        """As `look_up`; None where that has to wait, for a vector or for questions that are in the store only."""
        embed = self._embed_at_once
        if embed is None or self.questions.stored(asked.partition):
            return None
        return self._find(request, asked, embed(asked.text), usable)

    def _find(self, request: Request, asked: Asked, vector: Vector, usable: Callable[[bytes], bool]) -> Lookup:
        policy = self.policies.of(request.tenant, request.model)
        partition = self.questions.partition(asked.partition) if vector else None
        for _ in range(_TRIES):
            proposal = None if partition is None else partition.propose(asked.text, vector)
            if proposal is None:
                break
            known = self.questions.get(proposal.entry)
            if known is not None and usable(known.key):
                return Lookup(asked, vector, policy, proposal, policy.decide(proposal))
            self.questions.drop((proposal.entry,))
        return Lookup(asked, vector, policy)

    async def nearest(self, request: Request, asked: Asked) -> Sequence[Proposal]:
        """Return the nearest questions to `asked`, nearest first, whether their answers may be given or not.

        Raises:
            PenstockError: The question cannot be embedded now.
        """
        (vector,) = await self.embedder.embed([asked.text], request)
        if self.questions.stored(asked.partition):
            await self._read(request, asked.partition)
        partition = self.questions.partition(asked.partition)
        return partition.nearest(asked.text, vector) if partition is not None and vector else ()

    def remember(self, request: Request, lookup: Lookup, key: bytes, group: bytes | None = None) -> None:
        """Know from now on that the answer to a question is under `key`.

        Args:
            request: What it was asked with.
            lookup: The question.
            key: Where its answer is.
            group: Shared by questions with the same answer; by default it has one of its own.
        """
        if any(each.text == lookup.asked.text for each in self.questions.of_key(key)):
            return
        self.questions.put(self._question(request, lookup.asked, key, group or key, lookup.vector), lookup.vector)

    async def add(
        self, request: Request, asked: Asked, key: bytes, group: bytes, *, right: float = 0.0, wrong: float = 0.0
    ) -> bool:
        """Know a question that nobody has asked; False when it is known already.

        Args:
            request: What would ask it; what its vector costs is on that one's account.
            asked: The question and its partition.
            key: Where its answer is.
            group: Shared by questions with the same answer.
            right: How often its answer was found right for another question.
            wrong: How often it was not.

        Raises:
            PenstockError: It cannot be embedded now.
        """
        same = [each for each in self.questions.of_key(key) if each.text == asked.text]
        if any(each.group == group for each in same):
            return False
        (vector,) = await self.embedder.embed([asked.text], request)
        self.questions.drop([each.id for each in same])
        question = self._question(request, asked, key, group, vector)
        self.questions.put(msgspec.structs.replace(question, right=right, wrong=wrong), vector)
        return True

    async def known(self, tenant: str | None = None) -> AsyncGenerator[Question, None]:
        """Go through all questions, those too that are in the store only.

        Args:
            tenant: Whose; those of a whole organisation by its name; None for everybody's.

        Raises:
            StoreError: The store cannot be read.
        """
        here: set[int] = set()
        for number, question in enumerate(list(self.questions)):
            if number % _PAGE == 0:
                await asyncio.sleep(0)
            if tenant is None or f"{question.tenant}/".startswith(f"{tenant}/"):
                here.add(question.id)
                yield question
        after = 0
        while self.questions.elsewhere and (page := await self._store.page(tenant, after=after, limit=_PAGE)):
            for question in page:
                if question.id not in here:
                    yield question
            after = page[-1].id

    async def tidy(self, answered: Callable[[bytes], Awaitable[bool]], tenant: str | None = None) -> int:
        """Forget questions without an answer; return how many.

        Args:
            answered: Whether there is an answer under a key.
            tenant: Whose; those of a whole organisation by its name; None for everybody's.

        Raises:
            StoreError: The store cannot be read.
        """
        gone = [each.id async for each in self.known(tenant) if not await answered(each.key)]
        self.questions.drop(gone)
        return len(gone)

    async def put_in_order(self) -> int:
        """Build the indexes of all partitions anew, each when it is asked of next; return how many there are.

        An index may keep room for what has left it, and find less exactly for it.

        Raises:
            StoreError: The store cannot be read.
        """
        partitions = {each.partition for each in self.questions}
        return sum([await self.questions.put_aside(each) for each in partitions if each not in self._loading])

    def _question(self, request: Request, asked: Asked, key: bytes, group: bytes, vector: Vector) -> Question:
        now = self.clock.wall()
        return Question(
            id=self.questions.new_id(now),
            tenant=request.tenant,
            partition=asked.partition,
            text=asked.text,
            key=key,
            group=group,
            model=request.model,
            embedder=self.embedder.name,
            vector=_dense(vector),
            asked_at=now,
            tags=request.tags,
        )

    async def _read(self, request: Request, partition: bytes) -> None:
        task = self._loading.get(partition)
        if task is None:
            task = self._loading[partition] = self._tasks.spawn(self._load(request, partition), name="read questions")
        await asyncio.wait((task,), timeout=_PATIENCE_S)

    async def _load(self, request: Request, partition: bytes) -> None:
        try:
            found = await self.questions.load(partition)
            for start in range(0, len(found), _AT_ONCE):
                await self._take(request, found[start : start + _AT_ONCE])
                await asyncio.sleep(0)
        except PenstockError as error:
            _log.warning("questions of earlier runs cannot be read: %s", error)
        finally:
            del self._loading[partition]

    async def _take(self, request: Request, found: Sequence[Question]) -> None:
        """Put what was read into memory; vectors of another embedder, or none, are made anew."""
        name = self.embedder.name
        kept = {each.id: each.vector for each in found if each.embedder == name and each.vector}
        missing = [each for each in found if each.id not in kept]
        made = await self.embedder.embed([each.text for each in missing], request) if missing else ()
        vectors: dict[int, Vector] = {**kept, **{each.id: v for each, v in zip(missing, made, strict=True)}}
        for each in found:
            vector = vectors[each.id]
            if each.embedder == name:
                self.questions.put(each, vector, stored=True)
            else:
                self.questions.put(msgspec.structs.replace(each, embedder=name, vector=_dense(vector)), vector)

    def _left(self, question: Question) -> None:
        self.policies.of(question.tenant, question.model).model.forget(question.id)


def _dense(vector: Vector) -> bytes:
    """What is worth storing of a vector: sparse ones are made anew faster than they are read."""
    return vector if isinstance(vector, bytes) else b""
