"""penstock alerts: what has been raised, which rules there are, and whether sinks can be reached."""

from __future__ import annotations

import asyncio
import uuid
from datetime import datetime

import click
import msgspec

from penstock.cli.output import config_option, emit, json_option
from penstock.config.loader import load
from penstock.core.clock import SystemClock
from penstock.core.errors import ConfigError, DeliveryFailed
from penstock.insight.alerts import BUILT_IN
from penstock.insight.measures import GAUGES, MEASURES
from penstock.looking_back import alert_history
from penstock.monitoring.monitor import rule_of
from penstock.notify.building import build_sinks
from penstock.notify.message import Message

COLUMNS = ("at", "state", "severity", "rule", "message")


@click.group()
def alerts() -> None:
    """Show what has been raised, list rules and metrics, and try sinks."""


@alerts.command("list")
@config_option
@click.option("--store", metavar="URL", help="Read this store instead of the configured one.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="How many, newest first.")
@json_option
def list_(config: str | None, store: str | None, limit: int, as_json: bool) -> None:
    """List the newest alerts, begun and over. A server may be running meanwhile."""
    url = store or load(config, probe=False).settings.store.url
    events = [msgspec.to_builtins(event) for event in alert_history(url, limit)]
    if not as_json:
        if not events:
            click.echo("No alert was ever raised.")
            return
        for event in events:
            event["at"] = datetime.fromtimestamp(event["at"]).strftime("%Y-%m-%d %H:%M:%S")
    emit(events, as_json, COLUMNS)


@alerts.command()
@config_option
@json_option
def rules(config: str | None, as_json: bool) -> None:
    """List the rules in force, and what each is about."""
    settings = load(config, probe=False).settings.alerts
    known = {rule.name: rule for rule in BUILT_IN} if settings.built_in else {}
    known |= {rule.name: rule_of(rule) for rule in settings.rules}
    rows = [
        {
            "name": rule.name,
            "metric": rule.metric,
            "operator": rule.operator,
            "threshold": rule.threshold,
            "window_s": rule.window_s,
            "for_s": rule.for_s,
            "severity": rule.severity,
            "actions": list(rule.actions) if as_json else ", ".join(rule.actions) or None,
        }
        for rule in known.values()
    ]
    emit(rows, as_json)


@alerts.command()
@json_option
def metrics(as_json: bool) -> None:
    """List what rules can be about."""
    known = {name: text for name, (text, _) in MEASURES.items()} | dict(GAUGES)
    emit([{"metric": name, "meaning": text} for name, text in known.items()], as_json)


@alerts.command()
@config_option
@click.argument("sink")
@json_option
def test(config: str | None, sink: str, as_json: bool) -> None:
    """Send a test message to SINK; exit code 1 if it does not arrive."""
    clock = SystemClock()
    sinks = build_sinks(load(config, probe=False).settings.sinks, clock)
    if sink not in sinks:
        raise ConfigError(f"there is no sink {sink!r}", key="sinks", expected=", ".join(sinks) or "none is configured")
    message = Message(
        f"msg_{uuid.uuid4().hex}", "test", clock.wall(), "Penstock test message",
        "This is a test. Alerts and reports will arrive here.",
    )  # fmt: skip
    try:
        asyncio.run(sinks[sink].send(message))
    except DeliveryFailed as error:
        if not as_json:
            raise
        emit({"sink": sink, "delivered": False, "error": error.message}, as_json)
        raise SystemExit(1) from error
    emit({"sink": sink, "delivered": True} if as_json else f"{sink}: delivered", as_json)
