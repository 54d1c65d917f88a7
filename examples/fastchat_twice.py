"""Ask a gateway the same questions twice through the official SDK, half of them as streams, and compare.

On the second pass, streams and whole answers change places. It succeeds (exit code 0) if the first pass was answered
completely and the second came from the cache to the last question, with the same texts, and cost nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from openai import AsyncOpenAI, OpenAIError
from rich.console import Console
from rich.table import Table

QUESTIONS = (
    "Why is the sky blue?",
    "How does a lock lift a boat? Explain it to a child.",
    "Write a limerick about a cat who reads newspapers.",
    "Which is heavier, a litre of milk or a litre of cream, and why?",
    "Name three uses of a paper clip that have nothing to do with paper.",
    "Translate into French: The train was late again.",
    "What is the next number: 1, 1, 2, 3, 5, 8?",
    "Write a Python function that tells whether a year is a leap year.",
    "Two trains leave at noon, 300 km apart, at 80 and 70 km/h. When do they meet?",
    "Draft a polite letter that declines an invitation to a wedding.",
    "Summarise what photosynthesis does in two sentences.",
    "What would a medieval monk find strange about a supermarket?",
)


@dataclass
class Outcome:
    """What one question brought."""

    text: str = ""
    complete: bool = False
    hit: bool = False
    cost_usd: Decimal | None = None
    seconds: float = 0.0
    error: str = ""


@dataclass
class Pass:
    """What one pass over all questions brought; cost is None when the gateway did not know it for every answer."""

    answered: int
    hits: int
    cost_usd: Decimal | None
    median_ms: float
    errors: list[str]


def read_questions(path: Path) -> list[str]:
    """Read the first turn of each line of a JSONL file, gzipped or not."""
    data = path.read_bytes()
    lines = (gzip.decompress(data) if path.suffix == ".gz" else data).decode().splitlines()
    return [json.loads(line)["turns"][0] for line in lines if line.strip()]


async def ask(client: AsyncOpenAI, model: str, question: str, *, stream: bool) -> Outcome:
    """Ask one question; an error is an outcome too."""
    started = time.monotonic()
    outcome = Outcome()
    create = client.chat.completions.with_raw_response.create
    try:
        if stream:
            raw = await create(model=model, messages=[{"role": "user", "content": question}], stream=True)
            headers = raw.headers
            async for chunk in raw.parse():
                for choice in chunk.choices:
                    outcome.text += choice.delta.content or ""
                    outcome.complete = outcome.complete or choice.finish_reason is not None
        else:
            whole = await create(model=model, messages=[{"role": "user", "content": question}])
            headers = whole.headers
            answer = whole.parse().choices[0]
            outcome.text = answer.message.content or ""
            outcome.complete = answer.finish_reason is not None
    except OpenAIError as error:
        outcome.error = f"{type(error).__name__} from {client.base_url}: {error}"
        return outcome
    cost = headers.get("x-penstock-cost-usd", "unknown")
    outcome.cost_usd = None if cost == "unknown" else Decimal(cost)
    outcome.hit = "; hit" in headers.get("cache-status", "")
    outcome.seconds = time.monotonic() - started
    return outcome


async def ask_all(
    client: AsyncOpenAI, model: str, questions: Sequence[str], *, concurrency: int, odd_streams: bool
) -> list[Outcome]:
    """Ask all questions, every second one as a stream, at most `concurrency` at a time."""
    free = asyncio.Semaphore(concurrency)

    async def one(number: int, question: str) -> Outcome:
        async with free:
            return await ask(client, model, question, stream=(number % 2 == 1) is odd_streams)

    return await asyncio.gather(*(one(number, question) for number, question in enumerate(questions)))


def summarise(outcomes: Sequence[Outcome]) -> Pass:
    """Count what came of a pass."""
    complete = [outcome for outcome in outcomes if outcome.complete and outcome.text]
    costs = [outcome.cost_usd for outcome in complete]
    known = [cost for cost in costs if cost is not None]
    return Pass(
        answered=len(complete),
        hits=sum(outcome.hit for outcome in complete),
        cost_usd=sum(known, Decimal(0)) if len(known) == len(outcomes) else None,
        median_ms=1000 * statistics.median([outcome.seconds for outcome in complete] or [0.0]),
        errors=sorted({outcome.error for outcome in outcomes if outcome.error}),
    )


async def run(options: argparse.Namespace, questions: Sequence[str]) -> tuple[list[Pass], int]:
    """Ask twice; returns both passes and how many texts were identical."""
    passes: list[list[Outcome]] = []
    async with AsyncOpenAI(
        base_url=options.base_url, api_key=os.environ.get("OPENAI_API_KEY") or "any", max_retries=0
    ) as client:
        for odd_streams in (True, False):
            passes.append(
                await ask_all(
                    client, options.model, questions, concurrency=options.concurrency, odd_streams=odd_streams
                )
            )
    identical = sum(before.complete and before.text == after.text for before, after in zip(*passes, strict=True))
    return [summarise(outcomes) for outcomes in passes], identical


def print_table(passes: Sequence[Pass], identical: int, asked: int) -> None:
    """Print both passes side by side."""
    table = Table(title=f"{asked} questions, asked twice")
    for heading in ("pass", "answered", "hits", "identical texts", "cost in USD", "median latency"):
        table.add_column(heading, justify="right")
    for number, each in enumerate(passes, 1):
        table.add_row(
            str(number),
            f"{each.answered}/{asked}",
            f"{100 * each.hits / asked:.0f} %",
            f"{identical}/{asked}" if number == len(passes) else "",
            "see `penstock usage`" if each.cost_usd is None else f"{each.cost_usd:f}",
            f"{each.median_ms:.1f} ms",
        )
    Console(width=None if sys.stdout.isatty() else 100).print(table)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help='JSONL, may be gzipped: one {"turns": [question, …]} a line')
    parser.add_argument(
        "--base-url",
        default=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:4141/v1"),
        help="the gateway's (default: OPENAI_BASE_URL, else %(default)s)",
    )
    parser.add_argument("--model", default="gpt-4o-mini", help="model to ask for (default: %(default)s)")
    parser.add_argument("--concurrency", type=int, default=16, help="questions at a time (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    options = parser.parse_args()
    if options.concurrency < 1:
        parser.error("--concurrency must be at least 1")
    return options


def main() -> int:
    """Run the example; returns the exit code."""
    options = parse_arguments()
    try:
        questions = read_questions(options.data) if options.data else list(QUESTIONS)
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        print(f"cannot read questions from {options.data}: {error!r}", file=sys.stderr)
        return 2
    if not questions:
        print(f"there are no questions in {options.data}", file=sys.stderr)
        return 2
    passes, identical = asyncio.run(run(options, questions))
    first, second = passes
    asked = len(questions)
    passed = first.answered == second.hits == identical == asked and second.cost_usd == 0
    if options.json:
        rows = [{**vars(each), "cost_usd": None if each.cost_usd is None else str(each.cost_usd)} for each in passes]
        print(json.dumps({"asked": asked, "identical": identical, "passed": passed, "passes": rows}))
    else:
        print_table(passes, identical, asked)
        print("passed" if passed else "FAILED", file=sys.stdout if passed else sys.stderr)
    for complaint in sorted({*first.errors, *second.errors})[:5]:
        print(complaint, file=sys.stderr)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
