"""What was decided while Penstock ran."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import delete, select

from penstock.core.clock import Clock
from penstock.stores.sql.database import Database
from penstock.stores.sql.sqlite import replacing
from penstock.stores.sql.tables import states


class SqlStateStore:
    """`penstock.abc.StateStore` in a database; changes return once they are committed.

    Raises:
        StoreError: From every method, when the database could not be read or written.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def load(self, prefix: str = "") -> Mapping[str, bytes]:
        """Return all states whose name begins with `prefix`, by name."""
        wanted = select(states.c.name, states.c.state).where(states.c.name.startswith(prefix, autoescape=True))
        rows = await self._database.read(lambda connection: connection.execute(wanted.order_by(states.c.name)).all())
        # LIKE takes capitals and small letters for the same.
        return {name: state for name, state in rows if name.startswith(prefix)}

    async def save(self, name: str, state: bytes) -> None:
        """Keep a state in place of the one of the same name."""
        row = {"name": name, "state": state, "changed_at": int(self._clock.wall() * 1e6)}
        statement = replacing(states).values(row)
        await self._database.execute(lambda connection: connection.execute(statement).close())

    async def delete(self, name: str) -> bool:
        """Remove a state; False when there is none."""
        statement = delete(states).where(states.c.name == name)
        return await self._database.execute(lambda connection: connection.execute(statement).rowcount > 0)
