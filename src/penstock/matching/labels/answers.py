"""Whether two answers in prose say the same, from how near their vectors lie and what facts they state.

Says so only of what is near and differs in no fact, and that they differ only of what is far apart, or is near, short
and differs in a fact that decides. Most answers of some length lie between: a judge or a person has to say.
"""

from __future__ import annotations

from array import array
from operator import mul
from sys import byteorder
from typing import NamedTuple

from penstock.abc import Vector
from penstock.matching.reading import Reading, read
from penstock.matching.vetoes import veto


class Thresholds(NamedTuple):
    """Cosines that decide, measured by `benchmarks.labels` on one-sentence answers.

    Attributes:
        same: From here on two answers may be the same.
        different: Up to here they are not.
    """

    same: float
    different: float


SPARSE = Thresholds(0.75, 0.2)
"""For the lexical embedder."""

DENSE = Thresholds(0.9, 0.4)
"""For embedders of meaning, on MiniLM."""

SHORT_WORDS = 40
"""In longer answers a number, or a "not", may differ and the answer be the same."""

_TURNS = frozenset({"by", "from", "no", "against", "before", "after", "until", "since", "above", "below", "over",
                    "under"})  # fmt: skip
_DECIDE = frozenset({"number", "unit", "date", "negation", "antonym"})


def compare(answer: str, fresh: str, cosine: float, thresholds: Thresholds) -> bool | None:
    """Say whether two answers whose vectors have this cosine are the same; None where that cannot be said.

    Raises:
        ValueError: `thresholds` are not in order.
    """
    if not thresholds.different < thresholds.same:
        raise ValueError(f"expected different below same, not {thresholds}")
    if cosine <= thresholds.different:
        return False
    if cosine < thresholds.same:
        return None
    here, there = read(answer), read(fresh)
    # A veto is made for a question and a known one and need not be symmetric; here neither answer is the first.
    found = {_veto(here, there), _veto(there, here)}
    if found == {None}:
        return None if _turned(here, there) else True
    short = max(len(here.stems), len(there.stems)) <= SHORT_WORDS
    return False if short and found & _DECIDE else None


def _turned(here: Reading, there: Reading) -> bool:
    """Whether who does what to whom, or from where to where, may be the other way round."""
    same = sorted(here.stems) == sorted(there.stems)
    return here.stems != there.stems if same else bool((here.words ^ there.words) & _TURNS)


def _veto(here: Reading, there: Reading) -> str | None:
    return veto(here, there, edits=True)


def cosine(one: Vector, other: Vector) -> float:
    """Return the cosine of two vectors of one embedder; 0 where one is empty."""
    if isinstance(one, bytes) and isinstance(other, bytes):
        return float(sum(map(mul, _floats(one), _floats(other))))
    if isinstance(one, bytes) or isinstance(other, bytes):
        raise TypeError("a dense vector and a sparse one are not of one embedder")
    if len(other) < len(one):
        one, other = other, one
    return sum([weight * other.get(place, 0.0) for place, weight in one.items()])


def _floats(vector: bytes) -> array[float]:
    floats = array("f", vector)
    if byteorder == "big":
        floats.byteswap()
    return floats
