"""Reads the public pairs and makes streams of them."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from random import Random
from typing import Any


def rows(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def qqp_pairs(data: Path, *, half: int) -> list[tuple[str, str, int, int]]:
    """Return pairs with the identities of their answers, of one half; pairs joined by a shared answer stay together."""
    pairs = rows(data / "paraphrase/qqp/pairs.jsonl.gz")
    group: dict[str, str] = {}

    def root(text: str) -> str:
        while (parent := group.setdefault(text, text)) != text:
            group[text] = group[parent]
            text = parent
        return text

    for pair in pairs:
        if pair["label"] == 1:
            group[root(pair["a"])] = root(pair["b"])
    found = []
    for pair in pairs:
        one, other = zlib.crc32(root(pair["a"]).encode()), zlib.crc32(root(pair["b"]).encode())
        if one % 2 == half and other % 2 == half:
            found.append((pair["a"], pair["b"], one, other))
    return found


def stream(pairs: list[tuple[str, str, int, int]], *, seed: int, requests: int) -> list[tuple[str, int]]:
    """Return the questions of as many pairs as make `requests`, each once, in an order of its own."""
    chance = Random(seed)
    chosen = chance.sample(pairs, min(len(pairs), requests // 2))
    questions = {text: answer for a, b, one, other in chosen for text, answer in ((a, one), (b, other))}
    order = list(questions.items())
    chance.shuffle(order)
    return order
