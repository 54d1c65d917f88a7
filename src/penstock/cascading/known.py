"""What is known of one cascade: how good its earlier models are, and what became of requests."""

from __future__ import annotations

import asyncio

import msgspec

from penstock.cascading.fitting import refreshed
from penstock.core.cascade import Cascade, Stage
from penstock.routing.cascade.answers import Answer
from penstock.routing.cascade.learner import Learner

_VERSION = 1


class Counts(msgspec.Struct):
    """What became of requests, over restarts.

    Attributes:
        requests: How many were answered.
        stages: By the name of the stage that answered.
        escalated: Those for which an earlier model was asked in vain.
        uncertified: Those the last model answered because nothing was certified.
        degraded: Those an earlier model's answer was given to because the last one failed.
        audits: Requests that were put to all models to learn from.
        audits_failed: Those of which nothing was learnt, because a model failed.
        unlabelled: Those of which nothing was learnt, because nobody could compare the answers.
        saved_pusd: What the last model would have cost for what others answered, less what they cost, in picodollars;
            answers of others that were not given count against it.
        audit_pusd: What audits cost, in picodollars.
        unpriced: Requests of which it is not known what they saved.
    """

    requests: int = 0
    stages: dict[str, int] = {}
    escalated: int = 0
    uncertified: int = 0
    degraded: int = 0
    audits: int = 0
    audits_failed: int = 0
    unlabelled: int = 0
    saved_pusd: int = 0
    audit_pusd: int = 0
    unpriced: int = 0


class _State(msgspec.Struct):
    version: int
    generation: int
    learners: dict[str, tuple[bytes, bytes]]
    counts: Counts


class Known:
    """What is known of one cascade.

    Attributes:
        cascade: Its stages and terms.
        learners: What decides of each model but the last, by the name of its stage.
        counts: What became of requests.
        generation: How often it was kept, by any process.
        news: There is something that was not kept.
    """

    def __init__(self, cascade: Cascade, state: bytes = b"") -> None:
        """`state` is what `dump` returned; what was learnt of other models does not count.

        Raises:
            ValueError: `state` cannot be read.
        """
        self.learners: dict[str, Learner] = {}
        self.counts = Counts()
        self.generation = 0
        self.news = False
        self._lock = asyncio.Lock()
        self.cascade = cascade
        self._load(cascade, state)

    async def configure(self, cascade: Cascade, state: bytes = b"") -> None:
        """Take up other terms, and `state` in place of what is known, if there is one.

        Beside the event loop, since other terms mean other certificates, which take seconds.

        Raises:
            ValueError: `state` cannot be read.
        """
        if cascade == self.cascade and not state:
            return
        async with self._lock:
            await asyncio.to_thread(self._load, cascade, state or self.dump())

    def dump(self) -> bytes:
        """Return all of it, without any text."""
        learners = {
            stage.name: (_identity(self.cascade, stage), self.learners[stage.name].dump())
            for stage in _earlier(self.cascade)
        }
        return msgspec.msgpack.encode(_State(_VERSION, self.generation, learners, self.counts))

    async def dumped(self) -> bytes:
        """As `dump`, beside the event loop: it may be megabytes."""
        async with self._lock:
            return await asyncio.to_thread(self.dump)

    async def learn(self, stage: str, prompt: str, answer: Answer, *, lost: bool, escalated: bool) -> None:
        """Take the label of a request that was drawn at random, as `Learner.audited`; now and then fit anew."""
        async with self._lock:  # what comes while it is fitted would be lost
            learner = self.learners.get(stage)
            if learner is None:  # it left the configuration meanwhile
                return
            self.news = True
            learner.audited(prompt, answer, lost=lost, escalated=escalated)
            if learner.due:
                self.learners[stage] = await refreshed(learner)

    def _load(self, cascade: Cascade, state: bytes) -> None:
        earlier = _earlier(cascade)
        learners = {stage.name: _learner(cascade, len(earlier)) for stage in earlier}
        if state:
            kept = _read(state)
            for stage in earlier:
                identity, learnt = kept.learners.get(stage.name, (b"", b""))
                if identity == _identity(cascade, stage):
                    learners[stage.name].load(learnt)
            self.generation, self.counts = kept.generation, kept.counts
        self.cascade, self.learners = cascade, learners


def generation_of(state: bytes) -> int:
    """Return how often what `Known.dump` returned was kept; 0 for what cannot be read."""
    try:
        return _read(state).generation
    except ValueError:
        return 0


def _read(state: bytes) -> _State:
    try:
        kept = msgspec.msgpack.decode(state, type=_State)
    except msgspec.DecodeError as error:
        raise ValueError(f"what a cascade learnt cannot be read: {error}") from None
    if kept.version != _VERSION:
        raise ValueError(f"what a cascade learnt is of version {kept.version}, not {_VERSION}")
    return kept


def _earlier(cascade: Cascade) -> list[Stage]:
    return [stage for stage in cascade.stages[:-1] if stage.route is not None]


def _learner(terms: Cascade, number: int) -> Learner:
    """Each of `number` earlier models may lose its part of the errors, and its certificate fail as rarely."""
    return Learner(alpha=terms.max_error / number, delta=(1.0 - terms.confidence) / number, loss_usd=terms.loss_usd)


def _identity(cascade: Cascade, stage: Stage) -> bytes:
    """What a stage's quality is of: its model, and the one it is measured by."""
    last = cascade.stages[-1].route
    return b"" if stage.route is None or last is None else stage.route.identity + last.identity
