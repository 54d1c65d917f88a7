"""penstock usage: what was asked, answered, saved and spent."""

from __future__ import annotations

from datetime import datetime

import click
import msgspec

from penstock.cli.output import config_option, emit, json_option, show_table
from penstock.cli.reconcile import reconcile
from penstock.cli.suggest import suggest
from penstock.cli.usage_data import export, import_, maintain, stats
from penstock.cli.usage_report import names as split_names
from penstock.cli.usage_report import report, store_option, store_url
from penstock.reporting.text import explained, label
from penstock.reporting.writing import duration, money, share
from penstock.usage import GROUPS, RecentCall, UsageLine, usage_report

COLUMNS = ("calls", "errors", "hits", "hit rate", "tokens in", "tokens out", "cost $", "saved $", "p50", "p95", "first")
RECENT = ("time", "request", "tenant", "model", "provider", "outcome", "cache", "in", "out", "cost $", "took")


@click.group(invoke_without_command=True)
@config_option
@store_option
@click.option("--days", default=30.0, show_default=True, type=click.FloatRange(min=0), help="How far back to look.")
@click.option("--by", default="model", show_default=True, metavar="NAME,...",
              help=f"Split by some of {', '.join(GROUPS)}; team means tenant.")  # fmt: skip
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
    url, names = store_url(config, store), split_names(by)
    found = usage_report(url, days=days, by=names, recent=recent)
    names = found.by
    if as_json:
        emit(msgspec.to_builtins(found), as_json)
        return
    if not found.total.calls:
        click.echo(f"No calls in the last {days:g} days in {url}.")
    else:
        rows = [[*(label(line, name) for name in names), *_cells(line)] for line in found.lines]
        total = [*(["total", *[""] * (len(names) - 1)] if names else []), *_cells(found.total)]
        show_table((*names, *COLUMNS), [*rows, total])
        click.echo(explained(found.total))
    if found.recent:
        click.echo()
        show_table(RECENT, [_recent(call) for call in found.recent])


def _cells(line: UsageLine) -> list[object]:
    return [
        line.calls, line.errors, line.hits, share(line.hit_rate), line.input_tokens, line.output_tokens,
        money(line.cost_usd), money(line.saved_usd), duration(line.p50_s), duration(line.p95_s),
        duration(line.first_token_s),
    ]  # fmt: skip


def _recent(call: RecentCall) -> list[object]:
    when = datetime.fromtimestamp(call.started_at).strftime("%Y-%m-%d %H:%M:%S")
    cost = "unknown" if call.cost_usd is None else money(call.cost_usd)
    return [
        when, call.request_id, call.tenant, call.model, call.provider, call.outcome, call.cache or None,
        call.input_tokens, call.output_tokens, cost, duration(call.duration_s),
    ]  # fmt: skip


usage.add_command(reconcile)
for command in (report, stats, maintain, export, import_):
    usage.add_command(command)
usage.add_command(suggest)
