"""Reports that are sent by themselves, once a day or a week, by one of the processes that share a store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import get_args

import msgspec

from penstock.config.reports import ReportSettings, Weekday
from penstock.config.settings import Settings
from penstock.core.clock import Clock
from penstock.core.errors import ConfigError, PenstockError
from penstock.core.tasks import TaskGroup
from penstock.notify.message import Attachment, Message
from penstock.reporting import text
from penstock.reporting.formats import FORMATS
from penstock.usage import MEMORY, Books, UsageReport, usage_report

_log = logging.getLogger("penstock.reports")
_LOOK_EVERY_S = 60.0
_DAYS = {"day": 1, "week": 7}
_WEEKDAYS = get_args(Weekday)

Tell = Callable[[Message, Sequence[str]], None]


class ReportSchedule:
    """Sends what is due. One that became due while no process ran is sent at the next start, once.

    Args:
        tasks: Background work.
        clock: Where time comes from.
        books: Decide which process sends what is due.
        tell: Sends a message to sinks, in the background.
    """

    def __init__(self, tasks: TaskGroup, clock: Clock, books: Books, tell: Tell) -> None:
        self._tasks = tasks
        self._clock = clock
        self._books = books
        self._tell = tell
        self._reports: Sequence[ReportSettings] = ()
        self._url = MEMORY
        self._task: asyncio.Task[None] | None = None

    def configure(self, settings: Settings) -> None:
        """Put the schedules of `settings` in force.

        Raises:
            ConfigError: As `check`.
        """
        self.check(settings)
        self._reports, self._url = settings.reports, settings.store.url

    @staticmethod
    def check(settings: Settings) -> None:
        """Refuse schedules that cannot be kept.

        Raises:
            ConfigError: There are schedules, but nothing is kept to report on.
        """
        if settings.reports and settings.store.url == MEMORY:
            raise ConfigError("reports need a store that lasts; set store.url to sqlite:///FILE", key="reports")

    def start(self) -> None:
        """Look from now on, if there are schedules."""
        if self._task is None and self._reports:
            self._task = self._tasks.spawn(self._watch(), name="send reports")

    async def look(self) -> None:
        """Send what is due and nobody else sends.

        Raises:
            PenstockError: The store could not be read or written.
        """
        for settings in self._reports:
            due, mark = last_due(settings, self._clock.wall()), f"report:{settings.name}"
            if await self._books.claimed(mark) is None:  # a new schedule begins with the next time
                await self._books.claim(mark, due)
            elif await self._books.claim(mark, due):
                self._tell(await asyncio.to_thread(self._message, settings, due), settings.sinks)

    async def _watch(self) -> None:
        while True:
            try:
                await self.look()
            except PenstockError as error:
                _log.error("reports are put off: %s", error)
            await self._clock.sleep(_LOOK_EVERY_S)

    def _message(self, settings: ReportSettings, due: int) -> Message:
        report = usage_report(
            self._url, days=_DAYS[settings.every], by=settings.by, tenant=settings.tenant, until=due, clock=self._clock
        )
        return message_of(report, settings, due)


def message_of(report: UsageReport, settings: ReportSettings, due: int) -> Message:
    """Put a report into a message."""
    when = datetime.fromtimestamp(due, UTC).strftime("%Y-%m-%d")
    form = FORMATS[settings.format]
    suffix = "txt" if settings.format == "text" else settings.format
    attached = Attachment(f"usage-{when}.{suffix}", form.media_type, form.render(report))
    return Message(
        id=f"report_{settings.name}_{due}",
        type="report.daily" if settings.every == "day" else "report.weekly",
        at=float(due),
        subject=f"Penstock: {settings.name}, {when}",
        text=text.render(report),
        data=msgspec.to_builtins(report),
        attachments=() if settings.format == "text" else (attached,),
    )


def last_due(settings: ReportSettings, now: float) -> int:
    """Return when a report was due last, seconds since the epoch."""
    hour, minute = map(int, settings.at.split(":"))
    at = datetime.fromtimestamp(now, UTC).replace(hour=hour, minute=minute, second=0, microsecond=0)
    if settings.every == "week":
        at -= timedelta(days=(at.weekday() - _WEEKDAYS.index(settings.weekday)) % 7)
    if at.timestamp() > now:
        at -= timedelta(days=_DAYS[settings.every])
    return int(at.timestamp())
