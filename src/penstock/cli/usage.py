"""penstock usage: what was asked, answered, saved and spent."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import click
import msgspec

from penstock.cli.output import config_option, emit, json_option, show_table
from penstock.cli.suggest import suggest
from penstock.config.loader import load
from penstock.pipeline import RecentCall, UsageLine, usage_report

COLUMNS = ("calls", "errors", "hits", "hit rate", "tokens in", "tokens out", "cost $", "saved $", "p50", "p95", "first")
RECENT = ("time", "request", "tenant", "model", "provider", "outcome", "cache", "in", "out", "cost $", "took")


@click.group(invoke_without_command=True)
@config_option
@click.option("--store", metavar="URL", help="Read this store instead of the configured one.")
@click.option("--days", default=30.0, show_default=True, type=click.FloatRange(min=0), help="How far back to look.")
@click.option("--by", default="model", show_default=True, metavar="NAME,...",
              help="Split by model, tenant, provider, cache, tag and outcome, or by some of them.")  # fmt: skip
@click.option("--recent", default=0, metavar="N", type=click.IntRange(min=0), help="Also list the N newest calls.")
@json_option
@click.pass_context
def usage(
    ctx: click.Context, config: str | None, store: str | None, days: float, by: str, recent: int, as_json: bool
) -> None:
    """Show what was asked, answered, saved and spent.

    A server may be running meanwhile. Costs are published prices times tokens, exactly; what has no published price is
    counted as "price unknown" and is not in the sum.
    """
    if ctx.invoked_subcommand is not None:
        return
    url = store or load(config, probe=False).settings.store.url
    names = tuple(name for name in (part.strip() for part in by.split(",")) if name)
    report = usage_report(url, days=days, by=names, recent=recent)
    if as_json:
        emit(msgspec.to_builtins(report), as_json)
        return
    if not report.total.calls:
        click.echo(f"No calls in the last {days:g} days in {url}.")
    else:
        rows = [[*(_label(line, name) for name in names), *_cells(line)] for line in report.lines]
        total = [*(["total", *[""] * (len(names) - 1)] if names else []), *_cells(report.total)]
        show_table((*names, *COLUMNS), [*rows, total])
        click.echo(_explained(report.total))
    if report.recent:
        click.echo()
        show_table(RECENT, [_recent(call) for call in report.recent])


def _label(line: UsageLine, name: str) -> str:
    value = line.group[name]
    if value is None:
        return "(none)"
    return value


def _cells(line: UsageLine) -> list[object]:
    return [
        line.calls, line.errors, line.hits, f"{line.hit_rate:.1%}", line.input_tokens, line.output_tokens,
        _money(line.cost_usd), _money(line.saved_usd), _time(line.p50_s), _time(line.p95_s), _time(line.first_token_s),
    ]  # fmt: skip


def _explained(total: UsageLine) -> str:
    parts = [f"{total.priced} calls priced by the provider's token counts"]
    if total.estimated:
        parts.append(f"{total.estimated} by estimated ones")
    if total.unpriced:
        parts.append(f"{total.unpriced} with price unknown, not in the sum")
    return "Cost: " + ", ".join(parts) + "."


def _recent(call: RecentCall) -> list[object]:
    when = datetime.fromtimestamp(call.started_at).strftime("%Y-%m-%d %H:%M:%S")
    cost = "unknown" if call.cost_usd is None else _money(call.cost_usd)
    return [
        when, call.request_id, call.tenant, call.model, call.provider, call.outcome, call.cache or None,
        call.input_tokens, call.output_tokens, cost, _time(call.duration_s),
    ]  # fmt: skip


def _money(usd: Decimal) -> str:
    """Write an amount in full, with at least cents and nothing rounded."""
    text = f"{usd:f}"
    whole, _, rest = text.partition(".")
    return f"{whole}.{rest.rstrip('0').ljust(2, '0')}"


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


usage.add_command(suggest)
