"""penstock usage suggest: which settings would have done better."""

from __future__ import annotations

from decimal import Decimal

import click
import msgspec

from penstock.cli.output import config_option, emit, json_option
from penstock.config.loader import load
from penstock.insight.interval import Range
from penstock.insight.suggesting import Suggestions
from penstock.insight.suggestion import Money, Suggestion
from penstock.looking_back import suggestions

_MONTH_DAYS = 30
_SHORTEST_DAYS = 1.0
_BASIS = {"replay": "replayed", "prices": "at its prices", "rule": "by rule"}


@click.command()
@config_option
@click.option("--store", metavar="URL", help="Read this store instead of the configured one.")
@click.option("--days", default=7.0, show_default=True, type=click.FloatRange(min=0), help="How far back to look.")
@click.option("--most", default=200_000, show_default=True, metavar="N", type=click.IntRange(min=1),
              help="Look at the newest N calls at most.")  # fmt: skip
@json_option
def suggest(config: str | None, store: str | None, days: float, most: int, as_json: bool) -> None:
    """Say which settings would have saved what.

    The calls of the ledger are run again under other settings, with the decisions the gateway takes: their times, sizes
    and digests are enough, no text is needed. Each saving is that of the period, with the range it would be in nine
    times in ten; what cannot be replayed is suggested by rule and says so.
    """
    settings = load(config, probe=False).settings
    if store:
        settings = settings.model_copy(update={"store": settings.store.model_copy(update={"url": store})})
    found = suggestions(settings, days=days, most=most, said=lambda what: click.echo(f"… {what}", err=True))
    if as_json:
        emit({**msgspec.to_builtins(found), "days": found.days}, as_json)
    else:
        click.echo(_text(found))


def _text(found: Suggestions) -> str:
    if not found.calls:
        return "No calls to learn from in that period."
    heard = found.fidelity
    lines = [
        f"{found.calls} calls in {found.days:.1f} days, which cost ${_usd(found.cost_usd)}"
        + (f" and {found.unpriced} times an unknown price" if found.unpriced else "")
        + f". Replaying the settings in force gives {heard.replayed_hits} answers without a call to a provider; "
        f"there were {heard.hits}.",
    ]
    if found.unlisted:
        lines.append(
            f"{found.unlisted} more hits were only added up (store.hit_rows_per_s) and could not be replayed: what "
            "caches save, and would save, is more than is said here."
        )
    for number, suggestion in enumerate(found.suggestions, 1):
        lines += ["", f"{number}. {suggestion.text} ({_BASIS[suggestion.basis]})", *_details(suggestion, found.days)]
    if not found.suggestions:
        lines += ["", "No setting would have saved anything."]
    return "\n".join(lines)


def _details(suggestion: Suggestion, days: float) -> list[str]:
    lines = []
    if suggestion.usd is not None:
        lines.append(f"   saves ${_money(suggestion.usd)}{_monthly(suggestion.usd, days)}")
    if suggestion.calls is not None:
        lines.append(f"   saves {_range(suggestion.calls)} calls to providers")
    if suggestion.seconds is not None:
        lines.append(f"   saves {_range(suggestion.seconds)} seconds of waiting")
    if suggestion.but:
        lines.append(f"   but {suggestion.but}")
    lines += [f"   {name}: {value}" for name, value in suggestion.settings.items()]
    return lines


def _money(found: Money) -> str:
    return f"{_usd(found.value)} ({_usd(found.low)} to {_usd(found.high)})"


def _monthly(found: Money, days: float) -> str:
    if days < _SHORTEST_DAYS:
        return ""
    return f", about ${_usd(found.value * _MONTH_DAYS / Decimal(days))} in {_MONTH_DAYS} days"


def _usd(amount: Decimal) -> str:
    return f"{amount:.4f}" if abs(amount) < 1 else f"{amount:.2f}"


def _range(found: Range) -> str:
    return f"{found.value:.0f} ({found.low:.0f} to {found.high:.0f})"
