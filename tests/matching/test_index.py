from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.embedders.lexical import LexicalEmbedder
from penstock.matching.index import InvertedIndex

EMBED = LexicalEmbedder().embed_one
WORDS = st.lists(st.sampled_from(["red", "green", "blue", "dog", "cat", "fish", "run"]), min_size=1, max_size=5).map(
    " ".join
)


@given(st.lists(WORDS, min_size=1, max_size=20))
def test_a_text_that_is_in_is_nearest_to_itself(texts: list[str]) -> None:
    index = InvertedIndex()
    for place, text in enumerate(texts):
        index.add(place, EMBED(text))
    for text in texts:
        entry, similarity = index.nearest(EMBED(text))[0]
        assert EMBED(texts[entry]) == pytest.approx(EMBED(text))
        assert similarity == pytest.approx(1.0)


@given(st.lists(WORDS, min_size=2, max_size=20), st.data())
def test_removed_is_as_never_added(texts: list[str], data: st.DataObject) -> None:
    gone = data.draw(st.sets(st.sampled_from(range(len(texts)))))
    index = InvertedIndex()
    for place, text in enumerate(texts):
        index.add(place, EMBED(text))
    for place in gone:
        index.remove(place)
    assert len(index) == len(texts) - len(gone)
    assert not gone & {entry for text in texts for entry, _ in index.nearest(EMBED(text), 50)}


def test_rare_words_weigh_more() -> None:
    index = InvertedIndex()
    for place in range(50):
        index.add(place, EMBED(f"please reset account {place}"))
    index.add(99, EMBED("walrus"))
    assert index.nearest(EMBED("please reset walrus"))[0][0] == 99


def test_candidates_by_the_rarest_terms_find_the_same_nearest() -> None:
    whole, pruned = InvertedIndex(budget=10**9), InvertedIndex(budget=300)
    texts = [
        f"how do I {verb} the {thing} of my {place}"
        for verb in ("open", "close", "paint", "sell", "clean")
        for thing in ("door", "window", "roof", "garden")
        for place in ("house", "office", "school", "castle")
    ]
    for number, text in enumerate(texts):
        whole.add(number, EMBED(text))
        pruned.add(number, EMBED(text))
    for text in texts:
        assert whole.nearest(EMBED(text))[0] == pytest.approx(pruned.nearest(EMBED(text))[0])
