"""Words and pieces of words as a sparse vector. Needs no model; sees spelling, not meaning.

Hashed word stems, pairs of neighbours and letters of words, as in Weinberger et al. 2009 ("Feature hashing") and
Bojanowski et al. 2017 ("Enriching word vectors with subword information"). How rare each is, is not known here: the
index weighs by it.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import sqrt

from penstock.matching.reading import stem, tokens
from penstock.matching.vocabulary import FUNCTION_WORDS

WORD, PAIR, PIECE = 1.0, 0.5, 0.35
"""Weights of a word, a pair of neighbours and four letters of a word, before rarity."""


class LexicalEmbedder:
    """Embeds texts by their spelling. The same text has the same vector in every process."""

    name = "lexical"

    def embed(self, texts: Sequence[str]) -> list[Mapping[int, float]]:
        """Return a sparse vector of length 1 for each text; an empty one for a text without words."""
        return [self.embed_one(text) for text in texts]

    def embed_one(self, text: str) -> Mapping[int, float]:
        """Return the sparse vector of `text`."""
        vector: dict[int, float] = {}
        before = ""
        for token in tokens(text):
            word = token.lower()
            for key, weight in _pieces(word):
                vector[key] = vector.get(key, 0.0) + weight
            if before:
                key = zlib.crc32(f"{before} {word}".encode())
                vector[key] = vector.get(key, 0.0) + PAIR
            before = word
        norm = sqrt(sum(weight * weight for weight in vector.values()))
        return {key: weight / norm for key, weight in vector.items()} if norm else {}


@lru_cache(maxsize=65536)
def _pieces(word: str) -> tuple[tuple[int, float], ...]:
    if word in FUNCTION_WORDS:
        return ((zlib.crc32(word.encode()), 0.3 * WORD),)
    framed = f"<{word}>"
    letters = {framed[at : at + 4] for at in range(max(1, len(framed) - 3))}
    share = PIECE if len(letters) < 4 else PIECE * 2 / sqrt(len(letters))
    pieces = [(zlib.crc32(stem(word).encode()), WORD)]
    pieces += [(zlib.crc32(b"#" + piece.encode()), share) for piece in sorted(letters)]
    return tuple(pieces)
