"""From labels to a policy: it learns what is wrong, certifies, notices drift, and survives a restart."""

from random import Random

import pytest

from penstock.routing.cascade.answers import Answer
from penstock.routing.cascade.learner import Learner
from penstock.routing.cascade.policy import Choice
from penstock.routing.cascade.verifier import LEAST, Example, Verifier

Labelled = tuple[str, Answer, bool]


def asked(random: Random, *, wrong: float = 0.3) -> Labelled:
    """Ask for a product; wrong answers are twice too long and say so, mostly."""
    one, other = random.randint(2, 99), random.randint(2, 99)
    lost = random.random() < wrong
    odd = lost if random.random() < 0.97 else not lost
    said = "As the sum is tricky, let me say again: " * 3 if odd else ""
    return f"What is {one} times {other}?", Answer(f"{said}{one} * {other} = {one * other}\n#### {one * other}"), lost


def taught(random: Random, count: int, **options: float) -> Learner:
    learner = Learner(alpha=0.05, delta=0.05)
    for _ in range(count):
        prompt, answer, lost = asked(random, **options)
        learner.audited(prompt, answer, lost=lost)
    learner.refresh()
    return learner


@pytest.fixture(scope="module")
def trained() -> bytes:
    return taught(Random(1), 300).dump()


@pytest.fixture
def learner(trained: bytes) -> Learner:
    found = Learner(alpha=0.05, delta=0.05)
    found.load(trained)
    return found


def test_labels_become_a_certificate_that_keeps_its_promise(learner: Learner):
    certificate = learner.policy.certificate
    assert certificate.holds
    assert certificate.labels == 150
    random, lost, served = Random(2), 0, 0
    for _ in range(300):
        prompt, answer, wrong = asked(random)
        if learner.policy.after(prompt, answer).choice is Choice.CHEAP:
            served += 1
            lost += wrong
    assert served > 150
    assert lost / 300 <= 0.05


def test_what_is_certified_on_was_not_fitted_on(learner: Learner):
    assert learner.policy.verifier.labels == 150
    assert learner.labels == 150


def test_few_labels_leave_the_shipped_verifier_and_the_large_model():
    learner = taught(Random(3), LEAST)
    assert learner.policy.verifier == Verifier.shipped()
    assert learner.policy.after(*asked(Random(1))[:2]).choice is Choice.LARGE
    assert "20 labels, and 59 are needed" in learner.policy.certificate.reason


def test_dump_and_load_keep_everything_and_no_text(learner: Learner, trained: bytes):
    assert learner.dump() == trained
    assert b"times" not in trained
    assert b"tricky" not in trained


def test_another_promise_is_certified_anew(trained: bytes):
    stricter = Learner(alpha=0.001, delta=0.05)
    stricter.load(trained)
    assert not stricter.policy.certificate.holds
    assert stricter.policy.certificate.alpha == 0.001


@pytest.mark.parametrize("state", [b"", b"\x90", b"nonsense", Verifier.shipped().dump()])
def test_a_state_that_is_none_is_refused(state: bytes):
    with pytest.raises(ValueError, match="state of a cascade"):
        Learner().load(state)


def test_drift_withdraws_the_certificate_and_fresh_labels_bring_it_back(learner: Learner):
    random = Random(4)
    for _ in range(100):
        prompt, answer, _ = asked(random, wrong=0.0)
        learner.audited(prompt, answer, lost=random.random() < 0.6)
        if learner.drifted:
            break
    assert learner.drifted
    assert learner.labels == 0
    assert learner.policy.after(prompt, answer).choice is Choice.LARGE
    assert "more is lost by now" in learner.policy.certificate.reason
    for _ in range(200):
        prompt, answer, lost = asked(random)
        learner.audited(prompt, answer, lost=lost)
    learner.refresh()
    assert learner.policy.certificate.holds
    assert not learner.drifted


def test_there_is_no_drift_while_the_promise_is_kept(learner: Learner):
    random = Random(5)
    for _ in range(500):
        prompt, answer, lost = asked(random)
        learner.audited(prompt, answer, lost=lost)
    assert not learner.drifted


def test_escalated_requests_do_not_outweigh_the_random_ones():
    learner = Learner(alpha=0.05)
    random = Random(6)
    for place in range(120):
        prompt, answer, lost = asked(random)
        learner.audited(prompt, answer, lost=lost, escalated=place % 10 < 2)
    for _ in range(150):
        prompt, answer, _ = asked(random, wrong=1.0)
        learner.escalated(prompt, answer, lost=True)
    learner.refresh()
    prospects = [learner.policy.verifier.prospect(asked(random)[0]) for _ in range(50)]
    assert 0.5 < sum(prospects) / 50 < 0.85
    assert learner.labels == 60


def test_a_verifier_is_the_same_after_a_restart():
    random = Random(7)
    labelled = [asked(random) for _ in range(60)]
    examples = [Example.of(prompt, answer, lost=lost) for prompt, answer, lost in labelled]
    verifier = Verifier.fit(examples)
    again = Verifier.load(verifier.dump())
    for prompt, answer, _ in labelled[:5]:
        assert again.quality(prompt, answer) == verifier.quality(prompt, answer)
        assert again.prospect(prompt) == verifier.prospect(prompt)
    with pytest.raises(ValueError, match="state of a verifier"):
        Verifier.load(b"\x93")
    with pytest.raises(ValueError, match="40 are needed"):
        Verifier.fit(examples[:39])
