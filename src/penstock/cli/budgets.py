"""penstock budgets: list, set, show and remove what may be spent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import click

from penstock.accounts.budgets import Budgets, BudgetTerms
from penstock.cli.accounts import BY
from penstock.cli.output import config_option, emit, json_option
from penstock.config.budgets import configured
from penstock.config.loader import load
from penstock.core.clock import SystemClock
from penstock.pipeline import open_budgets
from penstock.telemetry import logs

T = TypeVar("T")
COLUMNS = ("id", "scope", "subject", "period", "unit", "amount", "spent", "held", "remaining", "unpriced", "source")


class Amount(click.ParamType[Decimal]):
    """A number such as 20 or 0.5, exactly."""

    name = "amount"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """Return it."""
        try:
            return Decimal(str(value))
        except InvalidOperation:
            self.fail(f"{value!r} is not a number", param, ctx)


@click.group()
def budgets() -> None:
    """List, set, show and remove what may be spent.

    They are kept in the configured store, beside those of the configuration; a running server knows of changes within
    two seconds. Exit codes: 0 done, 1 there is no such budget or it cannot be done, 2 the configuration or an argument
    cannot be used.
    """


@budgets.command("list")
@click.option("--subject", metavar="NAME", help="Only those of this organisation, team or key.")
@config_option
@json_option
def list_(subject: str | None, config: str | None, as_json: bool) -> None:
    """List budgets, with what is spent and held now."""
    found = _with_budgets(config, as_json, lambda budgets: budgets.list(subject))
    if found or as_json:
        emit(found, as_json, COLUMNS)
    else:
        click.echo("There are no budgets.")


@budgets.command("set")
@click.argument("scope", type=click.Choice(["organisation", "team", "key"]))
@click.argument("subject")
@click.argument("amount", type=Amount())
@click.option("--period", default="month", show_default=True, type=click.Choice(["day", "month", "total"]),
              help="Of the calendar in UTC, or for ever.")  # fmt: skip
@click.option("--unit", default="usd", show_default=True, type=click.Choice(["usd", "tokens"]), help="What is counted.")
@click.option("--soft", multiple=True, type=float, metavar="SHARE", help="Tell when this share is spent, such as 0.8.")
@click.option("--allow-unpriced", is_flag=True, help="Allow models without a price, and do not count what they cost.")
@config_option
@json_option
def set_(config: str | None, as_json: bool, soft: tuple[float, ...], **terms: Any) -> None:  # noqa: ANN401 as click has them
    """Let SUBJECT spend AMOUNT; a budget of the same scope, subject, period and unit is changed.

    SUBJECT is an organisation, a team (ORGANISATION/TEAM), or a key's id.
    """
    wanted = BudgetTerms(soft=list(soft), **terms)
    emit(_with_budgets(config, as_json, lambda budgets: budgets.set(wanted)), as_json)


@budgets.command()
@click.argument("budget_id")
@config_option
@json_option
def show(budget_id: str, config: str | None, as_json: bool) -> None:
    """Show one budget."""
    emit(_with_budgets(config, as_json, lambda budgets: budgets.get(budget_id)), as_json)


@budgets.command()
@click.argument("budget_id")
@config_option
@json_option
def delete(budget_id: str, config: str | None, as_json: bool) -> None:
    """Remove a budget, and what is known of its spending; the record of calls stays."""

    async def work(budgets: Budgets) -> dict[str, Any]:
        await budgets.delete(budget_id)
        return {"id": budget_id, "deleted": True}

    emit(_with_budgets(config, as_json, work), as_json)


def _with_budgets(config: str | None, as_json: bool, work: Callable[[Budgets], Awaitable[T]]) -> T:
    """Run `work` on the budgets of the configured store; changes are logged on stderr.

    Raises:
        ConfigError: The configuration cannot be used, or its store keeps nothing.
        PenstockError: As `work` does.
    """
    settings = load(config, probe=False).settings
    logs.configure(as_json=as_json)

    async def run() -> T:
        clock = SystemClock()
        async with open_budgets(settings.store.url, clock) as (store, keys):
            known = {key.id: key for key in (await keys.directory()).keys}
            return await work(Budgets(store, BY, clock, known, lambda: configured(settings.budgets)))

    return asyncio.run(run())
