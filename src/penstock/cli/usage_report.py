"""penstock usage report: a period in figures, for people, spreadsheets, programs and browsers."""

from __future__ import annotations

from pathlib import Path

import click

from penstock.cli.output import config_option
from penstock.config.loader import load
from penstock.usage import FORMATS, GROUPS, usage_report


def store_option(command: click.decorators.FC) -> click.decorators.FC:
    """Give a command the option ``--store URL`` as parameter `store`."""
    return click.option("--store", metavar="URL", help="Use this store instead of the configured one.")(command)


def store_url(config: str | None, store: str | None) -> str:
    """Return the store a command is about.

    Raises:
        ConfigError: The configuration cannot be used.
    """
    return store or load(config, probe=False).settings.store.url


def names(text: str) -> tuple[str, ...]:
    """Split what ``--by`` was given."""
    parts = (part.strip() for part in text.split(","))
    return tuple(part for part in parts if part)


@click.command()
@config_option
@store_option
@click.option("--days", default=30.0, show_default=True, type=click.FloatRange(min=0), help="How far back to look.")
@click.option("--by", default="model", show_default=True, metavar="NAME,...",
              help=f"Split by some of {', '.join(GROUPS)}; team means tenant.")  # fmt: skip
@click.option("--tenant", metavar="NAME", help="Only this tenant's calls, or those of all teams of an organisation.")
@click.option("--format", "form", default="text", show_default=True, type=click.Choice(list(FORMATS)),
              help="html is one file with charts that opens offline.")  # fmt: skip
@click.option("--output", "-o", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
              help="Write there instead of printing.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def report(
    config: str | None, store: str | None, days: float, by: str, tenant: str | None, form: str, output: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Report on the last days, with trends, ratings and what failed.

    Figures come from sums that are kept by the hour for three days, then by the day (UTC), latencies after five weeks
    by the week. So a period begins at a full hour, at midnight or on a Monday. Percentiles are within 2.5 %. Sums stay
    when the calls themselves are removed.
    """
    found = usage_report(store_url(config, store), days=days, by=names(by), tenant=tenant)
    page = FORMATS["json" if as_json else form].render(found)
    if output is None:
        click.echo(page, nl=False)
        return
    try:
        output.write_text(page, encoding="utf-8", newline="")
    except OSError as error:
        raise click.FileError(str(output), error.strerror or str(error)) from error
    click.echo(f"Wrote {output}.", err=True)
