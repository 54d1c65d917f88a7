"""What conversations cost, and how much of what answers each question is in its prompt.

Three ways: the whole history every time; turns retrieved anew for every question; and Penstock's plan, which keeps a
prefix that providers know. How each is set (tokens retrieved; recent turns and excerpts of the plan) is chosen on
conversations of the meetings that weights were fitted on, and reported on the others.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from itertools import pairwise, repeat
from multiprocessing import get_context
from typing import Any, NamedTuple

from benchmarks.context.conversations import SYSTEM, Asked, Conversation, Message, conversations
from benchmarks.context.data import Meeting, tokens_of
from benchmarks.context.providers import Cache, Prices, published
from benchmarks.processes import say
from penstock.context.memory import Memory
from penstock.context.plan import Plan, draft
from penstock.context.selection import Index, Turn
from penstock.context.terms import Terms

RETRIEVED = (8192, 16_384, 32_768)
PLANNED = ((None, None), (16_384, 2048), (24_576, 4096), (32_768, 4096))
"""Tokens of the plan's recent turns, and of its excerpts; first as they are when nothing is set."""
LEAST = 0.95
"""Mean recall at which bills are compared."""
MARGIN = 0.01
"""By how much the recall of a setting must be above `LEAST` where it is chosen."""
ENVELOPE = 4
"""Tokens of a message beside its name and text."""


class Point(NamedTuple):
    """A way set in some way: mean USD of a conversation, and mean recall of its requests."""

    setting: str
    usd: float
    recall: float


class Curves(NamedTuple):
    """What came of a model: the whole history, and the other ways in each setting."""

    prices: Prices
    whole: Point
    retrieved: list[Point]
    planned: list[Point]
    chosen: Point


def bills(meetings: Sequence[Meeting], *, later: float, processes: int) -> tuple[dict[str, Any], list[Curves]]:
    """Return the figures of all models, and what to draw."""
    prices = published()
    practice = list(conversations([each for each in meetings if each.fitted], later=later))
    reported = list(conversations([each for each in meetings if not each.fitted], later=later))
    say(f"{len(practice)} conversations to choose on, {len(reported)} to report on")
    with ProcessPoolExecutor(processes, mp_context=get_context("fork")) as pool:
        found = list(pool.map(retrieved, repeat(reported), repeat(prices), RETRIEVED))
        curves = []
        for number, each in enumerate(prices):
            tried = list(pool.map(planned, repeat(practice), repeat(each), PLANNED))
            points = list(pool.map(planned, repeat(reported), repeat(each), PLANNED))
            enough = [place for place, point in enumerate(tried) if point.recall >= LEAST + MARGIN]
            chosen = min(enough, key=lambda place: tried[place].usd, default=len(PLANNED) - 1)
            curves.append(
                Curves(each, whole(reported, each), [at[number] for at in found], points, points[chosen])
            )  # fmt: skip
            say(f"{each.model}: {curves[-1]}")
    requests = sum(len(conversation.requests) for conversation in reported)
    return {**_figures(curves), "conversations": len(reported), "requests": requests}, curves


def _figures(curves: Sequence[Curves]) -> dict[str, Any]:
    """Ratios of bills: those of the model for which they are highest, and of each."""
    figures: dict[str, Any] = {}
    for each in curves:
        anew = at_recall(each.retrieved, each.chosen.recall)
        figures |= {
            f"bill_usd_{each.prices.model}": round(each.chosen.usd, 4),
            f"full_history_usd_{each.prices.model}": round(each.whole.usd, 4),
            f"retrieval_usd_{each.prices.model}": round(anew, 4),
            f"recall_at_bill_{each.prices.model}": round(each.chosen.recall, 4),
            f"setting_{each.prices.model}": each.chosen.setting,
            f"bill_vs_full_history_{each.prices.model}": round(each.chosen.usd / each.whole.usd, 4),
            f"bill_vs_retrieval_{each.prices.model}": round(each.chosen.usd / anew, 4),
        }
    worst = {
        name: max(value for key, value in figures.items() if key.startswith(f"{name}_"))
        for name in ("bill_vs_full_history", "bill_vs_retrieval")
    }
    return {**worst, "recall_at_bill": min(round(each.chosen.recall, 4) for each in curves), **figures}


def at_recall(points: Sequence[Point], recall: float) -> float:
    """Return what a recall costs, between two settings their mean by distance; at most what the last one costs."""
    for before, after in pairwise(points):
        if before.recall < recall <= after.recall:
            part = (recall - before.recall) / (after.recall - before.recall)
            return before.usd + part * (after.usd - before.usd)
    return points[-1].usd


def count(message: Mapping[str, Any]) -> int:
    """Return the tokens of a message."""
    return _count(message.get("name", ""), message["content"])


@lru_cache(maxsize=100_000)
def _count(name: str, text: str) -> int:
    return tokens_of(f"{name}: {text}" if name else text) + ENVELOPE


def whole(played: Iterable[Conversation], prices: Prices) -> Point:
    """The whole history, cached."""
    totals = []
    for conversation in played:
        cache, sizes = Cache(prices), _sizes(conversation.messages)
        totals.append(sum(cache.cost(sizes[: each.length], each.length, each.answer) for each in conversation.requests))
    return Point("whole", statistics.fmean(totals), 1.0)


def retrieved(played: Iterable[Conversation], prices: Sequence[Prices], budget: int) -> list[Point]:
    """Turns chosen anew for each question from all that was said; nothing of the prompt stays the same."""
    totals: list[list[float]] = [[] for _ in prices]
    recalls = []
    for conversation in played:
        index, done, turns = Index(), 0, list[int]()
        spent = [0.0] * len(prices)
        for asked in conversation.requests:
            fresh = range(done, asked.length - 1)
            index.extend(_turn(conversation.messages[at]) for at in fresh)
            turns += fresh
            done = asked.length - 1
            question = conversation.messages[asked.length - 1]
            kept = [turns[place] for place in index.select(question["content"], budget)]
            recalls.append(len(asked.gold & set(kept)) / len(asked.gold))
            prompt = sum(count(conversation.messages[at]) for at in kept) + count(question)
            prompt += count({"content": SYSTEM}) if 0 not in kept else 0
            for number, each in enumerate(prices):
                spent[number] += (prompt * each.fresh + asked.answer * each.output) / 1e6
        for found, usd in zip(totals, spent, strict=True):
            found.append(usd)
    recall = statistics.fmean(recalls)
    return [Point(f"{budget}", statistics.fmean(found), recall) for found in totals]


def planned(played: Iterable[Conversation], prices: Prices, setting: tuple[int | None, int | None]) -> Point:
    """What Penstock sends."""
    recent, excerpts = setting
    terms = Terms("aggressive", None, prices.terms, recent=recent, excerpts=excerpts)
    totals, recalls = [], []
    for conversation in played:
        cache, memory, spent = Cache(prices), Memory(), 0.0
        for asked in conversation.requests:
            messages = conversation.messages[: asked.length]
            cut = draft(messages, 0, terms, count, memory)
            if cut is None:
                spent += cache.cost(_sizes(messages), asked.length, asked.answer)
                recalls.append(1.0)
                continue
            plan = cut.finish()
            spent += cache.cost(_sizes(plan.messages), max(plan.breakpoints, default=-1) + 1, asked.answer)
            recalls.append(_recall(plan, messages, asked))
        totals.append(spent)
    name = f"{recent} + {excerpts}" if recent else "default"
    return Point(name, statistics.fmean(totals), statistics.fmean(recalls))


def _recall(plan: Plan, messages: Sequence[Message], asked: Asked) -> float:
    """The share of the messages that answer which are kept, or repeated word for word as a whole."""
    kept = plan.spans[-1].start
    quotes = {at for span in plan.spans for at in span.quoted}
    excerpts = " ".join(str(plan.messages[-1]["content"]).split())
    met = sum(
        at >= kept or (at in quotes and " ".join(messages[at]["content"].split()) in excerpts) for at in asked.gold
    )
    return met / len(asked.gold)


def _turn(message: Message) -> Turn:
    return Turn(message.get("name") or message["role"], message["content"], count(message))


def _sizes(messages: Sequence[Message]) -> list[tuple[int, int]]:
    return [(hash((message.get("name"), message["content"])), count(message)) for message in messages]
