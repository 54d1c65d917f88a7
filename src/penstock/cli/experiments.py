"""penstock experiments: where they stand, what is known, and their end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import click
import msgspec

from penstock.cli.output import config_option, emit, json_option, show_table
from penstock.config.experiments import compared
from penstock.config.loader import load
from penstock.core.clock import SystemClock
from penstock.experiments.report import Effect, Measured, Report
from penstock.pipeline import open_desk
from penstock.reporting.effect_chart import Track, effect_chart
from penstock.trials.desk import Desk, Standing

T = TypeVar("T")
BY = "the command line"
COLUMNS = ("name", "status", "since", "arms", "primary", "winner", "why", "by")


@click.group()
def experiments() -> None:
    """List experiments, show and plot what is known of them, stop and start them.

    They are configured under `experiments`; where they stand is kept in the configured store, and a running server
    knows of changes within ten seconds. Exit codes: 0 done, 1 there is no such experiment or it cannot be done, 2 the
    configuration or an argument cannot be used.
    """


@experiments.command("list")
@config_option
@json_option
def list_(config: str | None, as_json: bool) -> None:
    """List the configured experiments, and where they stand."""
    found = _at_desk(config, lambda desk: desk.list())
    if as_json:
        emit([msgspec.to_builtins(each) for each in found], as_json)
    elif found:
        emit([_row(each) for each in found], as_json, COLUMNS)
    else:
        click.echo("There are no experiments.")


@experiments.command()
@click.argument("name")
@config_option
@json_option
def show(name: str, config: str | None, as_json: bool) -> None:
    """Show where one experiment stands."""
    found = _at_desk(config, lambda desk: desk.get(name))
    _say(found, as_json=as_json)


@experiments.command()
@click.argument("name")
@click.option("--winner", metavar="ARM", help="The arm that is better; everybody gets it if the configuration says so.")
@click.option("--why", default="", help="For the record.")
@config_option
@json_option
def stop(name: str, winner: str | None, why: str, config: str | None, as_json: bool) -> None:
    """End an experiment."""
    found = _at_desk(config, lambda desk: desk.stop(name, winner=winner, why=why, by=BY))
    _say(found, as_json=as_json)


@experiments.command()
@click.argument("name")
@config_option
@json_option
def start(name: str, config: str | None, as_json: bool) -> None:
    """Let an experiment run; one that has ended begins anew, and its earlier calls do not count."""
    found = _at_desk(config, lambda desk: desk.start(name))
    _say(found, as_json=as_json)


@experiments.command()
@click.argument("name")
@click.option("--plot", metavar="FILE.svg", type=click.Path(dir_okay=False, path_type=Path),
              help="Also draw how the primary metric's effect became known.")  # fmt: skip
@config_option
@json_option
def report(name: str, plot: Path | None, config: str | None, as_json: bool) -> None:
    """Report what is known of an experiment, arm by arm and metric by metric.

    Intervals and p-values hold however often one looks. A unit is counted when its window is over.
    """
    found = _at_desk(config, lambda desk: desk.report(name))
    if plot is not None:
        _draw(found, plot)
    if as_json:
        emit(msgspec.to_builtins(found), as_json)
    else:
        _tell(found)


def _draw(found: Report, path: Path) -> None:
    primary = found.measured[0]
    tracks = []
    for effect in primary.effects:
        points = [point for point in found.points if point.arm == effect.arm]
        tracks.append(Track(
            f"{effect.arm} minus {primary.means[0].arm}", [point.units for point in points],
            [point.effect for point in points], [point.low for point in points], [point.high for point in points],
        ))  # fmt: skip
    title = f"{found.name}: {primary.metric} by units, {1 - found.alpha:.0%} confidence sequence"
    try:
        path.write_text(effect_chart(title, tracks, _number), encoding="utf-8")
    except OSError as error:
        raise click.FileError(str(path), error.strerror or str(error)) from error
    click.echo(f"Wrote {path}.", err=True)


def _tell(found: Report) -> None:
    click.echo(f"{found.units} units of {found.calls} calls are counted; {found.open} units are open, {found.left_out} "
               "calls left out.")  # fmt: skip
    if found.imbalance_p is not None and found.imbalance_p < 0.001:
        click.echo(f"The arms do not get the units they should (p = {found.imbalance_p:.2g}); nothing here can be "
                   "trusted before it is known why.")  # fmt: skip
    click.echo(f"By its rules: {found.decision.why}." if found.decision else "By its rules: go on.")
    click.echo()
    show_table(
        ("metric", "arm", "units", "mean", "difference", "from", "to", "p", "verdict"),
        [row for measured in found.measured for row in _rows(measured)],
    )


def _rows(measured: Measured) -> list[list[object]]:
    effects = {effect.arm: effect for effect in measured.effects}
    rows: list[list[object]] = []
    for mean in measured.means:
        row: list[object] = [measured.metric, mean.arm, mean.units, _number(mean.mean)]
        effect = effects.get(mean.arm)
        if effect is None:
            rows.append([*row, "", "", "", "", measured.role])
        else:
            edges = [_number(effect.low), _number(effect.high)]
            rows.append([*row, _number(effect.effect), *edges, _number(effect.p), _verdict(effect)])
    return rows


def _verdict(effect: Effect) -> str:
    return {True: "better", False: "worse", None: "open"}[effect.better]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _row(standing: Standing) -> dict[str, object]:
    shares = ", ".join(f"{arm} {share:.0%}" for arm, share in standing.arms.items())
    return {**msgspec.to_builtins(standing), "arms": shares, "since": _time(standing.since),
            "stopped_at": _time(standing.stopped_at)}  # fmt: skip


def _time(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M")


def _say(standing: Standing, *, as_json: bool) -> None:
    emit(msgspec.to_builtins(standing) if as_json else _row(standing), as_json)


def _at_desk(config: str | None, work: Callable[[Desk], Awaitable[T]]) -> T:
    """Run `work` on the configured experiments and the configured store; a server may use it meanwhile.

    Raises:
        ConfigError: The configuration cannot be used, or its store keeps nothing.
        PenstockError: As `work` does.
    """
    settings = load(config, probe=False).settings

    async def run() -> T:
        clock = SystemClock()
        async with open_desk(settings.store.url, clock) as (states, scores):
            return await work(Desk(compared(settings.experiments), states, scores, clock, settings.timeout_s))

    return asyncio.run(run())
