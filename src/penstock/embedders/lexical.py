"""Words and pieces of words as a sparse vector. Needs no model; sees spelling, not meaning.

Hashed word stems, pairs of neighbours and letters of words, as in Weinberger et al. 2009 ("Feature hashing") and
Bojanowski et al. 2017 ("Enriching word vectors with subword information"). How rare each is, is not known here: the
index weighs by it.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Sequence
from functools import lru_cache
from math import sqrt

from penstock.core.request import Request
from penstock.matching.reading import stem, tokens
from penstock.matching.spelling import FUNCTION, KIND, KINDS, PAIR, WORD, Spelling, Terms
from penstock.matching.vocabulary import FUNCTION_WORDS

PIECE = 0.35
"""Weight of four letters of a word, before rarity; where there are many, they share what eight pieces would weigh."""

_IN_ONE_GO = 64


class LexicalEmbedder:
    """Embeds texts by their spelling. The same text has the same vector in every process."""

    name = "lexical"
    dimensions = 0

    async def embed(self, texts: Sequence[str], behalf: Request | None = None) -> list[Spelling]:
        """Return a sparse vector of length 1 for each text; an empty one for a text without words.

        Of many texts it lets others run in between; of a few it does not wait.
        """
        vectors = []
        for place, text in enumerate(texts, 1):
            vectors.append(self.embed_one(text))
            if place % _IN_ONE_GO == 0:
                await asyncio.sleep(0)
        return vectors

    async def aclose(self) -> None:
        """Nothing to free."""

    def embed_one(self, text: str) -> Spelling:
        """Return the sparse vector of `text`."""
        counts: dict[int, float] = {}
        words: dict[int, Terms] = {}
        before = ""
        for token in tokens(text):
            word, name, terms = _word(token)
            counts[name] = counts[name] + 1.0 if name in counts else 1.0
            if terms:
                words[name] = terms
            if before:
                name = _pair(before, word)
                counts[name] = counts[name] + 1.0 if name in counts else 1.0
            before = word
        return Spelling(counts, words)


@lru_cache(maxsize=65536)
def _word(token: str) -> tuple[str, int, Terms]:
    word = token.lower()
    if word in FUNCTION_WORDS:
        return word, _name(word, FUNCTION), ()
    framed = f"<{word}>"
    letters = {framed[at : at + 4] for at in range(max(1, len(framed) - 3))}
    share = PIECE if len(letters) < 4 else PIECE * 2 / sqrt(len(letters))
    pieces = tuple([(_digest(f"#{piece}"), share) for piece in sorted(letters)])
    return word, _name(word, WORD), ((_digest(stem(word)), KINDS[WORD]), *pieces)


@lru_cache(maxsize=16384)
def _pair(one: str, other: str) -> int:
    return _name(f"{one} {other}", PAIR)


def _name(text: str, kind: int) -> int:
    return (_digest(text) & ~KIND) | kind


def _digest(text: str) -> int:
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))
