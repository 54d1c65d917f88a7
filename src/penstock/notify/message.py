"""What is told, and to whom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec


class Attachment(msgspec.Struct, frozen=True):
    """A file that goes with a message: its name, what it is in MIME's words, and its text."""

    name: str
    media_type: str
    content: str


class Message(msgspec.Struct, frozen=True):
    """Something to tell.

    Attributes:
        id: Unique; the same when it is sent again.
        type: What it is about, such as ``alert.firing`` or ``report.daily``.
        at: When it happened, seconds since the epoch.
        subject: One line.
        text: All of it, in plain text.
        data: The same for programs; JSON.
        html: The same as a page; empty for none.
        attachments: Files that go with it, where there is room for files.
    """

    id: str
    type: str
    at: float
    subject: str
    text: str
    data: Mapping[str, Any] = {}
    html: str = ""
    attachments: tuple[Attachment, ...] = ()


class Sink(Protocol):
    """Where messages go."""

    name: str
    """Its name in the configuration."""

    async def send(self, message: Message) -> None:
        """Deliver `message`, trying once.

        Raises:
            DeliveryFailed: It was not delivered; says whether trying again may help.
        """
