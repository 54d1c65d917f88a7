"""Fit the weights that the semantic cache ships with, and write them as the module `penstock.matching.weights`.

    python -m benchmarks.semantic_fit --data DIR [--onnx DIR] [--output src/penstock/matching/weights.py]

Fits on halves: of qqp the questions whose answers hash to even (`benchmarks.semantic` streams the others), of the other
sets the texts that do. Of that half of qqp a quarter is kept back to count how often the model is right. Without
`--onnx` the weights for dense vectors stay as they are. Needs numpy.
"""

from __future__ import annotations

import argparse
import asyncio
import zlib
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.processes import say
from benchmarks.semantic.data import Memo, read_intents, read_mock, read_traps
from benchmarks.semantic_data import qqp_pairs
from penstock.embedders.lexical import LexicalEmbedder
from penstock.matching.evaluation import index_for
from penstock.matching.model import Features, Weights, inputs
from penstock.matching.partition import Partition, Proposal
from penstock.matching.threshold import BINS, bin_of
from penstock.matching.weights import DENSE, Shipped

WORTH = 0.5
"""What a count of the public data is worth beside one of the user's own."""

ROWS = 10_000.0
"""In how many rows `SHARES` of the sets are counted, whatever their size."""

SHARES = {"questions": 2.0, "statements": 1.0, "few statements": 0.5, "cannot": 0.3, "edits": 0.4, "intents": 0.2}

SIZES = (20, 60, 150)
"""Of partitions that have few statements, most of them not the one asked for."""

RIDGE = 1.0

Floats = NDArray[np.float64]
Pair = tuple[str, str, int, int]


class Seen(NamedTuple):
    """A proposal that no rule forbids, and whether it was right."""

    features: Features
    right: bool


def mine(text: str) -> bool:
    """Whether a text is of the half that is fitted on."""
    return zlib.crc32(text.encode()) % 2 == 0


def questions(pairs: list[Pair], embedder: Memo, seed: int = 0) -> Iterator[Seen]:
    """Ask the questions of `pairs` one after the other; each is known afterwards."""
    different = {(one, other) for _, _, one, other in pairs if one != other}
    texts = {text: answer for a, b, one, other in pairs for text, answer in ((a, one), (b, other))}
    order = list(texts.items())
    Random(seed).shuffle(order)
    embedder.embed(list(texts))
    for proposal, answer in asked(order, embedder):
        if proposal.answer == answer:
            yield Seen(proposal.features, right=True)
        elif (proposal.answer, answer) in different or (answer, proposal.answer) in different:
            yield Seen(proposal.features, right=False)


def asked(order: Iterable[tuple[str, Hashable]], embedder: Memo) -> Iterator[tuple[Proposal, Hashable]]:
    """Yield what is proposed for each question by those before it, and its answer."""
    partition: Partition | None = None
    for text, answer in order:
        vector = embedder.one(text)
        partition = partition or Partition(index_for(vector))
        proposal = partition.propose(text, vector)
        if proposal and proposal.veto is None:
            yield proposal, answer
        partition.add(text, vector, answer)


def statements(pairs: list[tuple[str, str]], embedder: Memo, known: Iterable[int]) -> Iterator[Seen]:
    """Know some of the statements, and ask all of them in other words."""
    partition = Partition(index_for(embedder.one(pairs[0][0])))
    for place in known:
        partition.add(pairs[place][0], embedder.one(pairs[place][0]), place)
    for place, (_, text) in enumerate(pairs):
        proposal = partition.propose(text, embedder.one(text))
        if proposal and proposal.veto is None:
            yield Seen(proposal.features, right=proposal.answer == place)


def alone(pairs: Iterable[tuple[str, str, int]], embedder: Memo) -> Iterator[Seen]:
    """Know one text of a pair, and ask the other."""
    pairs = [pair for pair in pairs if mine(min(pair[:2]))]
    embedder.embed([text for a, b, _ in pairs for text in (a, b)])
    for a, b, label in pairs:
        partition = Partition(index_for(embedder.one(a)))
        partition.add(a, embedder.one(a), 0)
        proposal = partition.propose(b, embedder.one(b))
        if proposal and proposal.veto is None:
            yield Seen(proposal.features, right=bool(label))


def gather(data: Path, embedder: Memo) -> tuple[dict[str, list[Seen]], list[Seen]]:
    """Return what to fit on, and what to count on."""
    pairs = qqp_pairs(data, half=0)
    Random(0).shuffle(pairs)
    cut = 3 * len(pairs) // 4
    say(f"{embedder.label}: questions")
    found = {"questions": list(questions(pairs[:cut], embedder))}
    kept = list(questions(pairs[cut:], embedder))
    say(f"{embedder.label}: statements")
    said = [pair for pair in read_mock(data) if mine(pair[0])]
    embedder.embed([text for pair in said for text in pair])
    found["statements"] = list(statements(said, embedder, range(len(said))))
    found["few statements"] = [
        seen for size in SIZES for seen in statements(said, embedder, Random(size).sample(range(len(said)), size))
    ]
    say(f"{embedder.label}: pairs")
    kinds = read_traps(data)
    found["cannot"] = list(alone([p for kind, ps in kinds.items() if kind.startswith("cannot") for p in ps], embedder))
    found["edits"] = list(alone([p for kind, ps in kinds.items() if kind.startswith("qqp") for p in ps], embedder))
    say(f"{embedder.label}: intents")
    half = [(text, intent) for text, intent in read_intents(data, seed=0) if mine(text)]
    embedder.embed([text for text, _ in half])
    found["intents"] = [Seen(p.features, right=p.answer == intent) for p, intent in asked(half, embedder)]
    return found, kept


def fit(found: dict[str, list[Seen]], rounds: int = 15) -> Floats:
    """Maximise the penalised likelihood by Newton's method."""
    rows = np.array([inputs(seen.features) for group in found.values() for seen in group])
    right = np.array([float(seen.right) for group in found.values() for seen in group])
    shares = [np.full(len(group), ROWS * SHARES[name] / len(group)) for name, group in found.items()]
    weigh = np.concatenate(shares)
    weights = np.zeros(rows.shape[1])
    for _ in range(rounds):
        chance = 1 / (1 + np.exp(-np.clip(rows @ weights, -30, 30)))
        gradient = rows.T @ (weigh * (right - chance)) - RIDGE * weights
        curve = (rows * (weigh * chance * (1 - chance))[:, None]).T @ rows + RIDGE * np.eye(len(weights))
        weights = weights + np.linalg.solve(curve, gradient)
    return weights


def count(kept: list[Seen], weights: Floats) -> tuple[tuple[float, float], ...]:
    """Count right and wrong by bin of probability."""
    counts = np.zeros((BINS, 2))
    for seen in kept:
        chance = 1 / (1 + np.exp(-np.clip(np.dot(inputs(seen.features), weights), -30, 30)))
        counts[bin_of(float(chance)), int(not seen.right)] += WORTH
    return tuple((float(good), float(bad)) for good, bad in counts)


def shipped(data: Path, embedder: Memo) -> Shipped:
    """Return what to ship for an embedder."""
    found, kept = gather(data, embedder)
    weights = fit(found)
    return Shipped(Weights(*(round(float(weight), 4) for weight in weights)), count(kept, weights))


def module(lexical: Shipped, dense: Shipped) -> str:
    """Return the source of `penstock.matching.weights`."""
    lines = [
        '"""Fitted by `benchmarks.semantic_fit` on public data; do not edit."""\n',
        "from __future__ import annotations\n",
        "from typing import NamedTuple\n",
        "from penstock.matching.model import Weights\n\n",
        "class Shipped(NamedTuple):",
        '    """What a policy starts from.\n',
        "    Attributes:",
        "        weights: Of the model.",
        "        counts: How often it was right (first) and wrong, by bin, on pairs it was not fitted on.",
        '    """\n',
        "    weights: Weights",
        "    counts: tuple[tuple[float, float], ...]\n",
    ]
    for name, each in (("LEXICAL", lexical), ("DENSE", dense)):
        lines.append(f"\n{name} = Shipped(\n    Weights(")
        lines += [f"        {field}={value!r}," for field, value in zip(Weights._fields, each.weights, strict=True)]
        lines.append("    ),\n    (")
        lines += [f"        {pair!r}," for pair in each.counts]
        lines.append("    ),\n)")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="where the sets are")
    parser.add_argument("--onnx", type=Path, help="a directory with a model; fits the weights for dense vectors too")
    parser.add_argument("--output", type=Path, help="the module to write; by default it is printed")
    arguments = parser.parse_args()
    lexical, dense = shipped(arguments.data, Memo(LexicalEmbedder(), "lexical")), DENSE
    if arguments.onnx:
        from penstock.embedders.onnx import OnnxEmbedder  # noqa: PLC0415 - needs the extra `semantic`

        dense = shipped(arguments.data, Memo(asyncio.run(OnnxEmbedder.open(str(arguments.onnx))), "onnx"))
    source = module(lexical, dense)
    if arguments.output:
        arguments.output.write_text(source, encoding="utf-8")
    else:
        print(source, end="")


if __name__ == "__main__":
    main()
