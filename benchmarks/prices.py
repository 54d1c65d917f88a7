"""Are recorded usage bodies read and priced right? `python -m benchmarks.prices --data PATH --json`.

Each recorded body is read with Penstock's own readers, priced with the price table of the same data set at its date,
and compared with every cost the set recorded for it by a seller that speaks the body's dialect. What other dialects'
extractors made of the same body is left aside: that Anthropic's finds `input_tokens` in a body of OpenAI's says
nothing. Costs are those of tokens, as recorded; searches are not in them.

- `parsed`: share of bodies that were read.
- `priced_exact`: share of bodies whose every such cost agrees within 1e-9 USD; where such a seller has no price on
  record, it must be unknown to us too.
- `priced_exact_recorded`: the same of the bodies that have a cost on record.
- `priced_exact_installed`: as `priced_exact`, with the price list of the installed library, which is newer.
- `bodies`, and `recorded`, how many of them have a recorded cost.

Exceptions are listed on stderr with their reason, and so is the comparison with the older table of LiteLLM.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from genai_prices.types import _providers_from_raw

from benchmarks.outcome import finish
from benchmarks.processes import say
from penstock.core.usage import Usage
from penstock.pricing.published import PriceList
from penstock.pricing.rates import PARENTS
from penstock.wire.usage_bodies import find_form, read_body_usage

SET, OTHER = Path("prices/genai-prices"), Path("prices/litellm-via-tokencost")
WHEN = datetime(2026, 8, 21, 12, tzinfo=UTC)
"""When the set was made."""
CLOSE = Decimal("1e-9")
_CHAT = frozenset({"mistral", "groq", "perplexity", "x-ai", "minimax"})
"""Sellers whose dialect `chat` the set calls `default`."""
_DIALECTS = {"gemini": "google:default", "bedrock": "aws:default", "cohere": "cohere:default"}
_SELLERS = {"openai": "openai", "anthropic": "anthropic", "gemini": "google", "mistral": "mistral", "groq": "groq",
            "deepseek": "deepseek", "xai": "x-ai", "perplexity": "perplexity", "together_ai": "together",
            "fireworks_ai": "fireworks", "cerebras": "cerebras", "openrouter": "openrouter", "azure": "azure",
            "bedrock": "aws"}  # fmt: skip
"""LiteLLM's providers, and the price list's."""


class Miss(NamedTuple):
    """A recorded cost that ours is not."""

    seller: str
    model: str
    recorded: Decimal | None
    ours: Decimal | None
    reason: str


def main() -> None:
    """Run both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", action="store_true", help="no difference: the last line is always JSON")
    data = parser.parse_args().data
    started = time.monotonic()
    with gzip.open(data / SET / "usages.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    with gzip.open(data / SET / "data.json.gz", "rt") as file:
        table = PriceList(_providers_from_raw(json.load(file, parse_float=Decimal)))
    installed = PriceList()
    parsed = sum(read_body_usage(row["body"]) is not None for row in rows)
    recorded = [row for row in rows if any(cost is not None for _, cost, _ in _recorded(row))]
    exact = _compare(rows, table, installed, "the set's table")
    exact_recorded = sum(not any(_misses(row, table, installed)) for row in recorded)
    newer = _compare(rows, installed, table, "the installed list")
    _compare_tables(data, installed)
    finish(
        {
            "parsed": round(parsed / len(rows), 4),
            "priced_exact": round(exact / len(rows), 4),
            "bodies": len(rows),
            "priced_exact_recorded": round(exact_recorded / len(recorded), 4),
            "priced_exact_installed": round(newer / len(rows), 4),
            "recorded": len(recorded),
        },
        started=started,
        n=len(rows),
    )


def _compare(rows: list[dict[str, Any]], prices: PriceList, other: PriceList, name: str) -> int:
    exact = 0
    reasons: Counter[str] = Counter()
    for row in rows:
        misses = list(_misses(row, prices, other))
        exact += not misses
        for miss in misses:
            ours = "unknown" if miss.ours is None else f"{miss.ours:f}"
            recorded = "nothing" if miss.recorded is None else f"{miss.recorded:f}"
            say(f"{name}: {miss.seller} {miss.model}: {ours}, recorded {recorded}: {miss.reason}")
            reasons[miss.reason] += 1
    say(
        f"{name}: {exact} of {len(rows)} bodies exact; " + "; ".join(f"{n} × {why}" for why, n in reasons.most_common())
    )
    return exact


def _misses(row: dict[str, Any], prices: PriceList, other: PriceList) -> Iterator[Miss]:
    usage = read_body_usage(row["body"])
    if usage is None:
        yield Miss("", str(row.get("model")), None, None, "not read")
        return
    usage = msgspec.structs.replace(usage, web_searches=0)
    for seller, cost, theirs in _recorded(row):
        ours = _price(prices, seller, row["model"], usage)
        if cost is None:
            if ours is not None:
                yield Miss(seller, row["model"], None, ours, "no price on record")
        elif ours is None or abs(ours - cost) > CLOSE:
            yield Miss(
                seller, row["model"], cost, ours, _reason(row["model"], seller, cost, ours, usage, theirs, other)
            )


def _recorded(row: dict[str, Any]) -> Iterator[tuple[str, Decimal | None, dict[str, int]]]:
    """Yield seller, cost (None where it has no price) and reading, of sellers that speak the body's dialect."""
    form = find_form(row["body"])
    embeds = "completion_tokens" not in (row["body"].get("usage") or {})
    for group in row["extracted"]:
        for each in group["extractors"]:
            seller, flavour = each["provider_id"], each["api_flavor"]
            spoken = form is not None and _speaks(form.name, seller, flavour, embeds=embeds)
            if spoken and "model" in row:
                parts = [Decimal(each[part]) for part in ("input_price", "output_price") if part in each]
                yield seller, sum(parts, Decimal(0)) if parts else None, group["usage"]


def _speaks(form: str, seller: str, flavour: str, *, embeds: bool) -> bool:
    if form in _DIALECTS:
        return f"{seller}:{flavour}" == _DIALECTS[form]
    if form == "anthropic":
        return flavour == "anthropic" or (seller, flavour) == ("anthropic", "default")
    if form == "responses":
        return flavour == "responses"
    if embeds:
        return flavour == "embeddings"
    return flavour == "chat" or (flavour == "default" and seller in _CHAT)


def _price(prices: PriceList, seller: str, model: str, usage: Usage) -> Decimal | None:
    found = prices.find(seller, model, WHEN, usage.service_tier)
    tiers = found.tiers if found is not None else ()
    return next((tier.amount(usage) for tier in tiers if usage.input_tokens > tier.above), None)


def _reason(
    model: str, seller: str, cost: Decimal, ours: Decimal | None, usage: Usage, theirs: dict[str, int], other: PriceList
) -> str:
    elsewhere = _price(other, seller, model, usage)
    if elsewhere is not None and abs(elsewhere - cost) <= CLOSE:
        return "recorded with the prices of another edition of the list"
    if ours is None:
        return "this edition of the list has no price for it"
    if usage.cache_write_tokens and "cache_write_tokens" not in theirs:
        return "the recorded reading leaves out what was written to the cache"
    if usage.cached_input_tokens and "cache_read_tokens" not in theirs:
        return "the recorded reading leaves out what was read from the cache"
    return "recorded with prices that neither edition has"


def _compare_tables(data: Path, prices: PriceList) -> None:
    """Compare input and output prices with LiteLLM's table, model by model."""
    with gzip.open(data / OTHER / "model_prices.json.gz", "rt") as file:
        table: dict[str, dict[str, Any]] = json.load(file, parse_float=Decimal)
    found: Counter[str] = Counter()
    for name, entry in table.items():
        why = _difference(name, entry, prices)
        found[why] += 1
        if why not in ("same", "not sold by a provider kind of Penstock") and not why.startswith("not in"):
            say(f"LiteLLM's table: {name}: {why}")
    say("LiteLLM's table: " + "; ".join(f"{count} × {why}" for why, count in found.most_common()))


def _difference(name: str, entry: dict[str, Any], prices: PriceList) -> str:
    seller = _SELLERS.get(str(entry.get("litellm_provider")))
    if seller is None:
        return "not sold by a provider kind of Penstock"
    theirs = [entry.get("input_cost_per_token"), entry.get("output_cost_per_token")]
    if not any(theirs):
        return "priced in other units (characters, seconds, images), or free"
    now = prices.find(seller, name.split("/", 1)[1] if "/" in name else name, WHEN)
    if now is None or not now.tiers:
        return "not in the list: retired, or never listed"
    base = now.tiers[-1].each
    ours = [base[tuple(PARENTS).index(kind)] for kind in ("input", "output")]
    same = all(_near(our, Decimal(str(their or 0))) for our, their in zip(ours, theirs, strict=True))
    if same:
        return "same"
    if entry.get("mode") == "embedding" and _near(ours[0], Decimal(str(theirs[0] or 0))):
        return "same"
    if "image" in name or "audio" in name or "realtime" in name:
        return "other prices for images or audio"
    if entry.get("deprecation_date") or now.dated:
        return "the price has changed since (dated in the list, or the model is retired)"
    if seller == "openrouter":
        return "another price: a reseller's, which changes often"
    if seller == "aws":
        return "another price: of a region, or of a model by another name"
    return "another price: changed in the year between, or of a model by another name"


def _near(ours: Decimal | None, theirs: Decimal) -> bool:
    return abs((ours or Decimal(0)) - theirs) <= max(ours or Decimal(0), theirs) / 100


if __name__ == "__main__":
    main()
