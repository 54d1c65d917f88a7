import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.usage import Usage
from penstock.pricing.calibration import ENOUGH, MAX_MODELS, Calibration
from penstock.pricing.estimate import estimate_request_tokens

KEY = ("near", "m")


def prompt(words):
    """Return what a prompt of so many words is estimated at."""
    return estimate_request_tokens({"messages": [{"role": "user", "content": "word " * words}]})


def teach(learned, count, counted, *, key=KEY, seed=1, chars=400):
    chance = random.Random(seed)
    for _ in range(count):
        expected = prompt(chance.randrange(20, 2000))
        if not learned.skip(key):
            learned.learn(key, expected, counted(expected), chars)


def test_a_model_that_counts_otherwise_is_followed():
    learned = Calibration()
    teach(learned, 40, lambda expected: Usage(round(expected * 1.6), 250))
    found = learned.estimate(KEY, prompt(500), 400)
    assert found.source == "calibrated"
    assert found.input_tokens == pytest.approx(prompt(500) * 1.6, rel=0.02)
    assert found.output_tokens == pytest.approx(250, rel=0.02)


def test_what_is_added_to_every_prompt_is_found():
    learned = Calibration()
    teach(learned, 40, lambda expected: Usage(expected + 350, 100))
    for words in (5, 50, 3000):
        assert learned.estimate(KEY, prompt(words), 0).input_tokens == pytest.approx(prompt(words) + 350, rel=0.03)


def test_few_reports_change_nothing_and_it_says_so():
    learned = Calibration()
    teach(learned, ENOUGH - 1, lambda expected: Usage(expected * 3, 900))
    assert learned.estimate(KEY, 50, 401) == Usage(50, 101, source="estimate")
    assert learned.estimate(None, 50, 400).source == "estimate"
    teach(learned, 1, lambda expected: Usage(expected * 3, 900))
    assert learned.estimate(KEY, prompt(50), 400).source == "calibrated"
    assert learned.estimate(("near", "other"), prompt(50), 400).source == "estimate"


def test_outliers_do_not_carry_it_away():
    learned = Calibration()
    teach(learned, 60, lambda expected: Usage(expected, 100))
    teach(learned, 2, lambda expected: Usage(expected * 1000, 100_000))
    assert learned.estimate(KEY, prompt(500), 0).input_tokens < 1.2 * prompt(500)


def test_a_model_that_changes_is_followed():
    learned = Calibration()
    teach(learned, 64, lambda expected: Usage(expected, 100))
    teach(learned, 64 * 16 * 4, lambda expected: Usage(expected * 2, 100))
    assert learned.estimate(KEY, prompt(500), 0).input_tokens == pytest.approx(2 * prompt(500), rel=0.1)


def test_hidden_reasoning_says_nothing_about_the_length_of_a_token():
    learned = Calibration()
    teach(learned, 20, lambda expected: Usage(expected, 5100, reasoning_tokens=5000))
    assert learned.estimate(KEY, prompt(50), 400).output_tokens == pytest.approx(100, rel=0.02)


def test_models_without_end_do_not_fill_memory():
    learned = Calibration()
    for number in range(MAX_MODELS + 10):
        learned.learn(("near", f"invented-{number}"), prompt(50), Usage(10, 10), 40)
    assert len(learned.states()) == MAX_MODELS
    assert learned.states()[-1][0] == ("near", f"invented-{MAX_MODELS + 9}")


@given(
    st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**7)), max_size=80),
    st.integers(0, 3000),
    st.integers(0, 10**6),
)
def test_whatever_is_reported_estimates_stay_usable(reports, words, chars):
    learned = Calibration()
    for given_tokens, made, seen in reports:
        learned.learn(KEY, prompt(30), Usage(given_tokens, made), seen)
    found = learned.estimate(KEY, prompt(words), chars)
    assert found.input_tokens >= 1
    assert found.output_tokens >= (1 if chars else 0)


def test_reports_of_a_busy_model_are_skipped_and_counted():
    learned = Calibration()
    teach(learned, 64, lambda expected: Usage(expected, 100))
    assert [learned.skip(KEY) or learned.learn(KEY, prompt(50), Usage(50, 100), 400) for _ in range(32)].count(
        True
    ) == 30
    assert learned.states()[0][1] == 96
    assert not learned.skip(("near", "new"))
