"""How often each labeller is right about two answers being the same, and how often it cannot say.

    python -m benchmarks.labels --data DIR [--onnx DIR]

Pairs of answers whose truth is known:

- `gsm8k`: a weak and a strong model's answers to one question; the same when both are right, others when one is.
- `gsm8k_other`: the strong model's answer and the weak one's to the most similar other question; never the same.
- `cannot`: sentences and small edits of them, 1 in the set meaning the same.
- `mock`: a sentence and its paraphrase, and the paraphrase of the next sentence.

For each: `same_right`, `same_wrong` (what breaks the promise), `different_right`, `different_wrong` (what costs hits),
`unknown`. `chain` is all of them in the default order. One JSON object on the last line. No judge is asked.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.outcome import finish
from benchmarks.semantic_data import rows
from penstock.abc import Embedder, Vector
from penstock.core.request import Request
from penstock.embedders.lexical import LexicalEmbedder
from penstock.embedders.onnx import OnnxEmbedder
from penstock.matching.labels.answers import cosine
from penstock.matching.labels.chain import BY_EXACT, BY_RULE, ByVector, Case, Chain, Labeller

SAID = {(True, True): "same_right", (True, False): "same_wrong", (False, False): "different_right",
        (False, True): "different_wrong"}  # fmt: skip
Pair = tuple[str, str, bool]


class Remembering:
    """An embedder that embeds a text once."""

    def __init__(self, embedder: Embedder) -> None:
        self.name, self.dimensions = embedder.name, embedder.dimensions
        self._embedder = embedder
        self._known: dict[str, Vector] = {}

    async def embed(self, texts: Sequence[str], _behalf: Request | None = None) -> Sequence[Vector]:
        """Return a vector for each text."""
        for text in texts:
            if text not in self._known:
                self._known[text] = (await self._embedder.embed([text]))[0]
        return [self._known[text] for text in texts]

    async def aclose(self) -> None:
        """Free the model."""
        await self._embedder.aclose()


def gsm8k(data: Path) -> list[Pair]:
    """Return answers of two models to one question."""
    found = []
    for row in rows(data / "routing/routellm-gsm8k/gsm8k.jsonl.gz"):
        weak, strong = bool(row["mixtral_correct_lenient"]), bool(row["gpt4_correct_lenient"])
        if weak or strong:
            found.append((row["mixtral_response"].strip(), row["gpt4_response"].strip(), weak and strong))
    return found


def gsm8k_other(data: Path) -> list[Pair]:
    """Return answers to two questions that look alike."""
    table = rows(data / "routing/routellm-gsm8k/gsm8k.jsonl.gz")
    embed = LexicalEmbedder().embed_one
    vectors = [embed(row["prompt"]) for row in table]
    found = []
    for place, row in enumerate(table):
        others = (other for other in range(len(table)) if other != place and vectors[other] != vectors[place])
        near = max(others, key=lambda other: cosine(vectors[place], vectors[other]))
        found.append((table[near]["mixtral_response"].strip(), row["gpt4_response"].strip(), False))
    return found


def cannot(data: Path) -> list[Pair]:
    """Return sentences and edits of them."""
    table = rows(data / "paraphrase/cannot-negation/pairs.jsonl.gz")
    return [(row["a"], row["b"], row["label"] == 1) for row in table]


def mock(data: Path) -> list[Pair]:
    """Return sentences with their own paraphrase and with another's."""
    table = rows(data / "paraphrase/gptcache-mock/mock.jsonl.gz")
    own = [(row["origin"], row["similar"], True) for row in table]
    return own + [(row["origin"], other["similar"], False) for row, other in zip(table[1:], table, strict=False)]


async def label(chain: Chain, pairs: Iterable[Pair]) -> Mapping[str, int]:
    """Count what `chain` says of `pairs`."""
    counts: Counter[str] = Counter(dict.fromkeys((*SAID.values(), "unknown"), 0))
    for answer, fresh, same in pairs:
        found = await chain.label(Case("", "", answer, fresh))
        counts["unknown" if found is None else SAID[found.same, same]] += 1
    return counts


async def run(data: Path, embedders: Sequence[Embedder]) -> dict[str, int]:
    """Label all sets with all labellers."""
    sets = {"gsm8k": gsm8k(data), "gsm8k_other": gsm8k_other(data), "cannot": cannot(data), "mock": mock(data)}
    chains: dict[str, list[Labeller]] = {"exact": [BY_EXACT], "rule": [BY_RULE]}
    for embedder in map(Remembering, embedders):
        kind = "onnx" if embedder.dimensions else embedder.name
        chains |= {f"answers_{kind}": [ByVector(embedder)], f"chain_{kind}": [BY_EXACT, BY_RULE, ByVector(embedder)]}
    figures: dict[str, int] = {}
    for name, pairs in sets.items():
        for kind, labellers in chains.items():
            counts = await label(Chain(labellers), pairs)
            print(f"{name:12} {kind:16} n={len(pairs):6}", *(f"{key}={value}" for key, value in counts.items()))
            figures |= {f"{name}_{kind}_{key}": value for key, value in counts.items()}
        figures[f"{name}_n"] = len(pairs)
    return figures


async def both(data: Path, onnx: str | None) -> dict[str, int]:
    """Label with the lexical embedder, and with one of meaning when there is one."""
    embedders: list[Embedder] = [LexicalEmbedder()]
    if onnx is not None:
        embedders.append(await OnnxEmbedder.open(path=onnx))
    return await run(data, embedders)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="accepted for uniformity: the last line always is JSON")
    parser.add_argument("--data", type=Path, required=True, help="where the public sets are")
    parser.add_argument("--onnx", help="a directory with a model, to compare answers by meaning")
    given = parser.parse_args()
    started = time.monotonic()
    figures = asyncio.run(both(given.data, given.onnx))
    finish(figures, started=started, n=sum(figures[key] for key in figures if key.endswith("_n")))


if __name__ == "__main__":
    main()
