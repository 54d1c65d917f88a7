"""What is decided follows from quality, certificate, and cost."""

from decimal import Decimal

import pytest

from penstock.routing.cascade.answers import Answer
from penstock.routing.cascade.certificate import Certificate
from penstock.routing.cascade.outlook import Outlook
from penstock.routing.cascade.policy import Choice, Policy
from penstock.routing.cascade.verifier import Verifier

GOOD = Answer("She has 16 - 3 = 13 eggs, and 13 - 4 = 9 are left.\n#### 9")
BAD = Answer("She has 16 - 3 = 12 eggs, and perhaps 12 - 4 = 7. However, I am not sure.\n#### 7.5")
QUESTION = "Janet's ducks lay 16 eggs. She eats 3 and bakes with 4. How many are left?"
VERIFIER = Verifier.shipped()
CERTIFIED = Certificate(threshold=0.8, alpha=0.05, labels=500, lost=3, accepted=200)
CHEAP, LARGE = Decimal("0.001"), Decimal("0.01")


def test_the_shipped_verifier_tells_good_from_bad_without_labels():
    assert VERIFIER.labels == 0
    assert VERIFIER.quality(QUESTION, GOOD) > 0.8 > 0.3 > VERIFIER.quality(QUESTION, BAD)


def test_without_a_certificate_the_large_model_answers_and_the_reason_says_so():
    policy = Policy(VERIFIER)
    for decision in (policy.before(QUESTION), policy.after(QUESTION, GOOD)):
        assert decision.choice is Choice.LARGE
        assert "no certificate: no labels yet" in decision.reason


def test_a_good_answer_is_served_and_a_bad_one_is_not():
    policy = Policy(VERIFIER, CERTIFIED)
    assert policy.before(QUESTION, cheap_usd=CHEAP, large_usd=LARGE).choice is Choice.CHEAP
    served, refused = policy.after(QUESTION, GOOD), policy.after(QUESTION, BAD)
    assert (served.choice, refused.choice) == (Choice.CHEAP, Choice.LARGE)
    assert served.quality >= served.threshold == 0.8 > refused.quality
    assert "3 of 500" in served.reason
    assert refused.reason == "below the certified quality"


def test_a_fault_is_never_served_however_low_the_threshold():
    policy = Policy(VERIFIER, Certificate(threshold=0.0, labels=500))
    decision = policy.after(QUESTION, Answer(GOOD.text, finish_reason="length"))
    assert (decision.choice, decision.quality) == (Choice.LARGE, 0.0)
    assert decision.reason == "the cheap answer is cut off"


def test_what_a_loss_costs_raises_the_threshold_and_never_lowers_it():
    dear = Policy(VERIFIER, CERTIFIED, loss_usd=Decimal(1))
    decision = dear.after(QUESTION, GOOD, large_usd=LARGE)
    assert decision.choice is Choice.LARGE
    assert decision.threshold == pytest.approx(0.99)
    assert decision.reason == "a loss would cost more than the large model"
    little = Policy(VERIFIER, CERTIFIED, loss_usd=Decimal("0.011"))
    assert little.after(QUESTION, GOOD, large_usd=LARGE).threshold == 0.8


@pytest.mark.parametrize(("share", "choice"), [(0.05, Choice.LARGE), (0.5, Choice.CHEAP)])
def test_the_cheap_model_is_skipped_where_its_answers_are_seldom_served(share: float, choice: Choice):
    seen = [(0.7, 0.9 if place < 100 * share else 0.2) for place in range(100)]
    policy = Policy(VERIFIER, CERTIFIED, Outlook.of(seen))
    decision = policy.before(QUESTION, cheap_usd=CHEAP, large_usd=LARGE)
    assert decision.choice is choice
    assert ("not be worth its cost" in decision.reason) == (choice is Choice.LARGE)


def test_unknown_costs_do_not_skip():
    policy = Policy(VERIFIER, CERTIFIED, Outlook.of([(0.7, 0.1)] * 100))
    assert policy.before(QUESTION, cheap_usd=None, large_usd=LARGE).choice is Choice.CHEAP


def test_an_outlook_tells_prompts_apart():
    seen = [(place / 100, 0.9 if place >= 50 else 0.1) for place in range(100)]
    outlook = Outlook.of(seen)
    assert outlook is not None
    assert outlook.saving(0.1, 0.5, 1.0, 0.0) == 0.0
    assert outlook.saving(0.9, 0.5, 1.0, 0.0) == 1.0
    assert outlook.saving(0.9, 0.5, 1.0, 2.0) == pytest.approx(0.8)
    assert Outlook.of(seen[:5]) is None
