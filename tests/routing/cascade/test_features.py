"""Features say what they are named for, and long texts do not make them slow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.routing.cascade import answers, prompts
from penstock.routing.cascade.answers import Answer, final_number

LONG = 2_000_000


def seen(prompt: str, text: str, **options: object) -> dict[str, float]:
    return dict(zip(answers.FEATURES, answers.features(prompt, Answer(text, **options)), strict=True))


@given(st.text(max_size=300), st.text(max_size=300))
def test_every_text_has_every_feature(prompt: str, text: str):
    assert len(answers.features(prompt, Answer(text))) == len(answers.FEATURES)
    assert len(prompts.features(prompt)) == len(prompts.FEATURES)


@pytest.mark.parametrize(
    "piece", ["1+1=3 ", "(", "\n", " \n", "=", "1,", "<<1+1=2>>", "\nA. ", "x", "#### ", "\\frac{", "-"]
)
def test_only_the_ends_of_very_long_texts_are_read(piece: str):
    text = piece * (LONG // len(piece))
    ends = text[:20_000] + "\n" + text[-20_000:]
    assert answers.features(text, Answer(text))[3:] == answers.features(ends, Answer(ends))[3:]
    assert prompts.features(text)[1:] == prompts.features(ends)[1:]


def test_numbers_that_are_not_used_and_numbers_from_nowhere_are_counted():
    found = seen("Ann has 12 eggs, eats 3 and sells 7. How many are left?", "12 - 3 = 9, and 9 - 41 = -32\n#### -32")
    assert (found["unused"], found["unknown"], found["any_wrong"]) == (1.0, 1.0, 0.0)
    assert found["marked"] == 1.0


def test_results_that_nothing_is_made_of_are_counted():
    assert seen("2 and 3", "2 + 3 = 5\n2 * 3 = 6")["dangling"] == 1.0
    assert seen("2 and 3", "2 + 3 = 5\n5 * 3 = 15")["dangling"] == 0.0


def test_doubts_and_refusals_are_seen():
    found = seen("Why?", "I'm sorry, but I am not sure. However, perhaps it rains.")
    assert found["refusal"] == 1.0
    assert found["hedges"] == 2.0
    assert found["corrections"] >= 1.0
    assert seen("Why?", "It rains.")["refusal"] == 0.0


def test_probabilities_and_agreement_are_seen_where_there_are_any():
    found = seen("2?", "#### 2", logprobs=[-0.1, -0.3], others=["It is 2", "3"])
    assert found["logprob_mean"] == pytest.approx(0.8187, abs=1e-4)
    assert (found["logprob_known"], found["agreement"], found["agreement_known"]) == (1.0, 0.5, 1.0)
    assert seen("2?", "#### 2")["logprob_known"] == 0.0


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("#### 1,200", 1200.0),
        ("The answer is 7, not 8.", 7.0),
        (r"\boxed{42}", 42.0),
        ("So 3 remain", 3.0),
        ("?", None),
    ],
)
def test_the_final_number_is_found(text: str, number: float | None):
    assert final_number(text) == number


def test_choices_of_a_question_are_seen():
    found = dict(zip(prompts.FEATURES, prompts.features("Which is odd?\nA. 2\nB. 4\nC. 7\nAnswer:"), strict=True))
    assert (found["choices"], found["asks_which"], found["ends_as_question"]) == (3.0, 1.0, 1.0)
