"""Embeddings of the simulated model: words and their trigrams hashed into a vector, so that like texts are near."""

from __future__ import annotations

import itertools
import math
import re
import struct
from base64 import b64encode
from zlib import crc32

_WORD = re.compile(r"\w+")
_SIGN = 1 << 31


def embed(text: str, dimensions: int) -> list[float]:
    """Return the unit vector of `text`: feature hashing with signs (Weinberger et al. 2009), words weighing double."""
    vector = [0.0] * dimensions
    words: list[str] = _WORD.findall(text.lower())
    for word in words:
        _add(vector, word, 2.0)
        marked = f"<{word}>"
        for start in range(len(marked) - 2):
            _add(vector, marked[start : start + 3], 1.0)
    for pair in itertools.pairwise(words):
        _add(vector, " ".join(pair), 1.0)
    length = math.sqrt(sum(value * value for value in vector))
    if length == 0.0:
        _add(vector, text, 1.0)
        length = 1.0
    return [value / length for value in vector]


def pack(vector: list[float]) -> str:
    """Write `vector` as OpenAI's ``encoding_format: base64`` does: 32-bit floats, least significant byte first."""
    return b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _add(vector: list[float], feature: str, weight: float) -> None:
    mark = crc32(feature.encode("utf-8", "surrogatepass"))
    vector[mark % len(vector)] += -weight if mark & _SIGN else weight
