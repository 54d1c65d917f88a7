from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.matching.labels.exact import exact, normal
from penstock.matching.labels.rules import MAX_CHARS, rule
from penstock.matching.labels.values import value_of

SHORT = st.one_of(
    st.text(max_size=60),
    st.from_regex(r"\A[-$€]?\d{1,4}([.,]\d{1,3})?( ?(km|%|dollars|eggs))?\.?\Z"),
    st.sampled_from(["Yes", "no.", "Yes, always.", "No, but soon", "B", "(c)", "B. Oslo", "A) Rome", "Paris", "true",
                     "Positive", "very positive", "4 July 1776", "1776-07-04", "The answer is 18.", "#### 18"]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    ).map(json.dumps),
)  # fmt: skip


@given(SHORT)
def test_an_answer_is_the_same_as_itself(answer: str) -> None:
    assert exact(answer, answer) is True
    assert rule(answer, answer) in (True, None)
    assert rule(answer, answer) is True or value_of(answer) is None


@given(SHORT, SHORT)
def test_it_does_not_matter_which_answer_came_first(one: str, other: str) -> None:
    assert exact(one, other) is exact(other, one)
    assert rule(one, other) is rule(other, one)


@given(SHORT, SHORT)
def test_what_are_the_same_words_is_never_called_different(one: str, other: str) -> None:
    if exact(one, other):
        assert rule(one, other) is not False


@given(st.text(max_size=200), st.sampled_from([" ", "\n", "  \n", ".", "!", " .\n"]))
def test_layout_at_the_end_does_not_count(text: str, end: str) -> None:
    assert exact(text.replace("`", ""), text.replace("`", "") + end) or "\n" in text or not text.isprintable()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("The sky  is blue.\n", "the sky is\nblue", True),
        ("```json\n{}\n```", "{}", True),
        ("```\n42\n```\n", "42", True),
        ("if a:\n    b\n    c", "if a:\n    b\nc", None),
        ("```\na\nb\n```", "```python\na\n\nb  \n```", True),
        ("See:\n```\na b\n```", "See:\n```\na  b\n```", None),
        ("Blue", "Green", None),
    ],
)
def test_the_same_words_in_another_layout_are_the_same(one: str, other: str, same: bool | None) -> None:
    assert exact(one, other) is same


def test_a_long_run_of_blanks_takes_no_longer_than_its_length() -> None:
    blanks = " " * 1_000_000
    assert normal("```\na" + blanks) == "```\na"
    assert exact("a" + blanks, blanks + "a") is None
    assert exact("a" + blanks, "a" + blanks) is True
    assert rule("= " + blanks, "answer is" + blanks + "<<" * 100) is None


EGGS = "She sells 16 - 3 - 4 = 9 eggs. So Janet makes 9 * $2 = $18 at the farmers' market every day."


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        # Numbers
        ("18", "18.0", True),
        ("$20.00", "20 dollars", True),
        ("1,234.5", "1234.50", True),
        ("3,5", "3.5", True),
        ("1/2", "0.5", True),
        ("-3", "−3", True),
        ("twelve", "12.", True),
        ("**42**", "42", True),
        (".5", "5", False),
        ("18", "19", False),
        ("18 km", "18 miles", False),
        ("18 km", "18", True),
        ("5 goats", "5 sheep", None),
        # Choices
        ("Yes.", "yes", True),
        ("Yes", "No", False),
        ("True", "Correct.", True),
        ("Yes, you can return it.", "No, that is not possible.", False),
        ("Yes, you can return it.", "Yes", True),
        ("Yes, but not on Sundays.", "Yes", None),
        ("Yes, on Mondays.", "Yes, on Tuesdays.", None),
        ("True, False", "True", None),
        ("No problem, here it is.", "Yes", None),
        ("B", "(b)", True),
        ("B. Oslo", "B", True),
        ("Option B", "C", False),
        ("B. Oslo", "B. Bergen", None),
        ("The correct answer is (C).", "C", True),
        ("The answer is B.", "Let us see.\n**Answer: D**", False),
        # Dates
        ("4 July 1776", "1776-07-04", True),
        ("July 4th, 1776.", "on 4 July 1776", True),
        ("July 4, 1776", "July 5, 1776", False),
        ("2023-02-30", "2023-02-28", None),
        # Labels
        ("Positive", "positive.", True),
        ("positive", "negative", False),
        ("very positive", "positive", None),
        ("The answer is: positive", "Positive", True),
        # Results that were worked out
        (EGGS, "18", True),
        (EGGS, "She has 16 - 7 = 9 eggs left and sells them for $2.\n#### 18", True),
        (EGGS, "16 eggs less 3 is 13, so daily she makes 13 * 2 = 26 dollars at the farmers' market.", False),
        (EGGS, "A robe takes 9 + 9 bolts of fibre, that is 9 + 9 = 18.", None),
        (EGGS, r"Hence \boxed{18}", None),
        ("Open until 18", "Open until 18", None),
        ("You can send it back within 30 days.", "We do not take anything back after 30 days.", None),
        # JSON
        ('{"a": 1, "b": [true, null]}', '{"b":[true,null],"a":1.0}', True),
        ('```json\n{"a": 100}\n```', '{"a": 1e2}', True),
        ('{"a": "18"}', '{"a": 18}', True),
        ('{"a": 1}', '{"a": true}', False),
        ('{"a": 1}', '{"a": 1, "b": 2}', False),
        ("[1, 2]", "[2, 1]", False),
        ("[1]", "[1, 1]", False),
        ('{"label": "spam"}', '{"label": "ham"}', False),
        ('{"q": "weather in the city of Oslo"}', '{"q": "how the weather is in Oslo today"}', None),
        ('{"a": 1, "q": "weather in the city of Oslo"}', '{"a": 2, "q": "how the weather is in Oslo"}', False),
        ('{"a": NaN}', '{"a": NaN}', None),
        ("[" * 100_000, "[" * 100_000, None),
        ("[" * 100 + "]" * 100, "[" * 100 + "]" * 99 + ",1]", False),
        ("1" * (MAX_CHARS + 1), "2", None),
        # Prose
        ("The sky scatters blue light.", "Blue light is scattered by the sky.", None),
        ("", "", None),
    ],
)
def test_answers_with_a_form_are_decided_by_rule(one: str, other: str, same: bool | None) -> None:
    assert rule(one, other) is same
    assert rule(other, one) is same
