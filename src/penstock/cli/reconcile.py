"""penstock usage reconcile: the ledger beside a provider's bill."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import click
import msgspec

from penstock.cli.output import config_option, emit, json_option, show_table
from penstock.config.loader import load
from penstock.config.settings import Settings
from penstock.core.errors import ConfigError
from penstock.pricing.bills import Bill, read_bill
from penstock.pricing.reconciling import Line
from penstock.pricing.reconciling import reconcile as compare
from penstock.reporting.writing import money
from penstock.usage import booked

BEYOND = 1
"""Exit code when a line differs by more than the tolerance."""
_COLUMNS = ("day", "model", "ledger $", "bill $", "difference $", "ledger tokens", "bill tokens", "difference", "")


@click.command()
@config_option
@click.option("--store", metavar="URL", help="Use this store instead of the configured one.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--provider", "names", multiple=True, metavar="NAME",
              help="Compare with this provider's attempts; by default with those of the file's kind.")  # fmt: skip
@click.option("--tolerance", default="0.01", show_default=True, metavar="SHARE",
              help="By what share of the larger figure a line may differ; a cent or 100 tokens it may.")  # fmt: skip
@click.option("--all", "whole", is_flag=True, help="Show lines that agree, too.")
@json_option
@click.pass_context
def reconcile(
    ctx: click.Context,
    config: str | None,
    store: str | None,
    file: Path,
    names: tuple[str, ...],
    tolerance: str,
    whole: bool,
    as_json: bool,
) -> None:
    """Compare the ledger with a provider's bill, by day (UTC) and model.

    FILE is a CSV export of OpenAI's costs or usage, or of Anthropic's usage or cost, or has the columns date, model and
    cost, input_tokens or output_tokens. The exit code is 1 when a line differs by more than the tolerance.
    """
    share = _share(tolerance)
    settings = load(config, probe=False).settings
    with file.open(encoding="utf-8-sig", newline="") as lines:
        bill = read_bill(lines, str(file))
    if not bill.charges:
        raise ConfigError(f"{file} bills nothing")
    first, last = bill.charges[0].day, bill.charges[-1].day
    providers = list(names) or _providers(settings, bill)
    books = booked(store or settings.store.url, first, last, providers)
    found = compare(bill, books, tolerance=share, today=datetime.now(UTC).date())
    if as_json:
        emit({
            "form": bill.form.name, "first": first, "last": last, "providers": providers, "tolerance": share,
            "agrees": all(line.agrees for line in found), "lines": [_plain(line) for line in found],
        }, as_json)  # fmt: skip
    else:
        _show(found, bill, providers, whole=whole)
    if not all(line.agrees for line in found):
        ctx.exit(BEYOND)


def _share(text: str) -> Decimal:
    try:
        share = Decimal(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ArithmeticError:
        share = Decimal(-1)
    if not (share.is_finite() and 0 <= share < 1):
        raise click.UsageError(f"--tolerance is a share such as 0.01 or 1%, not {text!r}")
    return share


def _providers(settings: Settings, bill: Bill) -> list[str] | None:
    """The providers the bill may come from; None for all."""
    if bill.form.kind is None:
        return None
    return [each.name for each in settings.providers if each.kind == bill.form.kind] or None


def _plain(line: Line) -> dict[str, object]:
    amounts = {"ledger_usd": line.ledger_usd, "bill_usd": line.bill_usd, "difference_usd": line.difference_usd}
    return {
        **msgspec.structs.asdict(line),
        **{name: None if amount is None else f"{amount:f}" for name, amount in amounts.items()},
        "difference_tokens": line.difference_tokens,
    }


def _show(found: list[Line], bill: Bill, providers: list[str] | None, *, whole: bool) -> None:
    shown = [line for line in found if whole or not line.agrees]
    if shown:
        show_table(_COLUMNS, [
            [line.day, line.model or "(all)", _usd(line.ledger_usd), _usd(line.bill_usd), _usd(line.difference_usd),
             line.ledger_tokens, line.bill_tokens, line.difference_tokens, "" if line.agrees else "!"]
            for line in shown
        ])  # fmt: skip
        for line in shown:
            for reason in line.reasons:
                click.echo(f"{line.day} {line.model or '(all)'}: {reason}")
        click.echo()
    ledger = sum((line.ledger_usd or Decimal(0) for line in found), Decimal(0))
    billed = sum((line.bill_usd or Decimal(0) for line in found), Decimal(0))
    whose = ", ".join(providers) if providers else "all providers"
    click.echo(
        f"{bill.form.name}, {found[0].day} to {found[-1].day}, beside the attempts on {whose}: "
        f"{sum(line.agrees for line in found)} of {len(found)} lines agree"
        + (f"; ledger ${money(ledger)}, bill ${money(billed)}." if found[0].bill_usd is not None else ".")
    )


def _usd(amount: Decimal | None) -> str | None:
    return None if amount is None else money(amount)
