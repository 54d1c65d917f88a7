"""The command line's reference page, written from the commands themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from penstock.cli import main

_HEAD = """# Command line

This page is written by `penstock --reference`. Every command also takes `-h` and `--help`; `python -m penstock` is the
same as `penstock`.

Exit codes, where a command does not say otherwise: 0 it worked, 1 it did not (the reason is on stderr), 2 the
configuration or an argument cannot be used. `--json` prints for programs what is otherwise printed for people."""
_NO_MEMBERS = "[COMMAND]"
"""What click shows for a group that has no commands yet."""


def reference() -> str:
    """The reference page, in Markdown."""
    lines = [_HEAD]
    context = click.Context(main, info_name="penstock")
    for name, command in _members(main, context):
        lines += _command(command, name, context)
    return "\n".join(lines) + "\n"


def _members(group: click.Group, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is not None:
            yield name, command


def _command(command: click.Command, name: str, parent: click.Context) -> list[str]:
    context = click.Context(command, info_name=name, parent=parent)
    members = list(_members(command, context)) if isinstance(command, click.Group) else []
    others = [line for each, member in members for line in _command(member, each, context)]
    if others and not (isinstance(command, click.Group) and command.invoke_without_command):
        return others
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)]).partition(f" {_NO_MEMBERS}")[0]
    about = inspect.cleandoc(command.help or "")
    return [f"\n## `{context.command_path}`\n", f"    {usage}\n", about, *_options(command, context), *others]


def _options(command: click.Command, context: click.Context) -> list[str]:
    records = [option.get_help_record(context) for option in command.params if isinstance(option, click.Option)]
    rows = [f"- `{names}`: {' '.join(about.split())}" for names, about in filter(None, records)]
    return ["", *rows] if rows else []
