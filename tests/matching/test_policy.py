from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.embedders.lexical import LexicalEmbedder
from penstock.matching.bounds import ChangeDetector, upper_bound
from penstock.matching.evaluation import evaluate
from penstock.matching.model import Features, PooledModel
from penstock.matching.partition import Partition, Proposal
from penstock.matching.policy import BINS, Policy
from penstock.matching.weights import WEIGHTS

EMBED = LexicalEmbedder().embed_one
SURE = Features(0.98, 0.9, 0.0, 1.0)


def new_policy(delta: float = 0.05) -> Policy:
    return Policy(PooledModel(WEIGHTS), ((0.0, 0.0),) * BINS, delta=delta)


@given(st.integers(0, 50), st.integers(0, 500))
def test_the_bound_is_above_the_rate_and_falls_with_evidence(wrong: int, right: int) -> None:
    total = wrong + right
    bound = upper_bound(wrong, total, alpha=0.1)
    assert bound >= (wrong / total if total else 1.0) - 1e-9
    assert upper_bound(wrong, total + 100, alpha=0.1) <= bound + 1e-9


def test_the_bound_holds_at_every_look() -> None:
    chance, broken = Random(5), 0
    for _ in range(200):
        wrong = 0
        for total in range(1, 301):
            wrong += chance.random() < 0.05
            if total % 10 == 0 and upper_bound(wrong, total, alpha=0.1) < 0.05:
                broken += 1
                break
    assert broken <= 30  # 20 are allowed on average


def test_an_entry_that_is_wrong_is_shut_off_and_others_are_not() -> None:
    model = PooledModel(WEIGHTS)
    before = model.probability(SURE, 1)
    for _ in range(5):
        model.learn(SURE, 1, right=False)
    assert model.probability(SURE, 1) < before / 2
    assert model.probability(SURE, 2) > model.probability(SURE, 1)


def test_nothing_is_served_before_there_is_evidence() -> None:
    policy = new_policy()
    assert not policy.serving
    assert not policy.decide(Proposal(1, "a", SURE, None)).serve


def teach(policy: Policy, *, right: bool, times: int) -> None:
    for entry in range(times):
        proposal = Proposal(entry, "a", SURE, None)
        policy.missed(proposal, policy.decide(proposal), right=right)


def test_it_serves_after_right_labels_and_never_what_is_vetoed() -> None:
    policy = new_policy()
    teach(policy, right=True, times=400)
    assert policy.decide(Proposal(9999, "a", SURE, None)).serve
    assert not policy.decide(Proposal(9999, "a", SURE, "number")).serve


def test_it_stops_when_answers_turn_wrong_and_recovers() -> None:
    policy = new_policy()
    teach(policy, right=True, times=400)
    served = 0
    while policy.serving and served < 1000:
        proposal = Proposal(10_000 + served, "a", SURE, None)
        decision = policy.decide(proposal)
        if not decision.serve:
            break
        policy.served(proposal, decision, right=False if served % 5 == 0 else None)
        served += 1
    assert served < 100
    assert not policy.decide(Proposal(99_999, "a", SURE, None)).serve
    teach(policy, right=True, times=2000)
    assert policy.serving


def test_no_alarm_while_the_rate_is_allowed() -> None:
    detector = ChangeDetector(0.05, patience=10_000)
    chance = Random(1)
    alarms = sum(
        detector.served(wrong=chance.random() < 0.2 and chance.random() < 0.02, chance=0.2) for _ in range(2000)
    )
    assert alarms == 0


@pytest.mark.parametrize("delta", [0.0, 1.0, -1, 2])
def test_impossible_shares_are_refused(delta: float) -> None:
    with pytest.raises(ValueError, match="share between 0 and 1"):
        new_policy(delta)


def test_duplicates_with_one_answer_leave_the_margin() -> None:
    partition = Partition()
    for text, answer in (("reset my password", 1), ("resetting my password", 1), ("weather in winter", 2)):
        partition.add(text, EMBED(text), answer)
    proposal = partition.propose("reset the password", EMBED("reset the password"))
    assert proposal is not None
    assert proposal.answer == 1
    assert proposal.features.margin == pytest.approx(proposal.features.similarity, abs=0.1)


def test_a_removed_question_is_not_proposed() -> None:
    partition = Partition()
    entry = partition.add("reset my password", EMBED("reset my password"), 1)
    partition.remove(entry)
    assert len(partition) == 0
    assert partition.propose("reset my password", EMBED("reset my password")) is None


def test_a_stream_of_repeats_is_served_and_every_request_counted() -> None:
    things = ["password", "invoice", "router", "garden", "passport", "kettle", "camera", "bicycle"]
    chance = Random(0)
    stream = [(f"How do I repair the {thing}?", thing) for thing in chance.choices(things, k=1500)]
    outcome = evaluate(stream, LexicalEmbedder(), 0.05)
    assert outcome.served + outcome.missed == 1500
    assert outcome.wrong == 0
    assert outcome.served > 500
