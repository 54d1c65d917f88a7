"""The public sets as streams of questions, and what is known of whether two of them have one answer."""

from __future__ import annotations

import asyncio
import csv
import gzip
import itertools
import json
import re
from collections.abc import Awaitable, Hashable, Sequence
from inspect import isawaitable
from pathlib import Path
from random import Random
from typing import NamedTuple

from benchmarks.semantic_data import qqp_pairs, rows
from penstock.abc import Vector
from penstock.matching.evaluation import AnyEmbedder

Stream = list[tuple[str, Hashable]]

_BATCH = 256
_SAID = re.compile(r"\w+|[^\w\s.,?!'\"’]")
"""Words and signs. Texts that are the same but for case, spaces and the marks that end sentences are one question."""


class Memo:
    """An embedder that embeds a text once."""

    def __init__(self, embedder: AnyEmbedder, label: str) -> None:
        self.name = embedder.name
        self.label = label
        self._embedder = embedder
        self._known: dict[str, Vector] = {}

    def embed(self, texts: Sequence[str], /) -> list[Vector]:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        for start in range(0, len(new), _BATCH):
            batch = new[start : start + _BATCH]
            self._known.update(zip(batch, self._fresh(batch), strict=True))
        return [self._known[text] for text in texts]

    def one(self, text: str) -> Vector:
        return self.embed([text])[0]

    def _fresh(self, texts: list[str]) -> Sequence[Vector]:
        vectors = self._embedder.embed(texts)
        if not isawaitable(vectors):
            return vectors

        async def wait(result: Awaitable[Sequence[Vector]]) -> Sequence[Vector]:
            return await result

        return asyncio.run(wait(vectors))


class Asked(NamedTuple):
    """The answer of a question of qqp: known by the questions that share it."""

    answer: int
    text: str


class Questions(NamedTuple):
    """The half of qqp nothing was fitted on.

    Attributes:
        pairs: Of texts, with the answers' identities. Texts joined by a chain of label 1 share one; so do texts that
            differ in case and blanks only, whatever their label, which is an error of the label (2 of 48,116 pairs).
        different: Pairs of answers that some label 0 between any two of their questions says are two.
        apart: Pairs of texts of label 0.
    """

    pairs: list[tuple[str, str, int, int]]
    different: frozenset[tuple[int, int]]
    apart: frozenset[tuple[str, str]]

    def same(self, one: Hashable, other: Hashable) -> bool | None:
        """Whether two answers are one, None if no chain of labels says so: pairs without a label are no negatives."""
        assert isinstance(one, Asked)
        assert isinstance(other, Asked)
        if one.answer == other.answer:
            return True
        return False if (one.answer, other.answer) in self.different else None

    def same_pair(self, one: Hashable, other: Hashable) -> bool | None:
        """As `same`, but two answers are two only if the pair of questions itself has label 0."""
        assert isinstance(one, Asked)
        assert isinstance(other, Asked)
        if one.answer == other.answer:
            return True
        return False if (one.text, other.text) in self.apart else None

    def same_harsh(self, one: Hashable, other: Hashable) -> bool:
        """Whether labels say that two answers are one; what they do not say is not so."""
        return self.same(one, other) is True

    def stream(self, seed: int, requests: int) -> Stream:
        """Return the questions of as many pairs as make `requests`, each once, in an order of its own."""
        chance = Random(seed)
        pairs = self.pairs if len(self.pairs) <= requests // 2 else chance.sample(self.pairs, requests // 2)
        texts = {text: answer for a, b, one, other in pairs for text, answer in ((a, one), (b, other))}
        order: Stream = [(text, Asked(answer, text)) for text, answer in texts.items()]
        chance.shuffle(order)
        return order


def read_questions(data: Path) -> Questions:
    """Read the half of qqp that is held out."""
    pairs = qqp_pairs(data, half=1)
    first: dict[str, int] = {}
    joined: dict[int, int] = {}

    def root(answer: int) -> int:
        while answer in joined:
            answer = joined[answer]
        return answer

    for a, b, one, other in pairs:
        for text, answer in ((a, one), (b, other)):
            twin = root(first.setdefault(" ".join(_SAID.findall(text.lower())), answer))
            if twin != root(answer):
                joined[root(answer)] = twin
    pairs = [(a, b, root(one), root(other)) for a, b, one, other in pairs]
    apart = [(a, b, one, other) for a, b, one, other in pairs if one != other]
    return Questions(
        pairs,
        frozenset(pair for _, _, one, other in apart for pair in ((one, other), (other, one))),
        frozenset(pair for a, b, _, _ in apart for pair in ((a, b), (b, a))),
    )


def read_intents(data: Path, seed: int) -> Stream:
    """Read banking77, in an order of its own. An intent is no answer, only the nearest thing to one."""
    found: Stream = []
    for part in ("train", "test"):
        with gzip.open(data / f"intents/banking77/{part}.csv.gz", "rt", encoding="utf-8", newline="") as file:
            found.extend((row["text"], row["category"]) for row in csv.DictReader(file))
    found = list(dict(found).items())
    Random(seed).shuffle(found)
    return found


def read_mock(data: Path) -> list[tuple[str, str]]:
    """Read pairs of statements that say the same."""
    return [(pair["origin"], pair["similar"]) for pair in rows(data / "paraphrase/gptcache-mock/mock.jsonl.gz")]


def read_traps(data: Path) -> dict[str, list[tuple[str, str, int]]]:
    """Read pairs by kind, with 1 for the same meaning and 0 for another."""
    kinds: dict[str, list[tuple[str, str, int]]] = {}
    for pair in rows(data / "paraphrase/cannot-negation/pairs.jsonl.gz"):
        kinds.setdefault(f"cannot {pair['source']}", []).append((pair["a"], pair["b"], pair["label"]))
    for pair in rows(data / "paraphrase/qqp/pairs.jsonl.gz"):
        if pair["kind"] != "other":
            kinds.setdefault(f"qqp {pair['kind']}", []).append((pair["a"], pair["b"], pair["label"]))
    kinds["nlupp slots"] = _slots(data)
    return kinds


def _slots(data: Path) -> list[tuple[str, str, int]]:
    """Return neighbours with the same intents, and 1 where their slots have the same words too."""
    groups: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for row in rows(data / "intents/nlupp/banking.jsonl.gz"):
        slots = {name: slot["text"].lower() for name, slot in row.get("slots", {}).items()}
        if slots:
            intents = tuple(sorted(row.get("intents", ())))
            groups.setdefault(intents, []).append((row["text"], json.dumps(slots, sort_keys=True)))
    return [
        (a, b, int(one == other)) for members in groups.values() for (a, one), (b, other) in itertools.pairwise(members)
    ]
