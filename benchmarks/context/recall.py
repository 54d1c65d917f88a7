"""How much of what answers a question is selected, beside simpler ways to select, and how long it takes."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from math import log
from typing import Any

from benchmarks.context.data import Meeting, Query
from benchmarks.processes import say
from penstock.context.selection import Index, Turn
from penstock.context.words import words

BUDGETS = (2048, 4096, 8192)
LONG = (20_000, 30_000)
"""Tokens of the meetings on which time is taken."""
TIMES = 5
_K1, _B = 1.2, 0.75
_NEIGHBOURS = 5

Selector = Callable[[str, int], Sequence[int]]


def recall(meetings: Iterable[Meeting]) -> dict[str, Any]:
    """Return the mean share of the turns that answer a question which is selected, and their tokens' share."""
    found: dict[str, list[float]] = {}
    for meeting in meetings:
        for name, select in _selectors(meeting.turns).items():
            for query in meeting.queries:
                for budget in BUDGETS:
                    turns, tokens = _shares(meeting, query, select(query.text, budget))
                    found.setdefault(f"{name}_recall_{budget}", []).append(turns)
                    found.setdefault(f"{name}_token_recall_{budget}", []).append(tokens)
    means = {key: round(statistics.fmean(shares), 4) for key, shares in found.items()}
    for key in means:
        say(f"{key} {means[key]}")
    return {**means, "questions": len(found[f"qmsum_recall_{BUDGETS[0]}"])}


def _selectors(turns: Sequence[Turn]) -> dict[str, Selector]:
    index, plain = Index(turns), Bm25(turns)
    return {
        "qmsum": index.select,
        "last_k": lambda _, budget: packed(turns, range(len(turns) - 1, -1, -1), budget, whole=True),
        "bm25": lambda question, budget: packed(turns, ranked(plain.scores(question)), budget),
        "bm25_smoothed": lambda question, budget: packed(turns, ranked(smoothed(plain.scores(question))), budget),
    }


def _shares(meeting: Meeting, query: Query, selected: Sequence[int]) -> tuple[float, float]:
    met = query.gold & set(selected)
    tokens = [sum(meeting.turns[place].tokens for place in places) for places in (met, query.gold)]
    return len(met) / len(query.gold), tokens[0] / tokens[1]


def ranked(scores: Sequence[float]) -> list[int]:
    return sorted(range(len(scores)), key=lambda place: -scores[place])


def packed(turns: Sequence[Turn], order: Iterable[int], budget: int, *, whole: bool = False) -> list[int]:
    """Take turns in `order` as they fit; with `whole`, stop at the first that does not."""
    taken = []
    for place in order:
        if turns[place].tokens <= budget:
            taken.append(place)
            budget -= turns[place].tokens
        elif whole:
            break
    return taken


def smoothed(scores: Sequence[float]) -> list[float]:
    """Give each turn the sum of its own score and those of five turns on either side."""
    sums, last = [0.0, *accumulate(scores)], len(scores)
    reach = _NEIGHBOURS
    return [sums[min(at + reach + 1, last)] - sums[max(at - reach, 0)] for at in range(last)]


class Bm25:
    """The textbook's BM25 over turns."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._said = [Counter(words(f"{turn.speaker} {turn.text}")) for turn in turns]
        self._in = Counter(word for said in self._said for word in said)
        self._lengths = [said.total() for said in self._said]
        self._mean = statistics.fmean(self._lengths) or 1.0

    def scores(self, question: str) -> list[float]:
        """Return a score for each turn."""
        count, found = len(self._said), [0.0] * len(self._said)
        for word in set(words(question)):
            idf = log(1.0 + (count - self._in[word] + 0.5) / (self._in[word] + 0.5))
            for place, said in enumerate(self._said):
                if times := said.get(word):
                    norm = _K1 * (1.0 - _B + _B * self._lengths[place] / self._mean)
                    found[place] += idf * times * (_K1 + 1.0) / (times + norm)
        return found


def timing(meetings: Iterable[Meeting]) -> dict[str, Any]:
    """Return milliseconds to select for a question in a long meeting, and to build its index."""
    asked, built, both, sizes = list[float](), list[float](), list[float](), list[int]()
    for meeting in meetings:
        if not LONG[0] <= meeting.tokens <= LONG[1]:
            continue
        sizes.append(meeting.tokens)
        for _ in range(TIMES):
            started = time.perf_counter()
            index = Index(meeting.turns)
            took = 1000 * (time.perf_counter() - started)
            built.append(took)
            for query in meeting.queries:
                started = time.perf_counter()
                index.select(query.text, BUDGETS[1])
                asked.append(1000 * (time.perf_counter() - started))
                both.append(took + asked[-1])
    return {
        "select_ms_p50": round(statistics.median(asked), 2),
        "select_ms_p95": round(statistics.quantiles(asked, n=20)[-1], 2),
        "index_ms_p50": round(statistics.median(built), 2),
        "index_and_select_ms_p50": round(statistics.median(both), 2),
        "timed_meetings": len(sizes),
        "timed_tokens": round(statistics.fmean(sizes)),
    }
