"""penstock prices: what models cost, where that is known from, and what a recorded answer cost."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import IO, Any

import click
import msgspec

from penstock.cli.output import config_option, emit, json_option, show_table
from penstock.config.loader import load
from penstock.config.settings import Settings
from penstock.core.usage import Usage
from penstock.pricing.prices import Account, Price, Pricer
from penstock.pricing.published import SELLERS, PriceList
from penstock.pricing.rates import PARENTS, Rates
from penstock.shared import make_pricer
from penstock.wire.usage_bodies import read_body_usage

_MILLION = 10**6
_ORIGINS = {
    "configuration": "the configuration",
    "list": "the price list",
    "simulated": "nothing to pay: the provider is simulated",
    "unknown": "unknown",
}


@click.group()
def prices() -> None:
    """Show what models cost, and where that is known from.

    Prices of the configuration come before those of the price list, which is part of the installed library
    genai-prices. What neither has is unknown; it is never counted as free.
    """


@prices.command()
@config_option
@click.argument("model")
@click.option("--provider", metavar="NAME", help="Only at this provider.")
@json_option
def show(config: str | None, model: str, provider: str | None, as_json: bool) -> None:
    """Show the price of MODEL at the configured providers that have it.

    MODEL is the provider's name for it, also as provider/model, or a name of the configuration's models.
    """
    settings = load(config, probe=False).settings
    found = list(_found(settings, model, provider))
    if as_json:
        emit([_plain(*each) for each in found], as_json)
        return
    for name, own, price in found:
        click.echo(f"{name}/{own}: {_where(price)}")
        if price.tiers and (price.own is None or price.own.usd_per_million or price.own.usd_per_request):
            columns = ("", *(_above(tier) for tier in reversed(price.tiers)))
            show_table(columns, ([*line, *[""] * (len(columns) - len(line))] for line in _lines(price)))
        if price.published is not None and price.published.note:
            click.echo(f"Note: {price.published.note}")
        click.echo()


@prices.command("list")
@config_option
@click.option("--provider", metavar="NAME", help="Only what this provider sells.")
@json_option
def listing(config: str | None, provider: str | None, as_json: bool) -> None:
    """List the prices of the configuration, and what is published for the configured providers."""
    settings = load(config, probe=False).settings
    pricer = make_pricer(settings)
    own = [
        {"provider": each.provider, "model": each.model, "from": "the configuration", **_own(each.model_dump())}
        for each in settings.prices
        if provider in (None, each.provider)
    ]
    published = []
    for account in settings.providers:
        if provider not in (None, account.name) or account.kind not in SELLERS:
            continue
        for info in PriceList().models([SELLERS[account.kind]], datetime.now(UTC)):
            price = pricer.price(account.name, info.model)
            published.append(
                {"provider": account.name, "model": info.model, "from": _ORIGINS[price.origin], **_base(price)}
            )
    rows = own + published
    if as_json:
        emit(rows, as_json)
    elif rows:
        show_table(("provider", "model", "input", "output", "from"), (
            [row["provider"], row["model"], row.get("input"), row.get("output"), row["from"]]
            for row in rows
        ))  # fmt: skip
        click.echo("USD per million tokens of the lowest tier; `penstock prices show MODEL` has the rest.")
    else:
        click.echo("There is no price: nothing is in the configuration, and no configured provider publishes any.")


@prices.command()
@config_option
@click.argument("file", type=click.File("rb"))
@click.option("--provider", required=True, metavar="NAME", help="Who answered: a provider, or a kind of provider.")
@click.option("--model", metavar="NAME", help="The provider's model; by default as the answer says.")
@json_option
def cost(config: str | None, file: IO[bytes], provider: str, model: str | None, as_json: bool) -> None:
    """Say what a recorded answer cost, part by part. FILE has its JSON; - is standard input.

    The answer may be one of OpenAI, Anthropic, Gemini, Bedrock, Cohere or Ollama, or of a server that speaks like one.
    """
    name = getattr(file, "name", "standard input")
    try:
        body = json.load(file)
    except ValueError as error:
        raise click.UsageError(f"{name} is not JSON: {error}") from None
    usage = read_body_usage(body) if isinstance(body, dict) else None
    if usage is None:
        raise click.UsageError(f"{name} has no token counts (usage, usageMetadata or prompt_eval_count)")
    model = model or str(body.get("model") or body.get("modelVersion") or "")
    if not model:
        raise click.UsageError(f"{name} does not name the model; give it with --model")
    pricer = _pricer(load(config, probe=False).settings)
    rates = pricer.price(provider, model, usage.service_tier).rates(usage)
    total, source = pricer.cost(provider, model, usage)
    parts = {} if rates is None else rates.parts(usage)
    if as_json:
        said = {"provider": provider, "model": model, "cost_usd": _usd(total), "cost_source": source}
        emit({**said, "parts_usd": _texts(parts), "usage": _counts(usage)}, as_json)
        return
    show_table(("", "USD"), [(kind, _usd(part)) for kind, part in parts.items()])
    click.echo(f"{provider}/{model}: {'unknown' if total is None else f'${_usd(total)}'}")


def _pricer(settings: Settings) -> Pricer:
    """A pricer that also takes the name of a kind for a provider."""
    accounts = {kind: Account(kind) for kind in SELLERS}
    accounts |= {each.name: Account(each.kind, each.discount) for each in settings.providers}
    return make_pricer(settings, accounts=accounts)


def _found(settings: Settings, model: str, provider: str | None) -> Iterator[tuple[str, str, Price]]:
    pricer = _pricer(settings)
    names = [each.name for each in settings.providers]
    places = [
        (target.provider, target.model) for each in settings.models if each.name == model for target in each.targets
    ]
    places = [(name, model if own == "*" else own) for name, own in places]
    prefix, _, rest = model.partition("/")
    if not places and rest and prefix in (*names, *SELLERS):
        places = [(prefix, rest)]
    places = [place for place in places if provider in (None, place[0])]
    if places:
        yield from ((*place, pricer.price(*place)) for place in places)
        return
    where = [provider] if provider else names
    known = [(name, model, pricer.price(name, model)) for name in where]
    priced = [each for each in known if each[2].origin == "list" or (each[2].own and each[2].own.model != "*")]
    if not priced and provider is None:
        known += [(kind, model, pricer.price(kind, model)) for kind in SELLERS if kind not in names]
        priced = [each for each in known if each[2].origin == "list"]
    yield from priced or known[: len(where)]


def _where(price: Price) -> str:
    words = [_ORIGINS[price.origin]]
    if price.published is not None:
        words = [f"{words[0]} ({price.published.seller}: {price.published.model})"]
    if price.discount:
        words.append(f"less {price.discount:%}")
    if price.dated:
        words.append("depends on the date")
    if price.own is not None and price.own.usd_per_hour is not None:
        words.append(f"${_usd(price.own.usd_per_hour)} an hour of the machine's work")
    if price.published is not None:
        words += price.published.links[:1]
    return ", ".join(words)


def _above(tier: Rates) -> str:
    return "USD a million" if tier.above < 0 else f"above {tier.above} tokens in"


def _lines(price: Price) -> Iterable[list[object]]:
    """One line a kind that has a price of its own, lowest tier first."""
    tiers = [_stated(tier) for tier in reversed(price.tiers)]
    for kind in dict.fromkeys(kind for tier in tiers for kind in tier):
        yield [kind, *(_usd(tier.get(kind)) for tier in tiers)]
    base = price.tiers[-1]
    if base.request:
        yield ["one request", _usd(base.request)]
    if search := _search(base):
        yield ["1,000 searches", _usd(search * 1000)]


def _stated(tier: Rates) -> dict[str, Decimal]:
    """USD per million tokens by kind, without those that only repeat the kind they are part of."""
    each = dict(zip(PARENTS, tier.each, strict=True))
    found: dict[str, Decimal] = {}
    for kind, rate in each.items():
        parent = next((each[name] for name in PARENTS[kind] if each[name] is not None), None)
        if rate is not None and rate != parent and kind != "search":
            found[kind] = rate * _MILLION
    return found


def _search(tier: Rates) -> Decimal | None:
    return tier.each[tuple(PARENTS).index("search")]


def _base(price: Price) -> dict[str, str | None]:
    return _texts(_stated(price.tiers[-1])) if price.tiers else {}


def _texts(amounts: Mapping[str, Decimal | None]) -> dict[str, str | None]:
    return {kind: _usd(amount) for kind, amount in amounts.items()}


def _own(entry: Mapping[str, Any]) -> dict[str, Any]:
    rates = entry["usd_per_million"] or {}
    rest = {name: value for name, value in entry.items() if name not in ("provider", "model", "usd_per_million")}
    return {name: value for name, value in {**rest, **rates}.items() if value is not None}


def _plain(provider: str, model: str, price: Price) -> dict[str, Any]:
    published = price.published
    base = price.tiers[-1] if price.tiers else None
    return {
        "provider": provider,
        "model": model,
        "origin": price.origin,
        "tiers": [
            {"above_input_tokens": max(tier.above, 0), "usd_per_million": _texts(_stated(tier))}
            for tier in reversed(price.tiers)
        ],
        "usd_per_request": _usd(base.request) if base is not None else None,
        "usd_per_search": _usd(_search(base)) if base is not None else None,
        "usd_per_hour": price.own.usd_per_hour if price.own is not None else None,
        "discount": price.discount,
        "dated": price.dated,
        "listed_as": f"{published.seller}/{published.model}" if published is not None else None,
        "links": list(published.links) if published is not None else [],
        "note": published.note if published is not None else "",
    }


def _counts(usage: Usage) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(usage).items() if value}


def _usd(amount: Decimal | None) -> str | None:
    """Write an amount in full, nothing rounded; None for what is not known."""
    if amount is None:
        return None
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
