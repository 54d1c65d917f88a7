"""What `penstock keys` and `penstock teams` have in common: they work on the store, whether a server runs or not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

import click

from penstock.access.principal import Principal, Role
from penstock.access.ring import KeyRing
from penstock.accounts.directory import Accounts
from penstock.accounts.terms import DEFAULT
from penstock.config.loader import load
from penstock.core.clock import SystemClock
from penstock.pipeline import open_keys
from penstock.telemetry import logs

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., object])

BY = Principal(DEFAULT, "cli", Role.ROOT)
"""Whoever can write to the store may do everything."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(\d+)([smhdw])")


def with_accounts(config: str | None, as_json: bool, work: Callable[[Accounts], Awaitable[T]]) -> T:
    """Run `work` on the keys and teams of the configured store; changes are logged on stderr.

    Raises:
        ConfigError: The configuration cannot be used, or its store keeps nothing.
        PenstockError: As `work` does.
    """
    settings = load(config, probe=False).settings.store
    logs.configure(as_json=as_json)
    secret = None if settings.secret is None else settings.secret.get_secret_value()

    async def run() -> T:
        clock = SystemClock()
        async with open_keys(settings.url, clock) as store:
            accounts = Accounts(store, KeyRing(clock), clock, secret=secret, serving=False)
            await accounts.refresh()
            return await work(accounts)

    return asyncio.run(run())


def limit_options(command: F) -> F:
    """Give a command the options of what keys and teams may be limited to."""
    for option in (
        click.option("--tokens-per-minute", type=click.IntRange(1), help="Tokens a minute; by default no limit."),
        click.option("--requests-per-minute", type=click.IntRange(1), help="Requests a minute; by default no limit."),
        click.option("--models", metavar="NAME,...", callback=_models,
                     help="Models that may be used, also patterns such as 'gpt-4*'; by default all."),
    ):  # fmt: skip
        command = option(command)
    return command


class Duration(click.ParamType[float]):
    """A time such as 90s, 15m, 12h, 30d or 2w, as seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        found = _DURATION.fullmatch(str(value))
        if found is None:
            self.fail(f"{value!r} is not a time such as 90s, 15m, 12h, 30d or 2w", param, ctx)
        return float(found[1]) * _UNITS[found[2]]


class End(click.ParamType[float]):
    """A moment, as a duration from now or as an ISO date or time (UTC unless it says otherwise), in epoch seconds."""

    name = "end"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds since the epoch."""
        if isinstance(value, float):
            return value
        if _DURATION.fullmatch(str(value)):
            return SystemClock().wall() + Duration().convert(value, param, ctx)
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is neither a time such as 30d nor a date such as 2027-01-31", param, ctx)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _models(_ctx: click.Context, _param: click.Parameter, value: str | None) -> list[str] | None:
    return None if value is None else [name.strip() for name in value.split(",")]
