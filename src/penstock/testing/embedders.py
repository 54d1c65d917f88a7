"""The check that an embedder keeps the promises of `penstock.abc.Embedder`."""

from __future__ import annotations

import asyncio
import struct
from math import isfinite, sqrt

from penstock.abc import Embedder, Vector
from penstock.core.errors import PenstockError

_CALLS = 1000
_PATIENCE_S = 30.0
_TEXTS = (
    "How do I reset my password?",
    "Wie setze ich mein Passwort zurück?",
    "密码忘了怎么办？",
    "كيف أعيد تعيين كلمة المرور؟",
    "🔑🙃 e\u0301 \u200b\u202e \x00 \ud800 lost",
    "word " * 3000,
    "x" * 5000,
)


async def check_embedder(embedder: Embedder) -> None:
    """Check an embedder: length and form of vectors, order, the same for the same text, many at once, close.

    Args:
        embedder: The embedder; closed at the end, while it is at work.
    """
    _require(bool(embedder.name), "the name is empty")
    _require(list(await embedder.embed([])) == [], "no texts have vectors")
    vectors = await embedder.embed([*_TEXTS, ""])
    _require(len(vectors) == len(_TEXTS) + 1, "there is not one vector for each text")
    for text, vector in zip(_TEXTS, vectors, strict=False):
        _check_form(embedder, text, vector)
    _require(not vectors[-1], "the empty text has a vector that is not empty")

    backwards = await embedder.embed(_TEXTS[::-1])
    for text, vector, other in zip(_TEXTS, vectors, backwards[::-1], strict=False):
        (alone,) = await embedder.embed([text])
        _require(_cosine(vector, other) > 0.999, f"the vectors are not in the order of the texts: {text[:40]!r}")
        _require(_cosine(vector, alone) > 0.999, f"the vector of a text depends on the others: {text[:40]!r}")
    _require(_cosine(vectors[0], vectors[2]) < 0.999, "different texts have one vector")

    async with asyncio.timeout(_PATIENCE_S):
        given = await asyncio.gather(
            *(embedder.embed([_TEXTS[place % 4]]) for place in range(_CALLS)), return_exceptions=True
        )
    _check_answers([(vectors[place % 4], each) for place, each in enumerate(given)])
    _require(any(not isinstance(each, BaseException) for each in given), "of many calls at once none is answered")

    gone = asyncio.ensure_future(embedder.embed(_TEXTS))  # noqa: TID251 - ended below
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    (after,) = await embedder.embed([_TEXTS[0]])
    _require(_cosine(vectors[0], after) > 0.999, "a call that was cancelled spoils the next")

    async with asyncio.timeout(_PATIENCE_S):
        running = [asyncio.ensure_future(embedder.embed([_TEXTS[0]])) for _ in range(20)]  # noqa: TID251 - ended below
        await asyncio.sleep(0)
        await embedder.aclose()
        ended = await asyncio.gather(*running, return_exceptions=True)
        await embedder.aclose()
    _check_answers([(vectors[0], each) for each in ended])


def _check_form(embedder: Embedder, text: str, vector: Vector) -> None:
    if isinstance(vector, bytes):
        _require(embedder.dimensions > 0, "vectors are dense, and dimensions is not their number")
        _require(len(vector) == 4 * embedder.dimensions, "a vector does not have as many numbers as dimensions says")
    else:
        _require(embedder.dimensions == 0, "vectors are sparse, and dimensions is not 0")
    if not vector:  # words of a script it does not know
        _require(text not in _TEXTS[:2], "a text with words has an empty vector")
        return
    length = sqrt(sum(weight * weight for weight in _weights(vector).values()))
    _require(isfinite(length) and abs(length - 1.0) < 1e-3, f"a vector has length {length:.3f}, not 1: {text[:40]!r}")


def _check_answers(answers: list[tuple[Vector, object]]) -> None:
    for expected, given in answers:
        if isinstance(given, BaseException):
            _require(isinstance(given, PenstockError), f"a call fails with {given!r}, which is no PenstockError")
        elif isinstance(given, (list, tuple)):
            _require(_cosine(expected, given[0]) > 0.999, "calls at the same time get each other's vectors")


def _weights(vector: Vector) -> dict[int, float]:
    if isinstance(vector, bytes):
        return dict(enumerate(struct.unpack(f"<{len(vector) // 4}f", vector)))
    return dict(vector)


def _cosine(one: Vector, other: Vector) -> float:
    here, there = _weights(one), _weights(other)
    return 1.0 if here == there else sum(weight * there.get(key, 0.0) for key, weight in here.items())


def _require(kept: bool, broken: str) -> None:  # noqa: FBT001 - it is a question, not a switch
    if not kept:
        raise AssertionError(broken)
