"""penstock keys: make, list, change, rotate and end the keys of clients."""

from __future__ import annotations

from typing import Any

import click

from penstock.access.principal import GRANTABLE
from penstock.accounts.directory import Accounts
from penstock.accounts.keys import Keys, KeyTerms, describe_key
from penstock.accounts.terms import DEFAULT
from penstock.cli.accounts import BY, Duration, End, limit_options, with_accounts
from penstock.cli.output import config_option, emit, json_option

COLUMNS = ("id", "name", "hint", "tenant", "role", "status", "expires_at", "requests_per_minute", "tokens_per_minute",
           "models")  # fmt: skip


@click.group()
def keys() -> None:
    """Make, list, change, rotate and end the keys of clients.

    They are kept in the configured store; a running server knows of changes within two seconds. Exit codes: 0 done,
    1 there is no such key or it cannot be done, 2 the configuration or an argument cannot be used.
    """


@keys.command()
@click.argument("name")
@click.option("--tenant", default=DEFAULT, show_default=True, metavar="ORGANISATION/TEAM", help="Who it is for.")
@click.option("--role", default="user", show_default=True, type=click.Choice(list(GRANTABLE)), help="What it may do.")
@click.option("--expires", type=End(), metavar="TIME", help="When it ends: such as 30d, or a date; by default never.")
@limit_options
@config_option
@json_option
def create(  # noqa: PLR0913 an option each
    name: str,
    tenant: str,
    role: str,
    expires: float | None,
    models: list[str] | None,
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    config: str | None,
    as_json: bool,
) -> None:
    """Make a key called NAME and print it; it cannot be shown again."""
    terms = KeyTerms(name, tenant, role, models, requests_per_minute, tokens_per_minute, expires)

    async def work(accounts: Accounts) -> tuple[dict[str, Any], str]:
        key, text = await Keys(accounts, BY).create(terms)
        return describe_key(key, accounts.clock.wall()), text

    _print_new(*with_accounts(config, as_json, work), as_json)


@keys.command("list")
@click.option("--tenant", metavar="NAME", help="Only those of this team or organisation.")
@config_option
@json_option
def list_(tenant: str | None, config: str | None, as_json: bool) -> None:
    """List keys, oldest first."""

    async def work(accounts: Accounts) -> list[dict[str, Any]]:
        return [describe_key(key, accounts.clock.wall()) for key in await Keys(accounts, BY).list(tenant)]

    found = with_accounts(config, as_json, work)
    if found or as_json:
        emit(found, as_json, COLUMNS)
    else:
        click.echo("There are no keys.")


@keys.command()
@click.argument("key_id")
@config_option
@json_option
def show(key_id: str, config: str | None, as_json: bool) -> None:
    """Show one key, without its text."""

    async def work(accounts: Accounts) -> dict[str, Any]:
        return describe_key(await Keys(accounts, BY).get(key_id), accounts.clock.wall())

    emit(with_accounts(config, as_json, work), as_json)


@keys.command()
@click.argument("key_id")
@click.option("--name", help="What people call it.")
@click.option("--role", type=click.Choice(list(GRANTABLE)), help="What it may do.")
@click.option("--expires", "expires_at", type=End(), metavar="TIME", help="When it ends: such as 30d, or a date.")
@click.option("--endless", is_flag=True, help="Take its end away.")
@limit_options
@click.option("--unlimited", is_flag=True, help="Take away the limits and the models that are not named here.")
@config_option
@json_option
def update(
    key_id: str,
    endless: bool,
    unlimited: bool,
    config: str | None,
    as_json: bool,
    **options: Any,  # noqa: ANN401 one an option
) -> None:
    """Change what is named of a key; its text stays the same."""
    if endless and options["expires_at"] is not None:
        raise click.UsageError("either --expires or --endless, not both")
    taken = {"expires_at"} if endless else set()
    taken |= {"models", "requests_per_minute", "tokens_per_minute"} if unlimited else set()
    changes = {name: value for name, value in options.items() if value is not None or name in taken}

    async def work(accounts: Accounts) -> dict[str, Any]:
        return describe_key(await Keys(accounts, BY).update(key_id, changes), accounts.clock.wall())

    emit(with_accounts(config, as_json, work), as_json)


@keys.command()
@click.argument("key_id")
@click.option("--overlap", type=Duration(), default="1d", show_default=True, help="How long the old one stays valid.")
@config_option
@json_option
def rotate(key_id: str, overlap: float, config: str | None, as_json: bool) -> None:
    """Make a key that replaces another, and print it; the old one stays valid for a while."""

    async def work(accounts: Accounts) -> tuple[dict[str, Any], str]:
        key, text = await Keys(accounts, BY).rotate(key_id, overlap_s=overlap)
        return describe_key(key, accounts.clock.wall()), text

    _print_new(*with_accounts(config, as_json, work), as_json)


@keys.command()
@click.argument("key_id")
@config_option
@json_option
def revoke(key_id: str, config: str | None, as_json: bool) -> None:
    """End a key at once and for good; it stays in the list."""

    async def work(accounts: Accounts) -> dict[str, Any]:
        return describe_key(await Keys(accounts, BY).revoke(key_id), accounts.clock.wall())

    emit(with_accounts(config, as_json, work), as_json)


@keys.command()
@click.argument("key_id")
@config_option
@json_option
def delete(key_id: str, config: str | None, as_json: bool) -> None:
    """Remove a key; the record of its calls keeps its id."""

    async def work(accounts: Accounts) -> dict[str, Any]:
        await Keys(accounts, BY).delete(key_id)
        return {"id": key_id, "deleted": True}

    emit(with_accounts(config, as_json, work), as_json)


def _print_new(shown: dict[str, Any], text: str, as_json: bool) -> None:
    """Print a key; without ``--json`` nothing else, so that a shell can take it."""
    if as_json:
        emit({**shown, "key": text}, as_json)
    else:
        click.echo(text)
        click.echo(f"{shown['id']}, {shown['role']} of {shown['tenant']}. It is not shown again.", err=True)
