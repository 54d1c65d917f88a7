from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.embedders.lexical import LexicalEmbedder
from penstock.matching.model import PooledModel
from penstock.matching.partition import Partition, Proposal
from penstock.matching.policy import Policy
from penstock.matching.threshold import BINS, Threshold, bin_of
from penstock.matching.weights import LEXICAL

EMBED = LexicalEmbedder().embed_one


def proposal(asked: str = "reset my password", known: str = "reset my password", entry: int = 0) -> Proposal:
    """Return what a partition that knows `known` and something else proposes for `asked`."""
    partition = Partition()
    partition.add("weather in winter", EMBED("weather in winter"), "weather", entry=entry)
    partition.add(known, EMBED(known), "password", entry=entry + 1)
    found = partition.propose(asked, EMBED(asked))
    assert found is not None
    return found


SAME = proposal()
SURE = SAME._replace(same=False)
UNSURE = proposal("reset the wireless router at home")


def new_policy(delta: float = 0.05) -> Policy:
    return Policy(PooledModel(LEXICAL.weights), ((0.0, 0.0),) * BINS, delta=delta)


def teach(policy: Policy, *, right: bool, times: int) -> None:
    for entry in range(times):
        each = SURE._replace(entry=entry)
        policy.missed(each, policy.decide(each), right=right)


def test_an_entry_that_is_wrong_is_shut_off_and_others_are_not() -> None:
    model = PooledModel(LEXICAL.weights)
    before = model.probability(SURE.features, 1)
    for _ in range(5):
        model.learn(SURE.features, 1, right=False)
    assert model.probability(SURE.features, 1) < before / 2
    assert model.probability(SURE.features, 2) > model.probability(SURE.features, 1)


def test_nothing_is_served_before_there_is_evidence() -> None:
    policy = new_policy()
    assert not policy.decide(SURE).serve
    certificate = policy.certificate()
    assert certificate.bound == 1.0
    assert "labels do not show yet" in certificate.reason


def test_it_serves_after_right_labels_and_never_what_is_vetoed() -> None:
    policy = new_policy()
    teach(policy, right=True, times=400)
    assert policy.decide(SURE._replace(entry=9999)).serve
    assert not policy.decide(SURE._replace(entry=9999, veto="number")).serve


def test_what_nobody_can_label_teaches_nothing() -> None:
    policy = new_policy()
    for _ in range(400):
        policy.missed(SURE, policy.decide(SURE), right=None)
    assert not policy.decide(SURE).serve
    assert policy.certificate().labels == 0


def test_few_answers_are_audited_once_there_is_confidence_and_all_while_there_is_doubt() -> None:
    policy = new_policy()
    teach(policy, right=True, times=400)
    assert policy.decide(SURE).audit > 0.9
    for _ in range(2000):
        decision = policy.decide(SURE)
        policy.served(SURE, decision, right=None)
    assert policy.decide(SURE).audit <= 0.2
    policy.served(SURE, policy.decide(SURE), right=False)
    assert policy.decide(SURE).audit == 1.0


def test_it_stops_when_answers_turn_wrong_and_recovers() -> None:
    policy = new_policy()
    teach(policy, right=True, times=400)
    served = 0
    while policy.decide(each := SURE._replace(entry=10_000 + served)).serve:
        served += 1
        assert served < 100
        policy.served(each, policy.decide(each), right=served % 3 != 0)
    assert not policy.decide(SURE._replace(entry=99_999)).serve
    teach(policy, right=True, times=2000)
    assert policy.serving


def test_only_what_surprises_makes_a_question_stale() -> None:
    policy = new_policy()
    for _ in range(3):
        policy.missed(SURE, policy.decide(SURE), right=False)
        policy.missed(UNSURE._replace(entry=77), policy.decide(UNSURE._replace(entry=77)), right=False)
    assert policy.stale(SURE.entry)
    assert not policy.stale(77)
    assert not policy.stale(78)


def test_an_alarm_is_told_with_its_reason_and_starts_the_certificate_anew() -> None:
    policy = new_policy(0.2)
    teach(policy, right=True, times=400)
    for at in range(60):
        decision = policy.decide(SURE)
        policy.served(SURE, decision._replace(audit=1.0), right=False, now=100.0 + at)
        if policy.alarms:
            break
    certificate = policy.certificate()
    assert certificate.alarms == 1
    assert certificate.served == 0
    assert certificate.since > 100.0
    assert not certificate.serving
    assert "had risen above 20 %" in certificate.reason


def synthetic(policy: Policy, seed: int, *, wrong_when_sure: float, requests: int = 4000) -> tuple[int, int]:
    """Ask; of the sure proposals `wrong_when_sure` are wrong, of the others half. Return served and wrong."""
    random, served, wrong = Random(seed), 0, 0
    for number in range(requests):
        sure = random.random() < 0.4
        each = (SURE if sure else UNSURE)._replace(entry=number)
        right = random.random() >= (wrong_when_sure if sure else 0.5)
        decision = policy.decide(each)
        if not decision.serve:
            policy.missed(each, decision, right=right)
            continue
        served += 1
        wrong += not right
        policy.served(each, decision, right=right if random.random() < decision.audit else None)
    return served, wrong


def test_the_promise_is_kept_over_many_streams_and_is_of_use() -> None:
    outcomes = [synthetic(new_policy(), seed, wrong_when_sure=0.02) for seed in range(20)]
    assert sum(wrong > 0.05 * served for served, wrong in outcomes) <= 1
    assert sum(served for served, _ in outcomes) > 20 * 500


def test_where_the_promise_cannot_be_kept_next_to_nothing_is_served() -> None:
    outcomes = [synthetic(new_policy(), seed, wrong_when_sure=0.1) for seed in range(20)]
    assert sum(served for served, _ in outcomes) < 0.01 * 20 * 4000


def test_one_that_was_kept_goes_on_as_if_nothing_had_been() -> None:
    policy = new_policy()
    synthetic(policy, 3, wrong_when_sure=0.02, requests=1500)
    other = Policy.load(policy.dump())
    assert other.certificate() == policy.certificate()
    assert other.dump() == policy.dump()
    assert synthetic(other, 4, wrong_when_sure=0.02) == synthetic(policy, 4, wrong_when_sure=0.02)
    assert other.dump() == policy.dump()


@pytest.mark.parametrize("state", [b"", b"nonsense", b"\x91\x01"])
def test_a_state_that_is_none_is_refused(state: bytes) -> None:
    with pytest.raises(ValueError, match="state of a policy"):
        Policy.load(state)


def test_another_promise_holds_from_then_on() -> None:
    policy = new_policy(0.2)
    teach(policy, right=True, times=60)
    assert policy.decide(SURE).serve
    policy.configure(0.001, 0.05)
    assert not policy.decide(SURE).serve
    assert policy.certificate().delta == 0.001


@pytest.mark.parametrize("delta", [0.0, 1.0, -1, 2])
def test_impossible_shares_are_refused(delta: float) -> None:
    with pytest.raises(ValueError, match="share between 0 and 1"):
        new_policy(delta)


@given(
    st.lists(st.tuples(st.integers(0, BINS - 1), st.booleans()), max_size=150),
    st.floats(0.005, 0.2),
)
def test_a_larger_share_of_errors_never_serves_less(labels: list[tuple[int, bool]], delta: float) -> None:
    strict, loose = Threshold(()), Threshold(())
    for place, right in labels:
        for each in (strict, loose):
            each.see(place)
            each.label(place, right=right)
    strict.choose(delta)
    loose.choose(2 * delta)
    assert loose.lowest <= strict.lowest


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_bins_are_in_the_order_of_probability(one: float, other: float) -> None:
    assert (bin_of(one) <= bin_of(other)) or one > other
    assert 0 <= bin_of(one) < BINS


@pytest.mark.parametrize(("other", "wide"), [(1, True), (3, False)])
def test_duplicates_with_one_answer_leave_the_margin(other: int, wide: bool) -> None:
    partition = Partition()
    for text, answer in (("reset my password", 1), ("resetting my password", other)):
        partition.add(text, EMBED(text), answer)
    for number in range(200):
        partition.add(f"weather in town {number}", EMBED(f"weather in town {number}"), ("weather", number))
    found = partition.propose("reset the password", EMBED("reset the password"))
    assert found is not None
    assert found.answer == 1
    assert (found.features.margin > 0.5) == wide


def test_a_margin_says_little_among_few() -> None:
    few, many = Partition(), Partition()
    for partition, others in ((few, 0), (many, 200)):
        partition.add("reset my password", EMBED("reset my password"), -1)
        for number in range(others):
            partition.add(f"weather in town {number}", EMBED(f"weather in town {number}"), number)
    text = "how can the password be reset"
    one, other = few.propose(text, EMBED(text)), many.propose(text, EMBED(text))
    assert one is not None
    assert other is not None
    assert one.features.margin < other.features.margin


def test_a_removed_question_is_not_proposed() -> None:
    partition = Partition()
    entry = partition.add("reset my password", EMBED("reset my password"), 1)
    partition.remove(entry)
    assert len(partition) == 0
    assert partition.propose("reset my password", EMBED("reset my password")) is None


@pytest.mark.parametrize("asked", ["Reset my password", "  reset my Password ?", "reset my password."])
def test_the_same_words_need_no_evidence(asked: str) -> None:
    each = proposal(asked)
    assert each.same
    assert new_policy(0.001).decide(each).serve
    assert not new_policy().decide(each._replace(veto="number")).serve


@pytest.mark.parametrize(
    "asked", ["reset our password", "my password reset", "reset my passwords", "reset my C# password"]
)
def test_other_words_do(asked: str) -> None:
    each = proposal(asked)
    assert not each.same
    assert not new_policy(0.001).decide(each).serve


def test_the_same_words_are_not_answered_where_labels_contradict() -> None:
    policy = new_policy(0.01)
    for number in range(5):
        each = SAME._replace(entry=number)
        policy.missed(each, policy.decide(each), right=False)
    assert not policy.decide(SAME._replace(entry=99)).serve
    for number in range(100, 700):
        each = SAME._replace(entry=number)
        policy.missed(each, policy.decide(each), right=True)
    assert policy.decide(SAME._replace(entry=999)).serve


def test_labels_of_what_was_not_served_are_an_alarm_when_they_turn() -> None:
    policy = new_policy(0.001)
    teach(policy, right=True, times=200)
    assert not policy.decide(SURE).serve
    assert policy.alarms == 0
    teach(policy, right=False, times=20)
    assert policy.alarms == 1
    assert not policy.decide(SAME._replace(entry=99)).serve
