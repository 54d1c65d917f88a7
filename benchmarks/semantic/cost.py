"""What a decision costs, without embedding: microseconds and memory, at 1,000 and at 100,000 questions.

Each size is measured in a process of its own, so that memory is that of the questions.
"""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

from benchmarks.processes import say
from benchmarks.semantic.data import Memo
from benchmarks.semantic_data import rows
from penstock.abc import Vector
from penstock.matching.evaluation import index_for
from penstock.matching.partition import Partition
from penstock.matching.policy import Policy

SIZES = (1_000, 100_000)
ASKED = 2_000


def cost(data: Path, embedder: Memo) -> dict[str, float]:
    """Return medians and 99th percentiles of proposing and deciding, and megabytes for 100,000 questions."""
    known, asked = _texts(data)
    vectors = embedder.embed(known)
    asked_vectors = embedder.embed(asked)
    figures: dict[str, float] = {}
    for size in SIZES:
        say(f"{embedder.label}: cost at {size:,} questions")
        here, there = get_context("fork").Pipe(duplex=False)
        process = get_context("fork").Process(
            target=_measure, args=(there, embedder.name, known[:size], vectors[:size], asked, asked_vectors)
        )
        process.start()
        there.close()
        megabytes, propose, decide, whole = here.recv()
        process.join()
        figures |= {
            f"propose_us_p50_{size}": _at(propose, 0.5),
            f"decide_us_p50_{size}": _at(decide, 0.5),
            f"decision_us_p50_{size}": _at(whole, 0.5),
            f"decision_us_p99_{size}": _at(whole, 0.99),
            f"mb_{size}": round(megabytes, 1),
        }
    figures["decision_us_p50"] = figures[f"decision_us_p50_{SIZES[0]}"]
    figures["mb_per_100k"] = figures[f"mb_{SIZES[1]}"]
    return figures


def _measure(
    answer: Connection, name: str, known: list[str], vectors: list[Vector], asked: list[str], those: list[Vector]
) -> None:
    gc.collect()
    before = _megabytes()
    partition, policy = Partition(index_for(vectors[0])), Policy.shipped(name)
    for number, (text, vector) in enumerate(zip(known, vectors, strict=True)):
        # Copies, so that what the benchmark itself holds does not hide what is kept.
        own = bytes(bytearray(vector)) if isinstance(vector, bytes) else dict(vector)
        partition.add(f"{text} "[:-1], own, number)
    del own
    gc.collect()
    after = _megabytes()
    gc.freeze()
    times: tuple[list[float], list[float], list[float]] = ([], [], [])
    for text, vector in zip(asked, those, strict=True):
        start = time.perf_counter()
        proposal = partition.propose(text, vector)
        middle = time.perf_counter()
        if proposal is None:
            continue
        policy.decide(proposal)
        end = time.perf_counter()
        for taken, value in zip(times, (middle - start, end - middle, end - start), strict=True):
            taken.append(value * 1e6)
    answer.send((after - before, *times))
    answer.close()


def _texts(data: Path) -> tuple[list[str], list[str]]:
    """Return 100,000 questions and those asked: qqp's, and once they are used up, variations of them."""
    pairs = rows(data / "paraphrase/qqp/pairs.jsonl.gz")
    every = sorted({text for pair in pairs for text in (pair["a"], pair["b"])})
    chance = Random(0)
    chance.shuffle(every)
    asked, known = every[:ASKED], every[ASKED:]
    while len(known) < max(SIZES):
        one, other = chance.choice(every).split(), chance.choice(every).split()
        known.append(" ".join(one[: len(one) // 2] + other[len(other) // 2 :]))
    return known[: max(SIZES)], asked


def _megabytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def _at(values: Sequence[float], quantile: float) -> float:
    return round(sorted(values)[int(quantile * len(values))], 1)
