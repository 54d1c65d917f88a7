"""How far off are token estimates, before and after calibration?

`python -m benchmarks.estimates --data PATH --vocabulary FILE`

The truth is what a byte-pair tokenizer counts with a real vocabulary (cl100k, `FILE` in tiktoken's format, as LiteLLM's
package has it), plus a chat template of 8 tokens, plus, in a second run, 300 tokens of hidden instructions. Texts come
one after the other, in an order of chance; each is estimated before it is learned from. Figures are mean relative
errors of the texts after the first ten.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tiktoken
from tiktoken.load import load_tiktoken_bpe

from benchmarks.outcome import finish
from benchmarks.processes import say
from penstock.core.usage import Usage
from penstock.pricing.calibration import Calibration
from penstock.pricing.estimate import estimate_request_tokens

TEMPLATE, HIDDEN = 8, 300
MOST = 800
"""Texts taken of each set."""
_WARM = 10
_SHORT = 8
"""Answers of fewer tokens have no error worth a figure."""
_PATTERN = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|"""
    r"""\s+(?!\S)|\s"""
)
_KEY = ("near", "model")

Texts = list[tuple[str, str]]
"""Prompts with answers, which may be empty."""


def main() -> None:
    """Measure each set, and all of them mixed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--vocabulary", type=Path, required=True)
    parser.add_argument("--json", action="store_true", help="no difference: the last line is always JSON")
    given = parser.parse_args()
    started = time.monotonic()
    ranks = load_tiktoken_bpe(str(given.vocabulary))
    encoding = tiktoken.Encoding("cl100k", pat_str=_PATTERN, mergeable_ranks=ranks, special_tokens={})
    sets = _read(given.data)
    share = min(len(texts) for texts in sets.values())
    sets["mixed"] = [text for texts in sets.values() for text in texts[:share]]
    figures: dict[str, float] = {}
    for name, texts in sets.items():
        for hidden in (0, HIDDEN):
            errors = _measure(texts, hidden, lambda text: len(encoding.encode(text, disallowed_special=())))
            say(f"{name}, {hidden} hidden tokens: " + ", ".join(f"{key} {value:.3f}" for key, value in errors.items()))
            if name == "mixed":
                suffix = "_hidden" if hidden else ""
                figures |= {f"{key}{suffix}": round(value, 4) for key, value in errors.items()}
    finish(figures, started=started, n=sum(min(len(texts), MOST) for texts in sets.values()))


def _measure(texts: Texts, hidden: int, count: Callable[[str], int]) -> dict[str, float]:
    order = random.Random(1).sample(texts, len(texts))[:MOST]
    learned = Calibration()
    errors: dict[str, list[float]] = {"input": [], "input_calibrated": [], "output": [], "output_calibrated": []}
    for number, (prompt, reply) in enumerate(order):
        given = estimate_request_tokens({"messages": [{"role": "user", "content": prompt}]})
        true = Usage(count(prompt) + TEMPLATE + hidden, count(reply))
        found = {
            "": learned.estimate(None, given, len(reply)),
            "_calibrated": learned.estimate(_KEY, given, len(reply)),
        }
        for suffix, usage in found.items() if number >= _WARM else ():
            errors["input" + suffix].append(abs(usage.input_tokens / true.input_tokens - 1))
            if true.output_tokens >= _SHORT:
                errors["output" + suffix].append(abs(usage.output_tokens / true.output_tokens - 1))
        if not learned.skip(_KEY):
            learned.learn(_KEY, given, true, len(reply))
    return {name: statistics.mean(values) for name, values in errors.items() if values}


def _read(data: Path) -> dict[str, Texts]:
    meetings = [
        ("\n".join(": ".join(turn) for turn in row["turns"]) + "\n" + asked["query"], asked["answer"])
        for row in _rows(data / "meetings/qmsum")
        for asked in row["specific_queries"][:1]
    ]
    return {
        "banking77": [(row["text"], "") for row in _rows(data / "intents/banking77")],
        "qmsum": meetings,
        "gsm8k": [(row["prompt"], row["gpt4_response"]) for row in _rows(data / "routing/routellm-gsm8k")],
    }


def _rows(folder: Path) -> Sequence[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*.gz")):
        with gzip.open(path, "rt") as file:
            rows += csv.DictReader(file) if ".csv" in path.name else [json.loads(line) for line in file]
    return rows


if __name__ == "__main__":
    main()
