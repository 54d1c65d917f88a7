"""What embedding costs: microseconds a text, memory, and how much else the event loop gets done meanwhile.

    python -m benchmarks.embedding [--model DIR] [--texts FILE] [--repeat 200]

One JSON object on the last line. `--texts` has one text a line. Without it, and for the figures by length, texts are
made of common words. `--model` is what `python -m benchmarks.minilm` built.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.minilm import FOLDER
from penstock.embedders.lexical import LexicalEmbedder
from penstock.embedders.onnx import OnnxEmbedder

SENTENCE = "how do i change the name of my account when it was made by another person in the same team who has left"
LENGTHS = (5, 10, 20)


def memory_mb() -> float:
    """Resident now, where the system says; its peak elsewhere."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


async def micros(embed: Callable[[str], Awaitable[object]], texts: list[str]) -> float:
    taken = []
    for text in texts:
        start = time.perf_counter()
        await embed(text)
        taken.append(time.perf_counter() - start)
    return round(median(taken) * 1e6, 1)


async def loop_delay_ms(embedder: OnnxEmbedder, texts: list[str]) -> float:
    """How late, at the 99th percentile, a timer of one millisecond rings while texts are embedded all the time."""
    busy = asyncio.gather(*(embedder.embed([text]) for text in texts[:200]))
    late = []
    while not busy.done():
        start = time.perf_counter()
        await asyncio.sleep(0.001)
        late.append(time.perf_counter() - start - 0.001)
    await busy
    return round(sorted(late)[int(len(late) * 0.99)] * 1e3, 2)


async def measure(model: Path | None, texts: list[str], repeat: int) -> dict[str, Any]:
    lexical = LexicalEmbedder()
    by_length = {length: [" ".join(SENTENCE.split()[:length])] * repeat for length in LENGTHS}
    texts = texts or [text for some in by_length.values() for text in some]
    figures: dict[str, Any] = {"texts": len(texts)}
    await micros(lambda text: lexical.embed([text]), texts)
    figures["lexical_us_p50"] = await micros(lambda text: lexical.embed([text]), texts)
    if model is None:
        return figures
    before, start = memory_mb(), time.perf_counter()
    embedder = await OnnxEmbedder.open(str(model))
    figures["onnx_open_s"] = round(time.perf_counter() - start, 2)
    for length, some in by_length.items():
        figures[f"onnx_us_p50_{length}_words"] = await micros(lambda text: embedder.embed([text]), some)
    figures["onnx_us_p50"] = await micros(lambda text: embedder.embed([text]), texts)
    figures["onnx_loop_delay_ms_p99"] = await loop_delay_ms(embedder, texts)
    figures["onnx_memory_mb"] = round(memory_mb() - before, 1)
    await embedder.aclose()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="accepted for uniformity: the last line always is JSON")
    parser.add_argument("--model", type=Path, default=FOLDER / "model")
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--repeat", type=int, default=200)
    arguments = parser.parse_args()
    model = arguments.model if arguments.model.is_dir() else None
    texts = arguments.texts.read_text(encoding="utf-8").splitlines() if arguments.texts else []
    print(json.dumps(asyncio.run(measure(model, texts, arguments.repeat))))


if __name__ == "__main__":
    main()
