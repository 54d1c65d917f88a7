"""Words and pieces of words as a sparse vector. Needs no model; sees spelling, not meaning.

Hashed word stems, pairs of neighbours and letters of words, as in Weinberger et al. 2009 ("Feature hashing") and
Bojanowski et al. 2017 ("Enriching word vectors with subword information"). How rare each is, is not known here: the
index weighs by it.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import sqrt
from operator import mul

from penstock.core.request import Request
from penstock.matching.reading import stem, tokens
from penstock.matching.vocabulary import FUNCTION_WORDS

WORD, PAIR, PIECE = 1.0, 0.5, 0.35
"""Weights of a word, a pair of neighbours and four letters of a word, before rarity."""

_IN_ONE_GO = 64


class LexicalEmbedder:
    """Embeds texts by their spelling. The same text has the same vector in every process."""

    name = "lexical"
    dimensions = 0

    async def embed(self, texts: Sequence[str], behalf: Request | None = None) -> list[Mapping[int, float]]:
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

    def embed_one(self, text: str) -> Mapping[int, float]:
        """Return the sparse vector of `text`."""
        vector: dict[int, float] = {}
        before = ""
        for token in tokens(text):
            word = token.lower()
            for key, weight in _pieces(word):
                vector[key] = vector[key] + weight if key in vector else weight
            if before:
                key = zlib.crc32(f"{before} {word}".encode("utf-8", "surrogatepass"))
                vector[key] = vector[key] + PAIR if key in vector else PAIR
            before = word
        weights = vector.values()
        norm = sqrt(sum(map(mul, weights, weights)))
        return {key: weight / norm for key, weight in vector.items()} if norm else {}


@lru_cache(maxsize=65536)
def _pieces(word: str) -> tuple[tuple[int, float], ...]:
    if word in FUNCTION_WORDS:
        return ((zlib.crc32(word.encode("utf-8", "surrogatepass")), 0.3 * WORD),)
    framed = f"<{word}>"
    letters = {framed[at : at + 4] for at in range(max(1, len(framed) - 3))}
    share = PIECE if len(letters) < 4 else PIECE * 2 / sqrt(len(letters))
    pieces = [(zlib.crc32(stem(word).encode("utf-8", "surrogatepass")), WORD)]
    pieces += [(zlib.crc32(b"#" + piece.encode("utf-8", "surrogatepass")), share) for piece in sorted(letters)]
    return tuple(pieces)
