"""Leads in a database: SQLite or PostgreSQL, by SQLAlchemy."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, TypeVar

from sqlalchemy import JSON, DateTime, Engine, Float, String, Text, create_engine, func, select, text, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import StaticPool

from lead_engine.settings import SettingsError

T = TypeVar("T")
_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}


class Base(DeclarativeBase):
    """The tables."""


class Lead(Base):
    """A signal worth a salesperson's time; the same text is one lead, however often it was seen."""

    __tablename__ = "leads"

    id: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    signal_text: Mapped[str] = mapped_column(Text)
    source_type: Mapped[str] = mapped_column(String(50))
    source_url: Mapped[str | None] = mapped_column(Text)
    category: Mapped[str] = mapped_column(String(50), index=True)
    score: Mapped[float | None] = mapped_column(Float, index=True)
    urgency: Mapped[str | None] = mapped_column(String(20))
    company: Mapped[str | None] = mapped_column(String(200))
    stage: Mapped[str] = mapped_column(String(50))
    sightings: Mapped[int] = mapped_column(default=1)
    embedding: Mapped[list[float] | None] = mapped_column(JSON)
    request_id: Mapped[str] = mapped_column(String(100), default="")
    prompt: Mapped[str] = mapped_column(String(200), default="")
    dossier: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class Database:
    """Opens the database; each method is one transaction in a thread of its own."""

    def __init__(self, url: str) -> None:
        """Connect to `url` when `open` is called.

        Raises:
            SettingsError: It cannot be used.
        """
        try:
            self._engine: Engine = _engine(url)
        except (ArgumentError, ImportError) as error:
            raise SettingsError(f"DATABASE_URL: {error}") from error
        self._writing = asyncio.Lock()

    async def open(self) -> None:
        """Create the tables that are missing."""
        await asyncio.to_thread(Base.metadata.create_all, self._engine)

    async def aclose(self) -> None:
        """Close all connections."""
        await asyncio.to_thread(self._engine.dispose)

    async def ping(self) -> None:
        """Raise if the database cannot be asked."""
        await self._do(lambda session: session.execute(text("SELECT 1")))

    async def save(self, leads: Sequence[dict[str, Any]]) -> list[int]:
        """Save leads in one transaction, a text once; return their ids, in order."""
        if not leads:
            return []

        def saved(session: Session) -> list[int]:
            digests = [sha256(each["signal_text"].encode()).hexdigest() for each in leads]
            times = Counter(digests)
            known = {lead.digest: lead for lead in session.scalars(select(Lead).where(Lead.digest.in_(set(times))))}
            for digest, values in dict(zip(digests, leads, strict=True)).items():
                lead = known.get(digest)
                if lead is None:
                    lead = known[digest] = Lead(digest=digest, sightings=times[digest], created_at=datetime.now(UTC))
                    session.add(lead)
                else:  # counted by the database, since other instances count too
                    session.execute(
                        update(Lead).where(Lead.id == lead.id).values(sightings=Lead.sightings + times[digest])
                    )
                for name, value in values.items():
                    setattr(lead, name, value)
            session.flush()
            return [known[digest].id for digest in digests]

        async with self._writing:
            try:
                return await self._do(saved)
            except IntegrityError:  # another instance has just saved one of them
                return await self._do(saved)

    async def update(self, lead_id: int, **values: Any) -> None:  # noqa: ANN401 - columns of different types
        """Change a lead."""

        def updated(session: Session) -> None:
            lead = session.get(Lead, lead_id)
            for name, value in values.items():
                setattr(lead, name, value)

        async with self._writing:
            await self._do(updated)

    async def get(self, lead_id: int) -> Lead | None:
        """Return a lead."""
        return await self._do(lambda session: session.get(Lead, lead_id))

    async def list(self, *, category: str | None, min_score: float, limit: int) -> Sequence[Lead]:
        """Return leads, the best first."""
        asked = select(Lead).order_by(Lead.score.desc(), Lead.id.desc()).limit(limit)
        if min_score > 0:
            asked = asked.where(Lead.score >= min_score)
        if category is not None:
            asked = asked.where(Lead.category == category)
        return await self._do(lambda session: session.scalars(asked).all())

    async def embedded(self) -> Sequence[Lead]:
        """Return all leads that have vectors."""
        return await self._do(lambda session: session.scalars(select(Lead).where(Lead.embedding.is_not(None))).all())

    async def count(self) -> int:
        """How many leads there are."""
        return await self._do(lambda session: session.scalar(select(func.count()).select_from(Lead)) or 0)

    async def _do(self, work: Callable[[Session], T]) -> T:
        def run() -> T:
            with Session(self._engine, expire_on_commit=False) as session, session.begin():
                return work(session)

        return await asyncio.to_thread(run)


def _engine(url: str) -> Engine:
    address = make_url(url)
    address = address.set(drivername=_DRIVERS.get(address.drivername, address.drivername))
    more: dict[str, Any] = {}
    if address.get_backend_name() == "sqlite":
        more["connect_args"] = {"check_same_thread": False, "timeout": 30}
        if address.database in (None, "", ":memory:"):
            more["poolclass"] = StaticPool
    return create_engine(address, **more)
