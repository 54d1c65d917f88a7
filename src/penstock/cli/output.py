"""How commands print: tables for people, JSON for programs."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

F = TypeVar("F", bound=Callable[..., Any])
_UNBOUNDED = 100_000
"""Columns of a pipe or file, where lines are not wrapped, so that `grep` finds whole rows."""


def json_option(command: F) -> F:
    """Give a command the flag ``--json`` as parameter `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def config_option(command: F) -> F:
    """Give a command the option ``--config FILE`` as parameter `config`."""
    return click.option(
        "--config",
        "-c",
        metavar="FILE",
        help="Configuration file; by default PENSTOCK_CONFIG, else penstock.yaml here.",
    )(command)


def emit(data: object, as_json: bool, columns: Sequence[str] | None = None) -> None:
    """Print `data` on stdout.

    Args:
        data: Rows (a list of mappings) are printed as a table, one mapping as two columns, anything else as it is.
        as_json: Print it as JSON instead.
        columns: Which keys of the rows to show, in order; by default those of the first row.
    """
    if as_json:
        click.echo(json.dumps(data, indent=2, ensure_ascii=False, default=str))
    elif isinstance(data, Mapping):
        show_table(("", ""), data.items(), header=False)
    elif isinstance(data, list) and data and all(isinstance(row, Mapping) for row in data):
        names = list(columns if columns is not None else data[0])
        show_table(names, ([row.get(name) for name in names] for row in data))
    elif isinstance(data, list):
        for item in data:
            click.echo(_cell(item))
    else:
        click.echo(_cell(data))


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, header: bool = True) -> None:
    """Print a table on stdout; numbers stand right, control characters are made visible."""
    rows = [list(row) for row in rows]
    table = Table(box=None, show_header=header, pad_edge=False, header_style="bold")
    for position, name in enumerate(columns):
        numbers = rows and all(isinstance(row[position], (int, float)) for row in rows)
        table.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    if sys.stdout.isatty():
        Console(file=sys.stdout, highlight=False).print(table)
        return
    text = io.StringIO()
    Console(file=text, width=_UNBOUNDED, highlight=False).print(table)
    click.echo("\n".join(line.rstrip() for line in text.getvalue().splitlines()))


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    text = f"{value:.10g}" if isinstance(value, float) else str(value)
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
