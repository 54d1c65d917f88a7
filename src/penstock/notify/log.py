"""Messages as lines of the log."""

from __future__ import annotations

import logging

from penstock.notify.message import Message

_log = logging.getLogger("penstock.notify")


class LogSink:
    """A `penstock.notify.message.Sink` that writes warnings."""

    def __init__(self, name: str = "log") -> None:
        self.name = name

    async def send(self, message: Message) -> None:
        """Write one line."""
        _log.warning("%s %s: %s", message.type, message.id, message.subject)
