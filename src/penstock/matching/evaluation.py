"""Whether the promise is kept on a set of one's own: a stream of questions in, counts out.

from penstock.embedders.lexical import LexicalEmbedder
from penstock.matching.evaluation import evaluate

stream = [("How do I reset my password?", "reset"), ("Where can I reset my password?", "reset"), ...]
outcome = evaluate(stream, LexicalEmbedder(), 0.02)
print(outcome.served, outcome.wrong, outcome.missed)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Sequence
from inspect import isawaitable
from itertools import islice
from operator import eq
from random import Random
from typing import NamedTuple, Protocol

from penstock.abc import Vector, VectorIndex
from penstock.matching.indexes.inverted import InvertedIndex
from penstock.matching.partition import Partition
from penstock.matching.policy import Certificate, Policy

Same = Callable[[Hashable, Hashable], bool | None]

_BATCH = 256


class AnyEmbedder(Protocol):
    """`penstock.abc.Embedder`, or anything with a plain `embed`."""

    name: str

    def embed(self, texts: Sequence[str], /) -> Sequence[Vector] | Awaitable[Sequence[Vector]]:
        """Return a vector for each text."""


class Step(NamedTuple):
    """What became of one question.

    Attributes:
        served: Whether it was answered from memory.
        right: Whether the answer proposed is its answer; None if nobody knows, or nothing was proposed.
        veto: The difference that forbade it.
        probability: That it is right, as the model had it; 0 where nothing was proposed.
        audited: Whether it was served and then checked.
    """

    served: bool = False
    right: bool | None = None
    veto: str | None = None
    probability: float = 0.0
    audited: bool = False


class Outcome(NamedTuple):
    """What became of a stream.

    Attributes:
        served: Questions answered from memory.
        wrong: How many of those with an answer other than the stream's.
        unknown: How many of those with an answer of which nobody knows.
        missed: Questions that were not.
        audits: How many of the served were checked.
        alarms: How often serving was stopped because the error had risen.
        vetoed: How many of the missed had a proposal that a rule forbade.
        certificate: What the policy says of itself at the end.
    """

    served: int
    wrong: int
    unknown: int
    missed: int
    audits: int
    alarms: int
    vetoed: int
    certificate: Certificate


def evaluate(
    stream: Iterable[tuple[str, Hashable]],
    embedder: AnyEmbedder,
    delta: float = 0.01,
    *,
    same: Same = eq,
    policy: Policy | None = None,
    partition: Partition | None = None,
    audit: float = 0.05,
    seed: int = 0,
) -> Outcome:
    """Play `stream`, pairs of a question and its answer's identity, through one partition and count.

    Not to be called on an event loop when the embedder's `embed` is a coroutine.

    Args:
        stream: The requests in order. Their questions should differ: repeats of a text are the exact cache's.
        embedder: What makes vectors.
        delta: The share of served answers that may be wrong.
        same: Whether two answers are the same, by their identities: None if nobody knows, which is then no label
            for the policy and neither right nor wrong in the counts. By default equal ones are.
        policy: What decides; by default what is shipped for the embedder, with `delta` and `audit`.
        partition: What proposes, possibly with questions known beforehand; by default an empty one.
        audit: The share of served answers that is checked, once there is reason to be confident.
        seed: Of the choice of audits.

    Raises:
        ValueError: `delta` or `audit` is out of range.
    """
    policy = policy or Policy.shipped(embedder.name, delta=delta, audit=audit)
    served = wrong = unknown = missed = audits = vetoed = 0
    for step in play(stream, embedder, policy, same=same, partition=partition, seed=seed):
        if step.served:
            served += 1
            wrong += step.right is False
            unknown += step.right is None
            audits += step.audited
        else:
            missed += 1
            vetoed += step.veto is not None
    return Outcome(served, wrong, unknown, missed, audits, policy.alarms, vetoed, policy.certificate())


def play(
    stream: Iterable[tuple[str, Hashable]],
    embedder: AnyEmbedder,
    policy: Policy,
    *,
    same: Same = eq,
    partition: Partition | None = None,
    seed: int = 0,
) -> Iterator[Step]:
    """Do as `evaluate`, and yield what becomes of each question.

    What is missed is labelled at once and remembered; what is served, when it is audited. Two questions are known to
    have one answer only when a label said so, as in the gateway: `same` is asked of nothing that is not proposed.
    """
    chance = Random(seed)
    known: dict[str, int] = {}
    answers: dict[int, Hashable] = {}
    serial = 0
    for question, answer, vector in _embedded(stream, embedder):
        if partition is None:
            partition = Partition(index_for(vector))
        proposal = partition.propose(question, vector)
        step, group = Step(), None
        if proposal is not None:
            decision = policy.decide(proposal)
            right = same(answers.get(proposal.entry, proposal.answer), answer)
            audited = decision.serve and chance.random() < decision.audit
            if decision.serve:
                policy.served(proposal, decision, right=right if audited else None)
            else:
                policy.missed(proposal, decision, right=right)
            if policy.stale(proposal.entry):
                partition.remove(proposal.entry)
                policy.model.forget(proposal.entry)
                answers.pop(proposal.entry, None)
            step = Step(decision.serve, right, proposal.veto, decision.probability, audited)
            group = proposal.answer if right else None
        if step.audited or not step.served:
            if answers.pop(known.get(question, -1), None) is not None:
                partition.remove(known[question])
            serial += 1
            number = partition.add(question, vector, ("alone", serial) if group is None else group)
            known[question], answers[number] = number, answer
        yield step


def _embedded(stream: Iterable[tuple[str, Hashable]], embedder: AnyEmbedder) -> Iterator[tuple[str, Hashable, Vector]]:
    rest = iter(stream)
    with asyncio.Runner() as runner:

        async def result(vectors: Awaitable[Sequence[Vector]]) -> Sequence[Vector]:
            return await vectors

        while batch := list(islice(rest, _BATCH)):
            vectors = embedder.embed([question for question, _ in batch])
            found = runner.run(result(vectors)) if isawaitable(vectors) else vectors
            for (question, answer), vector in zip(batch, found, strict=True):
                yield question, answer, vector


def index_for(vector: Vector) -> Callable[[], VectorIndex]:
    """Return what makes an index for vectors like this one."""
    if not isinstance(vector, bytes):
        return InvertedIndex
    from penstock.matching.indexes.dense import DenseIndex  # noqa: PLC0415 - needs the extra `semantic`

    return DenseIndex
