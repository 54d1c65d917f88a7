from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from penstock.embedders.lexical import LexicalEmbedder
from penstock.matching.indexes.inverted import InvertedIndex
from penstock.testing import check_vector_index

EMBED = LexicalEmbedder().embed_one
WORDS = st.lists(st.sampled_from(["red", "green", "blue", "dog", "cat", "fish", "run"]), min_size=1, max_size=5).map(
    " ".join
)
TEXTS = [
    f"how do I {verb} the {thing} of my {place}"
    for verb in ("open", "close", "paint", "sell", "clean")
    for thing in ("door", "window", "roof", "garden")
    for place in ("house", "office", "school", "castle")
]


def filled(texts: list[str], **settings: int) -> InvertedIndex:
    index = InvertedIndex(**settings)
    for place, text in enumerate(texts):
        index.add(place, EMBED(text))
    return index


def test_it_keeps_the_promises_of_an_index() -> None:
    texts = ["reset my password", "bake a chocolate cake", "fly to the moon", "learn the piano", "sell an old bicycle"]
    check_vector_index(InvertedIndex, [EMBED(text) for text in texts])


def test_rare_words_weigh_more() -> None:
    index = filled([f"please reset account {place}" for place in range(50)])
    index.add(99, EMBED("walrus"))
    assert index.nearest(EMBED("please reset walrus"))[0][0] == 99


def test_a_misspelt_word_is_found_by_its_pieces() -> None:
    index = filled(["photosynthesis", "thermodynamics", "cryptography"])
    assert index.nearest(EMBED("thermodinamics"))[0][0] == 1


def test_a_vector_that_is_no_text_is_found_too() -> None:
    index = InvertedIndex()
    for place in range(40):
        index.add(place, {1: 0.8, place + 2: 0.6})
    assert index.nearest({1: 0.8, 7: 0.6}, 1) == [(5, pytest.approx(1.0, abs=0.01))]


def test_words_that_a_text_repeats_count_as_often() -> None:
    texts = [f"the cat of my {thing} {place}" for place, thing in enumerate(["aunt", "boss", "cook", "duke"] * 40)]
    index = filled([*texts, "cat after cat and cat upon cat"])
    assert index.nearest(EMBED("a cat, a cat, a cat"), 1)[0][0] == len(texts)


def test_a_word_that_leaves_and_comes_back_is_found_by_its_spelling() -> None:
    index = filled(TEXTS)
    for _ in range(3):
        index.add(500, EMBED("photosynthesis"))
        assert index.nearest(EMBED("fotosynthesis"))[0][0] == 500
        index.remove(500)
        assert index.nearest(EMBED("fotosynthesis")) == []


def test_within_a_small_budget_the_nearest_is_the_same() -> None:
    whole, hurried = filled(TEXTS, budget=10**9, compared=10**9), filled(TEXTS, budget=60, compared=8)
    for text in TEXTS:
        assert hurried.nearest(EMBED(text), 1) == whole.nearest(EMBED(text), 1)


def test_where_every_list_is_beyond_the_budget_the_newest_are_looked_at() -> None:
    index = filled(["the same words"] * 50, budget=10)
    assert {entry for entry, _ in index.nearest(EMBED("the same words"))} <= set(range(40, 50))
    assert len(index.nearest(EMBED("the same words"))) == 8


def test_of_a_long_text_the_weightiest_words_count() -> None:
    index = filled([*TEXTS, "the garden of the house " * 500 + "walrus"])
    long = " ".join(f"word{number}" for number in range(5000))
    index.add(999, EMBED(long))
    assert index.nearest(EMBED(long))[0] == (999, pytest.approx(1.0, abs=0.02))
    assert index.nearest(EMBED("walrus"))[0][0] == len(TEXTS)


def test_early_entries_are_found_as_surely_as_late_ones() -> None:
    """What is rare is learnt anew while the partition grows, so that an entry added to an empty one is like any."""
    index = filled(TEXTS)
    for place in (0, 1, len(TEXTS) - 1):
        assert index.nearest(EMBED(TEXTS[place]))[0] == (place, pytest.approx(1.0, abs=0.03))


def test_what_is_gone_leaves_nothing_behind() -> None:
    index = filled(TEXTS)
    for place in range(len(TEXTS) - 1):
        index.remove(place)
    alone = filled([TEXTS[-1]])
    index.add(len(TEXTS), EMBED("an entry more"))
    alone.add(1, EMBED("an entry more"))
    (near, cosine), *_ = index.nearest(EMBED("sell the castle"))
    assert (near, cosine) == (len(TEXTS) - 1, pytest.approx(alone.nearest(EMBED("sell the castle"))[0][1], abs=0.02))


@given(st.lists(WORDS, min_size=1, max_size=20))
def test_a_text_that_is_in_is_nearest_to_itself(texts: list[str]) -> None:
    index = filled(texts)
    for place, text in enumerate(texts):
        found = dict(index.nearest(EMBED(text), 20))
        assert found[place] == pytest.approx(1.0, abs=0.01)
        assert found[place] >= max(found.values()) - 0.01


def test_a_topic_that_becomes_common_stays_as_near_as_it_was() -> None:
    index = filled(TEXTS)
    index.add(1000, EMBED("when does the walrus sleep"))
    for number in range(1001, 1010):
        index.add(number, EMBED("when does the walrus sleep please"))
    assert dict(index.nearest(EMBED("when does the walrus sleep"), 20))[1000] == pytest.approx(1.0, abs=0.01)


@given(st.lists(st.tuples(st.integers(0, 12), WORDS | st.none()), max_size=12), WORDS)
@example([(100, "red dog"), (101, "dog"), (102, "dog cat")], "red dog cat")
def test_who_asked_before_makes_no_difference_to_what_is_near(changes: list[tuple[int, str | None]], text: str) -> None:
    asked, quiet = filled(TEXTS), filled(TEXTS)
    for entry, known in changes:
        for index in (asked, quiet):
            if known is None:
                index.remove(entry)
            else:
                index.add(entry, EMBED(known))
        asked.nearest(EMBED(text))

    def near(index: InvertedIndex) -> dict[int, float]:
        return {entry: cosine for entry, cosine in index.nearest(EMBED(text), 20) if cosine >= 0.5}

    assert near(asked) == near(quiet)


class Changes(RuleBasedStateMachine):
    """Whatever is added, replaced and removed: what is in is found by its own text, what is not never comes back."""

    def __init__(self) -> None:
        super().__init__()
        self.index = InvertedIndex(listed=4)
        self.known: dict[int, str] = {}

    @rule(entry=st.integers(0, 12), text=WORDS)
    def add(self, entry: int, text: str) -> None:
        self.index.add(entry, EMBED(text))
        self.known[entry] = text

    @rule(entry=st.integers(0, 12))
    def remove(self, entry: int) -> None:
        self.index.remove(entry)
        self.known.pop(entry, None)

    @rule(text=WORDS)
    def look(self, text: str) -> None:
        for entry, cosine in self.index.nearest(EMBED(text), 20):
            assert 0.0 < cosine <= 1.0
            assert entry in self.known

    @invariant()
    def everything_is_found(self) -> None:
        assert len(self.index) == len(self.known)
        for entry, text in self.known.items():
            assert entry in {each for each, _ in self.index.nearest(EMBED(text), 20)}


TestChanges = Changes.TestCase
