from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.matching.alignment import in_order, looks_like
from penstock.matching.reading import read
from penstock.matching.vetoes import VETOES, compare, veto

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
    ("How do you turn ethane to ethene?", "How do you turn ethene to ethane?", "order"),
    ("Is there life after death?", "Is there death after life?", "order"),
    ("The hawk ate the mouse", "The hawk was eaten by the mouse", "order"),
    ("Can a knight beat a bishop if the bishop moves?", "Can a knight beat a bishop if the knight moves?", "order"),
    ("No licence is needed here", "A licence is needed here", "negation"),
    ("The pump is noiseless", "The pump is making noise", "antonym"),
    ("Are the brakes of a harmful kind", "Are the brakes of a harmless kind", "antonym"),
    ("What does ~ mean in Perl?", "What does @ mean in Perl?", "literal"),
    ("Should I learn C++ first?", "Should I learn C# first?", "name"),
    ("Wake me at 7 am", "Wake me at 7 pm", "unit"),
    ("jobs in IT near me", "jobs in it near me", "name"),
    ("Does it only work in spring?", "Does it work in spring?", "quantifier"),
    ("How many people live there?", "How long do people live there?", "question"),
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
        ("That is not a good plan", "That is a bad plan"),
        ("Is it not possible to undo this?", "Is it impossible to undo this?"),
        ("Compare salt and sugar", "Compare sugar and salt"),
        ("phones under 15k", "phones under 15,000"),
        ("I am 15 yrs old", "I'm 15 years old"),
        ('What does "recursion" mean', "What does recursion mean"),
        ("What is my favourite colour?", "What is my favorite color?"),
        ("a large fan base", "a large fanbase"),
        ("Which laptop I should buy?", "Which laptop should I buy?"),
    ],
)
def test_paraphrases_are_allowed(one: str, other: str) -> None:
    assert veto(read(one), read(other)) is None


def test_edits_can_be_left_to_the_model() -> None:
    one, other = read("a cutting edge library for learning"), read("a modern library for learning")
    assert veto(one, other) == "swap"
    assert veto(one, other, edits=False) is None


def test_long_texts_in_other_words_are_doubted_not_refused() -> None:
    one = read(
        "The cache keeps what has been fetched before, so that nothing needs to be fetched or worked out again, and all"
        " later runs of the program are faster than the first one was."
    )
    other = read(
        "Later runs are quicker than the first, because whatever was downloaded or computed earlier is taken from the"
        " cache without doing that work another time."
    )
    found = compare(one, other)
    assert found.veto is None
    assert found.doubts > 0


@pytest.mark.parametrize("double", ["It is not impossible", "It is not useless at all", "This is not unfair"])
def test_two_negations_are_not_one(double: str) -> None:
    assert veto(read(double), read(double.replace("not ", ""))) is not None


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [("address", "adress", True), ("analys", "analysi", True), ("center", "centre", True), ("cat", "car", False),
     ("mass", "mess", False), ("toluen", "benzen", False)],
)  # fmt: skip
def test_misspellings_look_alike(one: str, other: str, alike: bool) -> None:
    assert looks_like(one, other) is alike
    assert looks_like(other, one) is alike


def test_every_veto_has_an_example() -> None:
    assert {name for *_, name in DIFFERENT} == set(VETOES)


@given(st.text(max_size=100))
def test_a_text_never_differs_from_itself(text: str) -> None:
    assert veto(read(text), read(text)) is None


@given(st.text(max_size=60), st.text(max_size=60))
def test_the_order_of_the_texts_does_not_matter(one: str, other: str) -> None:
    _same_either_way(one, other)


_WORDS = [
    "not",
    "no",
    "never",
    "all",
    "only",
    "some",
    "3",
    "three",
    "km",
    "$",
    "Paris",
    "paris",
    "good",
    "bad",
    "possible",
    "impossible",
    "dog",
    "cat",
    "bites",
    "by",
    "and",
    "the",
    "I",
    "you",
    "what",
    "when",
    "how",
    "many",
    "`x`",
    "?",
]


@given(st.lists(st.sampled_from(_WORDS), max_size=8), st.lists(st.sampled_from(_WORDS), max_size=8))
def test_the_order_does_not_matter_with_words_that_matter(one: list[str], other: list[str]) -> None:
    _same_either_way(" ".join(one), " ".join(other))


def _same_either_way(one: str, other: str) -> None:
    here, there = compare(read(one), read(other)), compare(read(other), read(one))
    none: dict[str, Any] = {"here": (), "there": (), "function": ()}
    assert here._replace(**none) == there._replace(**none)
    assert sorted(here.function) == sorted(there.function)
    assert sorted(here.here) == sorted(there.there)
    assert sorted(here.there) == sorted(there.here)
    assert veto(read(one), read(other)) == veto(read(other), read(one))


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_other_numbers_always_forbid(one: int, other: int) -> None:
    found = veto(read(f"Pay {one} to the shop"), read(f"Pay {other} to the shop"))
    assert found == (None if one == other else "number")


@given(st.lists(st.sampled_from("abc"), max_size=9), st.lists(st.sampled_from("abc"), max_size=9))
def test_words_in_the_same_order_are_counted(one: list[str], other: list[str]) -> None:
    lengths = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            lengths[i + 1][j + 1] = lengths[i][j] + 1 if a == b else max(lengths[i][j + 1], lengths[i + 1][j])
    assert in_order(one, other) == lengths[-1][-1]


def test_long_texts_are_compared_word_for_word_too() -> None:
    one = [f"word{chr(97 + place % 26)}{chr(97 + place // 26)}" for place in range(400)]
    other = [f"term{chr(97 + place % 26)}{chr(97 + place // 26)}" for place in range(400)]
    found = compare(read(" ".join(one)), read(" ".join([*one[:200], *other[200:]])))
    assert (len(found.here), len(found.there), found.veto) == (200, 200, None)
    assert veto(read(" ".join([*one, "12"])), read(" ".join([*one, "13"]))) == "number"
