"""The history of alerts."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import insert, select
from sqlalchemy.engine import Connection, Row

from penstock.core.alert import AlertEvent
from penstock.core.errors import StoreError
from penstock.stores.sql import queries
from penstock.stores.sql.account_tables import alert_events
from penstock.stores.sql.database import Database
from penstock.stores.sql.reports import file_of

_INSERT = insert(alert_events)


class SqlAlertStore:
    """`penstock.abc.AlertStore` in a database."""

    lasting = False

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, event: AlertEvent) -> None:
        """Queue an event. Never waits, never raises."""
        self._database.writer.put(self, event)

    async def events(self, limit: int) -> Sequence[AlertEvent]:
        """Return the newest events, newest first.

        Raises:
            StoreError: They could not be read.
        """
        return await self._database.read(lambda connection: _newest(connection, limit))

    def write(self, connection: Connection, items: Sequence[AlertEvent]) -> None:
        """Write in the writer's thread."""
        connection.execute(_INSERT, [_row(event) for event in items])

    def settled(self, items: Sequence[AlertEvent], error: StoreError | None) -> None:
        """Nobody waits; the writer counts what is lost."""


def read_events(url: str, limit: int) -> list[AlertEvent]:
    """Return the newest events of a store, newest first.

    Raises:
        ConfigError: The URL cannot be used, or there is no such file yet.
        StoreError: The file cannot be read.
    """
    with queries.reading(file_of(url)) as connection:
        return _newest(connection, limit)


def _newest(connection: Connection, limit: int) -> list[AlertEvent]:
    statement = select(alert_events).order_by(alert_events.c.at.desc(), alert_events.c.id.desc()).limit(limit)
    return [_event(row) for row in connection.execute(statement)]


def _row(event: AlertEvent) -> dict[str, object]:
    return {
        "rule": event.rule,
        "state": event.state,
        "severity": event.severity,
        "at": int(event.at * 1e6),
        "value": event.value,
        "threshold": event.threshold,
        "message": event.message,
        "repeated": event.repeated,
    }


def _event(row: Row[tuple[object, ...]]) -> AlertEvent:
    return AlertEvent(
        row.rule, row.state, row.severity, row.at / 1e6, row.value, row.threshold, row.message, row.repeated
    )
