"""What is kept of a long text: never more than the budget, always in order, and what the question is about."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.context.selection import Index, Turn, select

WORDS = st.sampled_from(
    [
        "the",
        "remote",
        "control",
        "battery",
        "price",
        "of",
        "a",
        "kitchen",
        "in",
        "Leeds",
        "costs",
        "12",
        "euros",
        "Anna",
        "Ben",
        "yes",
        "2024-05-01",
        "March",
    ]
)
TEXTS = st.lists(WORDS, max_size=12).map(" ".join)
TURNS = st.builds(Turn, st.sampled_from(["", "Anna", "Ben"]), TEXTS, st.integers(0, 40))
FEW = st.lists(TURNS, max_size=30)


@given(FEW, TEXTS, st.integers(0, 400))
def test_what_is_kept_fits_and_is_in_order(turns: list[Turn], question: str, budget: int) -> None:
    kept = select(turns, question, budget)
    assert kept == sorted(set(kept))
    assert all(0 <= place < len(turns) for place in kept)
    assert sum(turns[place].tokens for place in kept) <= budget
    assert kept == select(turns, question, budget)


@given(FEW, TEXTS)
def test_a_text_that_fits_is_kept_whole(turns: list[Turn], question: str) -> None:
    assert select(turns, question, sum(turn.tokens for turn in turns)) == list(range(len(turns)))


@given(FEW, FEW, st.lists(TEXTS, min_size=1, max_size=3), st.integers(0, 300))
def test_appending_is_building_anew(first: list[Turn], more: list[Turn], questions: list[str], budget: int) -> None:
    index = Index(first)
    for question in questions:
        index.select(question, budget)
    index.extend(more)
    for question in questions:
        assert index.select(question, budget) == select(first + more, question, budget)
        assert index.scores(question) == Index(first + more).scores(question)


def test_the_part_asked_about_is_kept() -> None:
    turns = [Turn("Anna", f"We talk about the garden and its {plant}.", 20) for plant in ("roses", "lawn", "trees")] * 5
    turns[6:6] = [
        Turn("Ben", "Now the budget of the kitchen in Leeds.", 20),
        Turn("Anna", "Agreed.", 20),
        Turn("Ben", "The kitchen costs 12,000 pounds.", 20),
    ]
    assert select(turns, "What does the kitchen cost?", 60) == [6, 7, 8]


def test_scores_of_an_embedder_take_part() -> None:
    turns = [Turn("", f"Paragraph {number}.", 10) for number in range(40)]
    embedding = [1.0 if 20 <= place < 25 else 0.0 for place in range(40)]
    assert set(select(turns, "Something else", 50, embedding=embedding)) == set(range(20, 25))


def test_scores_of_an_embedder_must_match_the_turns() -> None:
    with pytest.raises(ValueError, match=r"2 turns, but 1 embedding scores"):
        select([Turn("", "a", 5), Turn("", "b", 5)], "a", 5, embedding=[1.0])


def test_who_is_named_in_the_question_counts() -> None:
    turns = [Turn(f"Speaker {'ABCD'[number // 10]}", f"Point {number} about it all.", 10) for number in range(40)]
    assert set(select(turns, "What did Speaker C think?", 80)) <= set(range(19, 31))


def test_names_and_numbers_count_for_more() -> None:
    turns = [Turn("", f"Paragraph {number} says what it says.", 64) for number in range(60)]
    turns[20] = Turn("", "The harvest in Leeds was good.", 64)
    turns[40] = Turn("", "The harvest elsewhere was good.", 64)
    scores = Index(turns).scores("How was it in Leeds, or elsewhere?")
    assert scores[20] > scores[40]


def test_words_written_a_little_otherwise_are_found() -> None:
    turns = [Turn("", f"Paragraph {number} says what it says.", 64) for number in range(60)]
    turns[33] = Turn("", "Then we changed the accomodation.", 64)
    assert 33 in select(turns, "Where was the accommodation changed?", 64)
    turns[33] = Turn("", "その後、東京駅で会議を開きました。", 64)
    assert 33 in select(turns, "東京駅の会議はいつですか", 64)


def test_what_was_said_in_the_same_words_is_kept_last() -> None:
    again = "The kitchen in Leeds costs 12,000 pounds with the oven and the tiles."
    turns = [Turn("", again, 20), Turn("", again, 20), Turn("", "The kitchen is paid for by the owners in May.", 20)]
    kept = select(turns, "What does the kitchen in Leeds cost?", 40)
    assert 2 in kept
    assert len(kept) == 2


def test_below_the_floor_nothing_is_kept() -> None:
    turns = [Turn("", f"Paragraph {number} says what it says.", 20) for number in range(60)]
    turns[33] = Turn("", "The kitchen in Leeds costs 12,000 pounds.", 20)
    index = Index(turns)
    assert index.select("What about the harvest?", 10_000, floor=0.2) == []
    kept = index.select("What does the kitchen in Leeds cost?", 10_000, floor=0.2)
    assert 33 in kept
    assert all(index.scores("What does the kitchen in Leeds cost?")[place] >= 0.2 for place in kept)


def test_a_number_is_like_itself_only() -> None:
    turns = [Turn("", f"Paragraph {'one' if number % 2 else 'two'} says what it says.", 64) for number in range(60)]
    turns[20] = Turn("", "Order 1200034 was sent.", 64)
    turns[40] = Turn("", "Order 1200035 was sent.", 64)
    assert select(turns, "What of order 1200035?", 64) == [40]
