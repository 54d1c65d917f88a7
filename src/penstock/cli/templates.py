"""penstock templates: look at prompts, render, check and compare them, and roll them back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, Protocol, TypeVar
from urllib.parse import quote

import click
import msgspec

from penstock.cli import INVALID
from penstock.cli.config import problem_row
from penstock.cli.output import config_option, emit, json_option
from penstock.cli.running import Running, running_options
from penstock.config.loader import load
from penstock.core.errors import ConfigError
from penstock.core.prompt import PRODUCTION, PromptVersion
from penstock.prompt_library import PromptLibrary
from penstock.prompts.difference import difference
from penstock.server.admin.templates import details_of, summary_of

F = TypeVar("F", bound=Callable[..., Any])
_PATH = "/admin/templates"


class _Prompts(Protocol):
    """Where prompts are looked at; answers are those of the admin API."""

    def list(self) -> Sequence[dict[str, Any]]: ...

    def get(self, name: str) -> dict[str, Any]: ...

    def render(self, name: str, version: str | None, variables: Mapping[str, Any]) -> dict[str, Any]: ...


class _Files:
    """Prompts of a directory."""

    def __init__(self, directory: str) -> None:
        self._library = PromptLibrary(directory)

    def list(self) -> Sequence[dict[str, Any]]:
        return [summary_of(self._library.current.find(name)) for name in self._library.list()]

    def get(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(details_of(self._library.current.find(name)))
        return found

    def render(self, name: str, version: str | None, variables: Mapping[str, Any]) -> dict[str, Any]:
        said: dict[str, Any] = msgspec.to_builtins(self._library.render(name, variables, version))
        return said


class _Served:
    """Prompts of a gateway that runs."""

    def __init__(self, gateway: Running) -> None:
        self._gateway = gateway

    def list(self) -> Sequence[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._gateway.get(_PATH)["data"]
        return rows

    def get(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._gateway.get(f"{_PATH}/{quote(name, safe='')}")
        return found

    def render(self, name: str, version: str | None, variables: Mapping[str, Any]) -> dict[str, Any]:
        body = {"version": version, "variables": dict(variables)}
        said: dict[str, Any] = self._gateway.post(f"{_PATH}/{quote(name, safe='')}/render", body)
        said.pop("object", None)
        return said


def _source(command: F) -> F:
    """Give a command the options that say whose prompts, as the parameters `gateway` and `directory`."""
    option = click.option(
        "--directory", "-d", metavar="DIR", help="Look at the files in DIR, as they are, instead of asking a gateway."
    )
    return running_options(option(command))


def _prompts(gateway: Running, directory: str | None) -> _Prompts:
    return _Served(gateway) if directory is None else _Files(directory)


@click.group()
def templates() -> None:
    """Look at prompts, render, check and compare them, and roll them back.

    They are those of a running gateway, or with --directory those of files.
    """


@templates.command("list")
@_source
@json_option
def list_(gateway: Running, directory: str | None, as_json: bool) -> None:
    """List prompts, with their versions, labels and variables."""
    rows = _prompts(gateway, directory).list()
    if as_json:
        emit(rows, as_json)
    elif not rows:
        click.echo("There are none.")
    else:
        emit([_row(row) for row in rows], as_json)


@templates.command()
@click.argument("name")
@click.option("--version", metavar="VERSION", help="Only this version, or the one with this label.")
@_source
@json_option
def show(gateway: Running, directory: str | None, name: str, version: str | None, as_json: bool) -> None:
    """Show what NAME says in each version, and how its labels moved."""
    found = _prompts(gateway, directory).get(name)
    if version is not None:
        wanted = _chosen(found, version)
        found["details"] = {wanted: found["details"][wanted]}
    if as_json:
        emit(found, as_json)
        return
    emit(_row(found), as_json)
    for number, said in found["details"].items():
        labels = ", ".join(label for label, each in found["labels"].items() if each == number)
        click.echo(f"\nversion {number}{f' ({labels})' if labels else ''} {said['description']}".rstrip())
        for text in said["texts"]:
            click.echo(f"{text['role'] or 'text'}:")
            click.echo("\n".join(f"  {line}" for line in text["source"].rstrip("\n").split("\n")))
    for move in found["moves"]:
        click.echo(f"\n{move['label']}: from {move['before']} to {move['after']} by {move['by'] or 'unknown'}")


@templates.command()
@click.argument("name")
@click.option("--version", metavar="VERSION", help=f"A version or a label; by default {PRODUCTION}, else the newest.")
@click.option(
    "--var", "pairs", multiple=True, metavar="NAME=VALUE", help="A variable; text, or JSON as its type needs."
)
@click.option(
    "--variables", "file", type=click.File("rb"), metavar="FILE", help="Variables as a JSON object; - is stdin."
)
@_source
@json_option
def render(
    gateway: Running,
    directory: str | None,
    name: str,
    version: str | None,
    pairs: Sequence[str],
    file: IO[bytes] | None,
    as_json: bool,
) -> None:
    """Print what NAME says with these variables; no model is asked."""
    prompts = _prompts(gateway, directory)
    variables = _object(file) if file is not None else {}
    if pairs:
        found = prompts.get(name)
        declared = found["details"][_chosen(found, version or PRODUCTION)]["variables"]
        variables |= dict(_pair(pair, declared) for pair in pairs)
    said = prompts.render(name, version, variables)
    if as_json:
        emit(said, as_json)
        return
    if said["text"] is not None:
        click.echo(said["text"])
    for message in said["messages"] or ():
        click.echo(f"{message['role']}:\n" + "\n".join(f"  {line}" for line in message["content"].split("\n")))


@templates.command()
@click.argument("directory", required=False, metavar="[DIR]")
@config_option
@json_option
def check(directory: str | None, config: str | None, as_json: bool) -> None:
    """Say whether the prompts in DIR can be used, without a gateway.

    Without DIR it is `prompts.directory` of the configuration. Exit codes: 0 they can, 2 they cannot.
    """
    directory = directory or load(config, probe=False).settings.prompts.directory
    if directory is None:
        raise ConfigError("expected DIR, or prompts.directory in the configuration")
    try:
        library = PromptLibrary(directory)
    except ConfigError as error:
        if not as_json:
            raise
        problems = [problem_row(each) for each in error.problems or (error,)]
        emit({"valid": False, "directory": directory, "prompts": [], "problems": problems}, as_json)
        raise click.exceptions.Exit(INVALID) from None
    names = library.list()
    if as_json:
        emit({"valid": True, "directory": directory, "prompts": names, "problems": []}, as_json)
    else:
        click.echo(f"{directory}: valid; prompts: {len(names)}")


@templates.command()
@click.argument("name")
@click.argument("before")
@click.argument("after", required=False)
@_source
@json_option
def diff(gateway: Running, directory: str | None, name: str, before: str, after: str | None, as_json: bool) -> None:
    """Print what changes from version BEFORE of NAME to AFTER (by default the one in production).

    Labels will do for versions. Exit codes: 0 nothing differs, 1 something does.
    """
    found = _prompts(gateway, directory).get(name)
    one, two = (
        msgspec.convert(found["details"][_chosen(found, version)], PromptVersion)
        for version in (before, after or PRODUCTION)
    )  # fmt: skip
    lines = difference(one, two)
    emit({"before": one.version, "after": two.version, "diff": lines}, as_json) if as_json else emit(lines, as_json)
    if lines:
        raise click.exceptions.Exit(1)


@templates.command()
@running_options
@json_option
def reload(gateway: Running, as_json: bool) -> None:
    """Have the gateway read the files again; if one cannot be used, all stays as it is, exit code 1."""
    done = gateway.post(f"{_PATH}/reload")
    done.pop("object", None)
    told = {what: ", ".join(each) or None if isinstance(each, list) else each for what, each in done.items()}
    emit(done if as_json else told, as_json)


@templates.command()
@click.argument("name")
@click.option("--label", default=PRODUCTION, show_default=True, metavar="LABEL", help="Which label.")
@click.option("--to", metavar="VERSION", help="The version it stands for from now on; by default the one before.")
@running_options
@json_option
def rollback(gateway: Running, name: str, label: str, to: str | None, as_json: bool) -> None:
    """Let a label of NAME stand for the version before; it holds until the files say something new."""
    done = gateway.post(f"{_PATH}/{quote(name, safe='')}/rollback", {"label": label, "to": to})
    done.pop("object", None)
    emit(done if as_json else f"{label} of {name}: from {done['before']} to {done['after']}", as_json)


def _chosen(found: Mapping[str, Any], version: str) -> str:
    """Return the name of a version that is given by itself or by a label.

    Raises:
        ConfigError: There is none.
    """
    wanted: str = found["labels"].get(version, version)
    if wanted not in found["details"]:
        known = ", ".join([*found["versions"], *found["labels"]])
        raise ConfigError(f"the prompt {found['name']} has no version or label {version!r}", expected=f"one of {known}")
    return wanted


def _row(found: Mapping[str, Any]) -> dict[str, Any]:
    needed = [name if each["required"] else f"[{name}]" for name, each in found["variables"].items()]
    return {
        "name": found["name"],
        "versions": ", ".join(found["versions"]),
        "labels": ", ".join(f"{label}={version}" for label, version in found["labels"].items()),
        "variables": ", ".join(needed) or None,
        "model": found["model"],
        "description": found["description"] or None,
    }


def _pair(text: str, declared: Mapping[str, Any]) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--var {text!r} has no value", expected="NAME=VALUE")
    if declared.get(name, {}).get("type", "string") in ("string", "enum"):
        return name, value
    try:
        return name, json.loads(value)
    except ValueError:
        raise ConfigError(f"--var {name}: not valid JSON", expected=f"a {declared[name]['type']} as JSON") from None


def _object(file: IO[bytes]) -> dict[str, Any]:
    try:
        given = json.load(file)
    except ValueError as error:
        raise ConfigError(f"--variables: not valid JSON: {error}") from None
    if not isinstance(given, dict):
        raise ConfigError("--variables: not a JSON object")
    return given
