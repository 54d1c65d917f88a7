from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.matching.reading import read
from penstock.matching.vetoes import veto

DIFFERENT = [
    ("Send 500 dollars to Ann", "Send 5000 dollars to Ann", "number"),
    ("Wait twelve hours", "Wait 13 hours", "number"),
    ("How far is 10 km on foot", "How far is 10 miles on foot", "unit"),
    ("Transfer 10 € now", "Transfer 10 $ now", "unit"),
    ("What is open on monday?", "What is open on tuesday?", "date"),
    ("Can I eat raw eggs?", "Can't I eat raw eggs?", "negation"),
    ("They leave not on Friday, but on Saturday", "They leave on Friday, not on Saturday", "negation"),
    ("Where was it invented?", "When was it invented?", "question"),
    ("Are all birds able to fly", "Are some birds able to fly", "quantifier"),
    ("what is the weather in Paris", "what is the weather in London", "name"),
    ("How do I enable the firewall", "How do I disable the firewall", "antonym"),
    ("Is this drug effective against flu", "Is this drug ineffective against flu", "antonym"),
    ('Translate "good night" into French', 'Translate "good day" into French', "literal"),
    ("What does `ls -l` do", "What does `ls -a` do", "literal"),
    ("Summarise https://a.example/one", "Summarise https://a.example/two", "literal"),
    ("The procedure is strategy proof", "The procedure is strategy prone", "swap"),
    ("how to remove red wine stains", "how to remove red wine stains quickly", "insertion"),
    ("does the dog chase the cat", "does the cat chase the dog", "order"),
]


@pytest.mark.parametrize(("one", "other", "name"), DIFFERENT)
def test_differences_forbid_either_way(one: str, other: str, name: str) -> None:
    assert veto(read(one), read(other)) == name
    assert veto(read(other), read(one)) == name


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How do I reset my password?", "how can i reset my password"),
        ("It costs 1,000 dollars", "it costs 1000 dollars"),
        ("Wait 12 hours", "Wait twelve hours"),
        ("Why isn't it working?", "Why is it not working?"),
        ("Who wrote Hamlet?", "who wrote hamlet?"),
        ("What are good books to learn chess from", "Which chess book would help a beginner to learn"),
        ("No, it doesn't exist here", "It does not exist here"),
    ],
)
def test_paraphrases_are_allowed(one: str, other: str) -> None:
    assert veto(read(one), read(other)) is None


def test_edits_can_be_left_to_the_model() -> None:
    one, other = read("a cutting edge library for learning"), read("a modern library for learning")
    assert veto(one, other) == "swap"
    assert veto(one, other, edits=False) is None


@given(st.text(max_size=100))
def test_a_text_never_differs_from_itself(text: str) -> None:
    assert veto(read(text), read(text)) is None


@given(st.text(max_size=60), st.text(max_size=60))
def test_the_order_of_the_texts_does_not_matter(one: str, other: str) -> None:
    assert (veto(read(one), read(other)) is None) == (veto(read(other), read(one)) is None)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_other_numbers_always_forbid(one: int, other: int) -> None:
    found = veto(read(f"Pay {one} to the shop"), read(f"Pay {other} to the shop"))
    assert found == (None if one == other else "number")
