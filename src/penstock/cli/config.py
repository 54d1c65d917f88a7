"""penstock config: check, show, describe and import configurations."""

from __future__ import annotations

import os
from typing import Any

import click

from penstock.cli import INVALID
from penstock.cli.output import emit, json_option
from penstock.config.importing import import_litellm
from penstock.config.kinds import ROWS
from penstock.config.loader import find_file, load
from penstock.config.provenance import dotted, leaves
from penstock.config.reference import reference
from penstock.config.schema import json_schema
from penstock.core.errors import ConfigError

_file = click.argument("file", required=False, metavar="[FILE]")


@click.group()
def config() -> None:
    """Check, show, describe and import configurations."""


@config.command()
@_file
@click.option("--strict", is_flag=True, help="Exit with 1 when there are warnings.")
@json_option
def check(file: str | None, strict: bool, as_json: bool) -> None:
    """Say whether a configuration can be used.

    Without FILE it is the one `penstock serve` would use. Exit codes: 0 it can, 1 there are warnings and --strict was
    given, 2 it cannot.
    """
    try:
        loaded = load(file)
    except ConfigError as error:
        if not as_json:
            raise
        problems = [problem_row(each) for each in error.problems or (error,)]
        emit({"valid": False, "path": find_file(file), "problems": problems, "warnings": []}, as_json)
        raise click.exceptions.Exit(INVALID) from None
    if as_json:
        emit({"valid": True, "path": loaded.path, "problems": [], "warnings": loaded.warnings}, as_json)
    else:
        for warning in loaded.warnings:
            click.echo(f"warning: {warning}", err=True)
        providers, models = len(loaded.settings.providers), len(loaded.settings.models)
        where = loaded.path or "the environment (there is no file)"
        click.echo(f"{where}: valid; providers: {providers}, models: {models}, warnings: {len(loaded.warnings)}")
    if strict and loaded.warnings:
        raise click.exceptions.Exit(1)


@config.command()
@_file
@click.option("--kinds", is_flag=True, help="List what a provider's `kind` may be instead.")
@json_option
def show(file: str | None, kinds: bool, as_json: bool) -> None:
    """Print every setting with where its value comes from; secrets are masked."""
    if kinds:
        columns = ("name", "dialect", "base_url", "key_env", "models")
        rows: list[dict[str, Any]] = [row._asdict() for row in ROWS]
        emit(rows if as_json else [{**row, "models": " ".join(row["models"])} for row in rows], as_json, columns)
        return
    loaded = load(file)
    values = {dotted(path): value for path, value in leaves(loaded.settings.document())}
    if as_json:
        settings = {key: {"value": value, "source": loaded.sources[key]} for key, value in values.items()}
        emit({"path": loaded.path, "settings": settings, "warnings": loaded.warnings}, as_json)
        return
    emit([{"setting": key, "value": value, "source": loaded.sources[key]} for key, value in values.items()], as_json)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)


@config.command()
@click.option("--markdown", is_flag=True, help="Print the reference page of the documentation instead.")
@click.option("--json", "_json", is_flag=True, help="Print JSON, as without it.")
def schema(markdown: bool, _json: bool) -> None:
    """Print the JSON Schema (draft 2020-12) of penstock.yaml, for editors."""
    if markdown:
        click.echo(reference(), nl=False)
    else:
        emit(json_schema(), as_json=True)


@config.command("import")
@click.argument("file")
@click.option("--output", "-o", metavar="FILE", help="Write here instead of to stdout; readable by you only.")
@click.option("--force", is_flag=True, help="Replace the file of --output if there is one.")
@json_option
def import_(file: str, output: str | None, force: bool, as_json: bool) -> None:
    """Turn the configuration of LiteLLM's proxy in FILE into a penstock.yaml.

    What could not be carried over is listed on stderr.
    """
    imported = import_litellm(file)
    if output is not None:
        _write(output, imported.yaml(), force=force)
    if as_json:
        rows = [each._asdict() for each in imported.lost]
        emit({"path": output, "settings": imported.settings, "lost": rows}, as_json)
        return
    if output is None:
        click.echo(imported.yaml(), nl=False)
    else:
        click.echo(f"{output}: written; check it with: penstock config check {output}")
    for lost in imported.lost:
        place = f"{file}:{lost.line}" if lost.line is not None else file
        click.echo(f"not carried over: {place}: {lost.key}: {lost.reason}", err=True)


def problem_row(error: ConfigError) -> dict[str, Any]:
    """Return what is wrong with a file as a row for programs."""
    fields = ("message", "file", "line", "key", "expected")
    return {name: getattr(error, name) for name in fields}


def _write(path: str, text: str, *, force: bool) -> None:
    """Keys may be in it, so others may not read it."""
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | (0 if force else os.O_EXCL)
        with open(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError("the file exists; use --force to replace it", file=path) from None
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror or error}", file=path) from None
