"""Whether the promise is kept on a set of one's own: a stream of questions in, counts out."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from random import Random
from typing import NamedTuple, Protocol

from penstock.matching.model import PooledModel
from penstock.matching.partition import Partition
from penstock.matching.policy import Policy
from penstock.matching.weights import PRIOR, WEIGHTS


class _Embedder(Protocol):
    def embed_one(self, text: str) -> Mapping[int, float]: ...


class Outcome(NamedTuple):
    """What became of a stream.

    Attributes:
        served: Questions answered from memory.
        wrong: How many of those with an answer other than the stream's.
        missed: Questions that were not.
        audits: How many of the served were checked.
        alarms: How often serving was stopped because the error had risen.
        vetoed: How many of the missed had a proposal that a rule forbade.
    """

    served: int
    wrong: int
    missed: int
    audits: int
    alarms: int
    vetoed: int


def evaluate(
    stream: Iterable[tuple[str, Hashable]], embedder: _Embedder, delta: float, *, edits: bool = True, seed: int = 0
) -> Outcome:
    """Play `stream`, pairs of a question and its answer's identity, through one partition and count.

    What is missed is labelled at once and remembered; what is served is labelled only when audited.

    Args:
        stream: The requests in order.
        embedder: What makes vectors.
        delta: The share of served answers that may be wrong.
        edits: Whether texts that are one but for a few words in place are refused.
        seed: Of the choice of audits.
    """
    chance = Random(seed)
    partition = Partition(edits=edits)
    policy = Policy(PooledModel(WEIGHTS), PRIOR, delta=delta)
    served = wrong = missed = audits = vetoed = 0
    for question, answer in stream:
        vector = embedder.embed_one(question)
        proposal = partition.propose(question, vector)
        if proposal is not None:
            decision = policy.decide(proposal)
            right = proposal.answer == answer
            if decision.serve:
                served += 1
                wrong += not right
                audited = chance.random() < decision.audit
                audits += audited
                policy.served(proposal, decision, right=right if audited else None)
                continue
            vetoed += proposal.veto is not None
            policy.missed(proposal, decision, right=right)
        missed += 1
        partition.add(question, vector, answer)
    return Outcome(served, wrong, missed, audits, policy.alarms, vetoed)
