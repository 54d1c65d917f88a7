"""Does replaying the ledger say what another setting would have saved? `python -m benchmarks.replay --data PATH`.

Real traces are run through the whole pipeline in virtual time and recorded by the real ledger. `penstock usage suggest`
reads it and predicts the saving of its suggestion. Then the same trace is run with the suggested setting, and what that
saved is compared. Providers' times are drawn anew for each run. How long an answer is depends on the single request, so
that it is the same whenever that request is sent to a provider: the comparison is of settings, not of luck.

- `excite`: 2,364 queries of a search engine's log in their order and time, one tenant a user, answers kept for half an
  hour. The suggestion is about the cache.
- `azure`: 18,861 requests of two services with their tokens and times, each to a model of two targets, the dearer one
  first. The suggestion is about routing.
- `qqp`: 1,000 questions in the wordings people found for them, some asked more often than others, at the times and
  with the tokens of every second request of `azure`, stretched to half a day. What answering by meaning saves is
  predicted from a run in which matching only looks on; it may be wrong in one answer of 20.

`predicted_vs_actual_saving` is the worse of the first two, predicted dollars by actual ones, and
`semantic_predicted_vs_actual` that of the third. `next_half` is harder: predicted on the first half, compared, a call,
with the second half, which the prediction has not seen. So is `semantic_next_third`: the first third is for matching to
learn from, the second to predict from, the last to compare with; matching goes on learning, so more is saved than that.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import gzip
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from benchmarks.outcome import finish
from benchmarks.processes import say
from penstock.abc import ModelInfo
from penstock.client import AsyncClient
from penstock.config.settings import Settings
from penstock.core.call import Call
from penstock.core.clock import SystemClock
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import SemanticMode, Target
from penstock.core.usage import Usage
from penstock.insight.suggesting import Suggestions, suggest
from penstock.insight.suggestion import Suggestion
from penstock.shared import make_pricer
from penstock.stores.opening import open_store
from penstock.stores.sql.facts import read_facts
from penstock.testing import answer
from penstock.testing.simulation import SimulatedClock, SimulatedLoop
from penstock.testing.simulation.books import Book, Row

_PART = 3000
"""Calls a simulated loop runs; it takes every step of them as a step, and refuses to take too many."""
_START = 1_700_000_000.0
_YEARS = 100 * 365.0
_QUESTIONS, _SKEW, _STRETCH = 1000, 0.8, 12.0
LARGE, SMALL = "gpt-4o", "gpt-4o-mini"


class Ask(NamedTuple):
    """One request of a trace: seconds from its beginning, who asks for what, and its tokens."""

    at: float
    tenant: str
    model: str
    text: str
    given: int
    made: int
    said: str = "Here."


class Saved(NamedTuple):
    """How a prediction compares with what was saved, on the calls it was made from, and on calls it has not seen."""

    same: dict[str, Any]
    unseen: float


class Seller:
    """A provider whose times come from a seed, and whose answers vary with the request, even if it is the same one."""

    def __init__(self, name: str, random: Random, asks: Sequence[Ask]) -> None:
        self.name = name
        self._random = random
        self._known = {ask.text: ask for ask in asks}

    async def send(self, request: Request, target: Target) -> Response:
        """Answer after a while."""
        ask = self._known[request.payload["messages"][-1]["content"]]
        made = max(1, round(ask.made * Random(request.call.id).lognormvariate(0.0, 0.3)))
        usage = Usage(ask.given, made)
        await asyncio.sleep((0.3 + made * 0.015) * self._random.lognormvariate(0.0, 0.4))
        return Response(body=answer(ask.said, usage=usage), usage=usage, finish_reason="stop")

    async def models(self) -> list[ModelInfo]:
        """None to speak of."""
        return []

    async def aclose(self) -> None:
        """Nothing is open."""


def run(
    asks: Sequence[Ask], config: dict[str, Any], seed: int, *, size: int = _PART, on_from: int | None = None
) -> list[Row]:
    """Send `asks` through the pipeline in virtual time, by meaning `on_from` a number on; returns what was recorded.

    After `size` of them everything begins anew, but for the time.
    """
    rows: list[Row] = []
    for first in range(0, len(asks), size):
        part = asks[first : first + size]
        loop = SimulatedLoop(seed, start=part[0].at, keep_trace=False)
        try:
            rows += loop.run_until_complete(_run(loop, part, config, Random(f"{seed} {first}"), on_from))
        finally:
            loop.close()
    return rows


async def _run(
    loop: SimulatedLoop, asks: Sequence[Ask], config: dict[str, Any], random: Random, on_from: int | None
) -> list[Row]:
    clock, book = SimulatedClock(loop, wall=_START), Book()
    sellers = {each["name"]: Seller(each["name"], random, asks) for each in config["providers"]}
    async with AsyncClient({**config, "store": {"url": "memory:"}}, clock=clock, providers=sellers) as client:
        client.shared.stores.ledger = book
        client.shared.random = random
        await client.reload(client.loaded)  # the new pipeline writes into the book
        tasks = set()
        for number, ask in enumerate(asks):
            await clock.sleep(ask.at - loop.time())
            by_meaning = on_from is not None and number >= on_from
            tasks.add(loop.create_task(_ask(client, clock, ask, number, "on" if by_meaning else None)))
        await asyncio.gather(*tasks)
    return book.rows


async def _ask(client: AsyncClient, clock: SimulatedClock, ask: Ask, number: int, mode: SemanticMode | None) -> None:
    call = Call(f"req_{number}", started=clock.monotonic(), started_at=clock.wall())
    payload = {"messages": [{"role": "user", "content": ask.text}]}
    response = await client.handle(Request("chat", ask.model, payload, call, tenant=ask.tenant, semantic=mode))
    await response.read()
    await response.aclose()


def learn(rows: Sequence[Row], settings: Settings) -> Suggestions:
    """Put `rows` on a ledger, and ask for suggestions as `penstock usage suggest` does."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/penstock.db"
        asyncio.run(_write(rows, url))
        facts = read_facts(url, days=_YEARS, most=len(rows))
    return suggest(facts, settings, make_pricer(settings).cost)


async def _write(rows: Sequence[Row], url: str) -> None:
    stores = open_store(url, SystemClock())
    await stores.start()
    for row in rows:
        for attempt in row.attempts:
            attempt.ledger_id = 0  # each simulated loop numbered its calls from one
        stores.ledger.record(row.request, row.call, duration_s=_duration(row), outcome=row.outcome)
    await stores.flush()
    await stores.aclose()


def _duration(row: Row) -> float:
    ends = [attempt.started + attempt.duration_s for attempt in row.attempts]
    return max(ends) - row.call.started if ends else 0.0005


def cost(rows: Sequence[Row]) -> Decimal:
    """What all calls cost, in USD."""
    return sum((attempt.cost_usd or Decimal(0) for row in rows for attempt in row.attempts), Decimal(0))


def excite(folder: Path) -> list[Ask]:
    """Read the query log; an answer to a query is as long as its text decides."""
    asks = []
    with gzip.open(folder / "prompts" / "excite-queries" / "excite_small.csv.gz", "rt", errors="replace") as file:
        for row in csv.DictReader(file):
            when = datetime.strptime(row["ts_yymmddhhmmss"], "%y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()
            made = int(Random(row["query"]).lognormvariate(5.0, 0.7)) + 1
            asks.append(Ask(when, row["user"], "assistant", row["query"], 60 + len(row["query"]) // 4, made))
    start = asks[0].at
    return sorted(ask._replace(at=ask.at - start) for ask in asks)


def azure(folder: Path) -> list[Ask]:
    """Read the tokens and times of both services; no two requests are alike."""
    asks = []
    for name in ("code", "conv"):
        with gzip.open(folder / "traces" / "azure-llm-2023" / f"azure_{name}.csv.gz", "rt") as file:
            for number, row in enumerate(csv.DictReader(file)):
                tokens = int(row["context_tokens"]), int(row["generated_tokens"])
                asks.append(Ask(float(row["t_s"]), "default", name, f"{name} {number}", *tokens))
    return sorted(asks)


def paraphrases(folder: Path) -> list[Ask]:
    """Make a day of questions that come again in other words; to the same ones the same number is answered."""
    groups: dict[str, str] = {}

    def root(text: str) -> str:
        while (parent := groups.setdefault(text, text)) != text:
            groups[text] = text = groups[parent]
        return text

    with gzip.open(folder / "paraphrase" / "qqp" / "pairs.jsonl.gz", "rt", encoding="utf-8") as file:
        for pair in map(json.loads, file):
            if pair["label"] == 1:
                groups[root(pair["a"])] = root(pair["b"])
    wordings: dict[str, list[str]] = defaultdict(list)
    for text in sorted(groups):
        wordings[root(text)].append(text)
    random = Random(0)
    questions = random.sample([each for each in wordings.values() if len(each) > 1], _QUESTIONS)
    popularity = [1 / (rank + 1) ** _SKEW for rank in range(_QUESTIONS)]
    tokens: dict[str, tuple[int, int]] = {}
    asks = []
    for like in azure(folder)[::2]:
        (number,) = random.choices(range(_QUESTIONS), popularity)
        text = random.choice(questions[number])
        size = tokens.setdefault(text, (like.given, like.made))
        asks.append(Ask(like.at * _STRETCH, "default", "assistant", text, *size, said=str(number)))
    return asks


def _providers(*names: str) -> list[dict[str, Any]]:
    return [{"name": name, "kind": "openai", "api_key": "none"} for name in names]


def _config(models: list[dict[str, Any]], providers: list[dict[str, Any]]) -> dict[str, Any]:
    return {"providers": providers, "models": models}


def _compare(name: str, found: Suggestion, before: Decimal, after: Decimal) -> dict[str, Any]:
    if found.usd is None:
        raise AssertionError(f"{name}: a suggestion by replay says what it saves")
    actual = before - after
    ratio = float(found.usd.value / actual)
    inside = found.usd.low <= actual <= found.usd.high
    say(f"{name}: {found.text}: predicted ${found.usd.value:.4f} ({found.usd.low:.4f} to {found.usd.high:.4f}), "
        f"actual ${actual:.4f}, ratio {ratio:.4f}")  # fmt: skip
    return {"ratio": round(ratio, 4), "inside_interval": inside, "of_cost": round(float(actual / before), 3)}


def measure_cache(asks: Sequence[Ask]) -> Saved:
    """Compare the prediction about the cache on the same calls, and on the half it has not seen."""
    targets = [{"provider": "seller", "model": LARGE}]

    def ttl(seconds: float) -> dict[str, Any]:
        plain = _config([{"name": "assistant", "targets": targets}], _providers("seller"))
        return {**plain, "cache": {"exact": {"ttl_s": seconds}}}

    config = ttl(1800.0)

    before = run(asks, config, 1)
    found = _of_kind(learn(before, Settings.model_validate(config)), "ttl")
    after = run(asks, ttl(float(str(found.settings["cache.exact.ttl_s"]))), 2)
    same = _compare("excite, the cache", found, cost(before), cost(after))
    half = len(asks) // 2
    first, second = asks[:half], asks[half:]
    early = _of_kind(learn(run(first, config, 3), Settings.model_validate(config)), "ttl")
    wanted = ttl(float(str(early.settings["cache.exact.ttl_s"])))
    late = _compare(
        "excite, half the log, then the other half", early,
        cost(run(second, config, 4)), cost(run(second, wanted, 5)),
    )  # fmt: skip
    return Saved(same, late["ratio"])


def measure_routing(asks: Sequence[Ask]) -> dict[str, Any]:
    """Compare the prediction about routing: both models' cheaper targets first."""
    targets = [{"provider": "large", "model": LARGE, "order": 0}, {"provider": "small", "model": SMALL, "order": 1}]
    names = ("code", "conv")
    config = _config([{"name": name, "targets": targets} for name in names], _providers("large", "small"))
    before = run(asks, config, 6)
    found = [each for each in learn(before, Settings.model_validate(config)).suggestions if each.kind == "routing"]
    ordered = {name: value for each in found for name, value in each.settings.items()}
    wanted = {**config, "models": [{"name": name, "targets": ordered[f"models.{name}.targets"]} for name in names]}
    after = run(asks, wanted, 7)
    results = {}
    for name, suggestion in zip(names, sorted(found, key=lambda each: each.text), strict=True):
        old, new = ([row for row in rows if row.request.model == name] for rows in (before, after))
        results[name] = _compare(f"azure, {name}", suggestion, cost(old), cost(new))
    return results


def measure_meaning(asks: Sequence[Ask]) -> Saved:
    """Compare the prediction about answering by meaning on the same calls, and from one half on the other."""
    targets = [{"provider": "seller", "model": LARGE}]
    config = {
        **_config([{"name": "assistant", "targets": targets}], _providers("seller")),
        "cache": {"semantic": {"mode": "shadow", "max_error": 0.05}},
    }
    settings, third = Settings.model_validate(config), len(asks) // 3
    before, after, switched = (run(asks, config, 8, size=len(asks), on_from=each) for each in (None, 0, 2 * third))
    found = _of_kind(learn(before, settings), "semantic")
    same = _compare("qqp, by meaning", found, cost(before), cost(after))
    early = _of_kind(learn([row for row in before if third <= _number(row) < 2 * third], settings), "semantic")
    late = _compare(
        "qqp, the second third, then the last", early,
        *(cost([row for row in rows if _number(row) >= 2 * third]) for rows in (before, switched)),
    )  # fmt: skip
    return Saved(same, late["ratio"])


def _number(row: Row) -> int:
    """Which request it was, or was made for."""
    return int(row.call.id.split("_")[1].split("-")[0])


def _of_kind(found: Suggestions, kind: str) -> Suggestion:
    return next(each for each in found.suggestions if each.kind == kind)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--json", action="store_true", help="accepted for uniformity: the last line always is JSON")
    parser.add_argument("--data", type=Path, required=True, help="folder with prompts/ and traces/")
    options = parser.parse_args()
    started = time.monotonic()
    queries, requests, questions = excite(options.data), azure(options.data), paraphrases(options.data)
    cache, routing, meaning = measure_cache(queries), measure_routing(requests), measure_meaning(questions)
    ratios = [cache.same["ratio"], *(each["ratio"] for each in routing.values())]
    figures = {
        "predicted_vs_actual_saving": max(ratios, key=lambda ratio: abs(ratio - 1)),
        "cache": cache.same,
        "routing": routing,
        "next_half": cache.unseen,
        "semantic_predicted_vs_actual": meaning.same["ratio"],
        "semantic": meaning.same,
        "semantic_next_third": meaning.unseen,
    }
    finish(figures, started=started, n=4 * len(queries) + 2 * len(requests) + 3 * len(questions))


if __name__ == "__main__":
    main()
