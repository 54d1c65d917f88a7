"""penstock usage stats, maintain, export and import: the ledger's counts, its upkeep, its calls in files."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import IO

import click
import msgspec

from penstock.cli.output import config_option, emit, json_option, show_table
from penstock.cli.usage_report import store_option, store_url
from penstock.config.loader import load
from penstock.core.clock import SystemClock
from penstock.reporting.writing import duration, moment, money, share
from penstock.usage import (
    CallRecord,
    Figures,
    record_files,
    usage_import,
    usage_maintain,
    usage_records,
    usage_statistics,
)

_DAY_S = 86_400
_EVERY_S = 0.5
format_option = click.option(
    "--format", "form", type=click.Choice(list(record_files.FORMATS)), help="By default what the file's name says."
)


@click.command()
@config_option
@store_option
@click.option("--tenant", metavar="NAME", help="Only this tenant's calls, or those of all teams of an organisation.")
@click.option("--reset", is_flag=True, help="Begin to count anew; prints what had been counted until now.")
@json_option
def stats(config: str | None, store: str | None, tenant: str | None, reset: bool, as_json: bool) -> None:
    """Count calls, hits, and what was saved: since the start and since the last reset.

    A reset changes nothing but where the second count begins; reports and budgets are not touched by it.
    """
    found = usage_statistics(store_url(config, store), tenant=tenant, reset=reset, by="command line")
    if as_json:
        emit(msgspec.to_builtins(found), as_json)
        return
    rows = zip(_NAMES, _cells(found.since_start), _cells(found.since_reset), strict=True)
    show_table(("", "since the start", "since the reset"), [list(row) for row in rows])


@click.command()
@config_option
@store_option
@click.option("--days", type=click.FloatRange(min=0, min_open=True), metavar="N",
              help="Keep calls this long; by default as `store.retention_days` says.")  # fmt: skip
@json_option
def maintain(config: str | None, store: str | None, days: float | None, as_json: bool) -> None:
    """Sum up old hours by day and week, and remove old calls, now.

    A server does so by itself every six hours. Sums stay: reports go on to count calls that were removed.
    """
    kept_days = days if days is not None else load(config, probe=False).settings.store.retention_days
    told = _Progress(lambda kept: f"{kept.folded} sums, {kept.removed} calls removed")
    done = usage_maintain(store_url(config, store), kept_days, told)
    told.end()
    emit(msgspec.to_builtins(done), as_json)


@click.command()
@config_option
@store_option
@click.option("--days", type=click.FloatRange(min=0), metavar="N", help="How far back to go; by default all calls.")
@click.option("--tenant", metavar="NAME", help="Only this tenant's calls, or those of all teams of an organisation.")
@format_option
@click.option("--json", "as_json", is_flag=True, help="Say how many calls as JSON; not with stdout as FILE.")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
def export(
    config: str | None, store: str | None, days: float | None, tenant: str | None, form: str | None, file: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Write calls and their tries to FILE, - for stdout.

    CSV, JSON lines (jsonl) or Parquet, which needs the extra `penstock[parquet]`. Nothing is rounded; no prompt or
    answer is in it, because none is in the ledger.
    """
    if as_json and file == "-":
        raise click.UsageError("--json and the calls cannot both go to stdout.")
    form = record_files.format_of(file, form)
    since = 0.0 if days is None else SystemClock.wall() - days * _DAY_S
    told = _Progress(lambda count: f"{count} calls")
    records = _counted(usage_records(store_url(config, store), since=since, tenant=tenant), told)
    with _opened(file, "wb") as target:
        record_files.write(target, form, records)
    told.end()
    if as_json:
        emit({"calls": told.last}, as_json)


@click.command("import")
@config_option
@store_option
@format_option
@json_option
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
def import_(config: str | None, store: str | None, form: str | None, as_json: bool, file: str) -> None:
    """Add the calls of FILE, which `penstock usage export` wrote; - for stdin.

    Ids decide: a call that is there is left as it is, so importing twice changes nothing. Calls older than what has
    been removed are left out, since they are in the sums.
    """
    form = record_files.format_of(file, form)
    told = _Progress(lambda done: f"{done.added + done.known + done.too_old} calls")
    with _opened(file, "rb") as source:
        done = usage_import(store_url(config, store), record_files.read(source, form, file), told)
    told.end()
    emit(msgspec.to_builtins(done), as_json)


_NAMES = ("began (UTC)", "calls", "errors", "hits", "hit rate", "calls saved", "tries", "tokens in", "tokens out",
          "tokens saved", "cost $", "saved $", "mean time")  # fmt: skip


def _cells(figures: Figures) -> list[object]:
    since = "-" if figures.since is None else moment(figures.since)
    return [
        since, figures.calls, figures.errors, figures.hits, share(figures.hit_rate), figures.calls_saved,
        figures.attempts, figures.input_tokens, figures.output_tokens, figures.tokens_saved, money(figures.cost_usd),
        money(figures.saved_usd), duration(figures.mean_s),
    ]  # fmt: skip


def _opened(file: str, mode: str) -> IO[bytes]:
    try:
        return click.open_file(file, mode)
    except OSError as error:
        raise click.FileError(file, error.strerror or str(error)) from error


def _counted(records: Iterable[CallRecord], told: Callable[[int], None]) -> Iterator[CallRecord]:
    count = 0
    for number, record in enumerate(records, 1):
        yield record
        count += record.calls
        if number % 500 == 0:
            told(count)
    told(count)


class _Progress:
    """One line on stderr that says how far it is: again and again on a terminal, at the end elsewhere.

    Attributes:
        last: The newest state it was told.
    """

    def __init__(self, write: Callable[..., str]) -> None:
        self._write = write
        self.last: object = None
        self._next = 0.0
        self._live = sys.stderr.isatty()

    def __call__(self, state: object) -> None:
        """Say it, twice a second at most."""
        self.last = state
        now = time.monotonic()
        if self._live and now >= self._next:
            self._next = now + _EVERY_S
            click.echo(f"\r{self._write(state)}", err=True, nl=False)

    def end(self) -> None:
        """Say it for the last time."""
        if self.last is not None:
            click.echo(f"{chr(13) * self._live}{self._write(self.last)}", err=True)
