"""The penstock command; one file a subcommand, imported when it is called."""

from __future__ import annotations

import importlib

import click

from penstock import __version__
from penstock.core.errors import ConfigError, PenstockError

INVALID = 2
"""Exit code for a configuration or an argument that cannot be used; click's own for bad usage."""

COMMANDS = {
    "serve": ("penstock.cli.serve:serve", "Run the gateway."),
    "demo": ("penstock.cli.demo:demo", "Run the gateway with traffic to look at."),
    "config": ("penstock.cli.config:config", "Check, show, describe and import configurations."),
    "doctor": ("penstock.cli.doctor:doctor", "Find out what stands in the way, and how to mend it."),
    "keys": ("penstock.cli.keys:keys", "Make, list, rotate and end the keys of clients."),
    "budgets": ("penstock.cli.budgets:budgets", "List, set, show and remove what may be spent."),
    "teams": ("penstock.cli.teams:teams", "Make, list and change teams, which keys belong to."),
    "prices": ("penstock.cli.prices:prices", "Show what models cost, and where that is known from."),
    "alerts": ("penstock.cli.alerts:alerts", "Show what has been raised, list rules and metrics, and try sinks."),
    "experiments": (
        "penstock.cli.experiments:experiments",
        "List experiments, report what is known of them, stop and start them.",
    ),
    "templates": ("penstock.cli.templates:templates", "Look at prompts, render, check and roll them back."),
    "context": ("penstock.cli.context:context", "Show what of a conversation is sent."),
    "cache": ("penstock.cli.cache:cache", "Look into the caches of a running gateway, clear and fill them."),
    "cascade": ("penstock.cli.cascade:cascade", "Show what cascades have learnt and saved, and teach them."),
    "usage": ("penstock.cli.usage:usage", "Show what was asked, answered, saved and spent."),
}
"""Where each command is, and what `penstock --help` says of it without importing it."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command, or None when there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}:{attribute} is not a click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; Penstock's own errors become one message and an exit code instead of a traceback."""
        try:
            return super().invoke(ctx)
        except PenstockError as error:
            click.echo(f"penstock: {error}", err=True)
            ctx.exit(INVALID if isinstance(error, ConfigError) else 1)


def _print_reference(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(importlib.import_module("penstock.cli.reference").reference(), nl=False)
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="penstock")
@click.option(
    "--reference",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_reference,
    help="Print the reference page of the documentation.",
)
def main() -> None:
    """Penstock: the gate between an application and its language models."""
