"""Matching by meaning on public sets: hits and errors, the promise on streams, traps, and cost.

    python -m benchmarks.semantic --data DIR [--onnx DIR] [--part mock ...] [--orders 10] [--requests 16000]
        [--processes 1] [--chains] [--plot FILE] [--json]

Beside it, in the same run, GPTCache (the package, in `.peers`) and vCache's rule, written from its paper. Figures end
in the embedder's name. Progress goes to stderr; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.outcome import finish
from benchmarks.processes import say
from benchmarks.semantic.banking import banking
from benchmarks.semantic.cost import cost
from benchmarks.semantic.data import Memo, read_questions
from benchmarks.semantic.mock import mock
from benchmarks.semantic.plot import plot
from benchmarks.semantic.served import served
from benchmarks.semantic.streams import streams
from benchmarks.semantic.traps import traps
from benchmarks.semantic_data import qqp_pairs, stream
from penstock.embedders.lexical import LexicalEmbedder
from penstock.embedders.onnx import OnnxEmbedder

PARTS: dict[str, Callable[[Path, Memo], dict[str, Any]]] = {
    "mock": mock,
    "traps": traps,
    "banking77": banking,
    "cost": cost,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="where the sets are")
    parser.add_argument("--onnx", type=Path, help="a directory with a model; measures it too")
    parser.add_argument("--part", action="append", choices=[*PARTS, "qqp", "served"], help="only these; by default all")
    parser.add_argument("--only", choices=["lexical", "onnx"], help="only this embedder")
    parser.add_argument("--orders", type=int, default=10)
    parser.add_argument("--requests", type=int, default=16_000, help="of each order")
    parser.add_argument("--processes", type=int, default=1, help="orders played at once")
    parser.add_argument("--chains", action="store_true", help="read labels of streams by chains only, in half the time")
    parser.add_argument("--plot", type=Path, help="write a chart, as SVG, of the last embedder")
    parser.add_argument("--json", action="store_true", help="as all benchmarks; the last line is JSON anyway")
    arguments = parser.parse_args()
    started, figures = time.monotonic(), dict[str, Any]()
    for embedder in _embedders(arguments):
        for name, part in PARTS.items():
            if arguments.part is None or name in arguments.part:
                say(f"{embedder.label}: {name}")
                figures |= {f"{key}_{embedder.label}": value for key, value in part(arguments.data, embedder).items()}
        if arguments.part is None or "qqp" in arguments.part:
            found = streams(
                read_questions(arguments.data), embedder,
                orders=arguments.orders, requests=arguments.requests, processes=arguments.processes,
                readings=not arguments.chains,
            )  # fmt: skip
            figures |= {f"{key}_{embedder.label}": value for key, value in found.keys.items()}
            if arguments.plot:
                plot(found, arguments.plot, embedder.label)
        if arguments.part is None or "served" in arguments.part:
            asked = [text for text, _ in stream(qqp_pairs(arguments.data, half=1), seed=0, requests=4000)]
            figures |= served(asked, embedder.label, arguments.onnx if embedder.label == "onnx" else None)
    finish(figures, started=started, n=arguments.orders)


def _embedders(arguments: argparse.Namespace) -> list[Memo]:
    found = []
    if arguments.only != "onnx":
        found.append(Memo(LexicalEmbedder(), "lexical"))
    if arguments.onnx and arguments.only != "lexical":
        found.append(Memo(asyncio.run(OnnxEmbedder.open(str(arguments.onnx))), "onnx"))
    return found


if __name__ == "__main__":
    main()
