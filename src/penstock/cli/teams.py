"""penstock teams: make, list and change teams."""

from __future__ import annotations

from typing import Any

import click

from penstock.accounts.directory import Accounts
from penstock.accounts.teams import Teams, TeamTerms, describe_team
from penstock.cli.accounts import BY, limit_options, with_accounts
from penstock.cli.output import config_option, emit, json_option


@click.group()
def teams() -> None:
    """Make, list and change teams, which keys belong to.

    A team is called ORGANISATION/TEAM and shares nothing with others; what is set for an ORGANISATION holds for all its
    teams together. Exit codes: 0 done, 1 there is no such team or it cannot be done, 2 the configuration or an
    argument cannot be used.
    """


@teams.command()
@click.argument("tenant", metavar="ORGANISATION/TEAM")
@click.option("--name", help="What people call it.")
@limit_options
@config_option
@json_option
def create(
    tenant: str,
    name: str | None,
    models: list[str] | None,
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    config: str | None,
    as_json: bool,
) -> None:
    """Make a team."""
    terms = TeamTerms(tenant, name, models, requests_per_minute, tokens_per_minute)

    async def work(accounts: Accounts) -> dict[str, Any]:
        return describe_team(await Teams(accounts, BY).create(terms))

    emit(with_accounts(config, as_json, work), as_json)


@teams.command("list")
@click.option("--organisation", metavar="NAME", help="Only those of this organisation.")
@config_option
@json_option
def list_(organisation: str | None, config: str | None, as_json: bool) -> None:
    """List teams, oldest first."""

    async def work(accounts: Accounts) -> list[dict[str, Any]]:
        return [describe_team(team) for team in await Teams(accounts, BY).list(organisation)]

    found = with_accounts(config, as_json, work)
    if found or as_json:
        emit(found, as_json, [name for name in found[0] if name != "object"] if found else None)
    else:
        click.echo("There are no teams.")


@teams.command()
@click.argument("tenant", metavar="ORGANISATION/TEAM")
@config_option
@json_option
def show(tenant: str, config: str | None, as_json: bool) -> None:
    """Show one team."""

    async def work(accounts: Accounts) -> dict[str, Any]:
        return describe_team(await Teams(accounts, BY).get(tenant))

    emit(with_accounts(config, as_json, work), as_json)


@teams.command()
@click.argument("tenant", metavar="ORGANISATION/TEAM")
@click.option("--name", help="What people call it.")
@limit_options
@click.option("--unlimited", is_flag=True, help="Take away the limits and the models that are not named here.")
@click.option("--archive/--restore", "archived", default=None, help="Make its keys invalid, or valid again.")
@config_option
@json_option
def update(
    tenant: str,
    unlimited: bool,
    config: str | None,
    as_json: bool,
    **options: Any,  # noqa: ANN401 one an option
) -> None:
    """Change what is named of a team."""
    limits = ("models", "requests_per_minute", "tokens_per_minute")
    changes = {name: value for name, value in options.items() if value is not None or (unlimited and name in limits)}

    async def work(accounts: Accounts) -> dict[str, Any]:
        return describe_team(await Teams(accounts, BY).update(tenant, changes))

    emit(with_accounts(config, as_json, work), as_json)
