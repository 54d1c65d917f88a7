from __future__ import annotations

import subprocess
import sys
from math import isclose

from hypothesis import given
from hypothesis import strategies as st

from penstock.embedders.lexical import LexicalEmbedder
from penstock.testing import check_embedder

EMBED = LexicalEmbedder().embed_one


def cosine(one: str, other: str) -> float:
    here, there = EMBED(one), EMBED(other)
    return sum(weight * there.get(term, 0.0) for term, weight in here.items())


@given(st.text(max_size=80))
def test_vectors_have_length_one_or_are_empty(text: str) -> None:
    vector = EMBED(text)
    assert not vector or isclose(sum(weight * weight for weight in vector.values()), 1.0)


def test_forms_and_misspellings_are_nearer_than_other_words() -> None:
    asked = "How do I reset my password?"
    assert cosine(asked, "how can i reset my pasword") > 0.5
    assert cosine(asked, "What is the capital of France?") < 0.2


def test_another_process_has_the_same_vector() -> None:
    program = (
        "from penstock.embedders.lexical import LexicalEmbedder as E; print(sorted(E().embed_one('a b café').items()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(sorted(EMBED("a b café").items()))


async def test_it_keeps_the_promises() -> None:
    await check_embedder(LexicalEmbedder())


async def test_batches_are_in_order() -> None:
    assert await LexicalEmbedder().embed(["one thing", "another"]) == [EMBED("one thing"), EMBED("another")]
