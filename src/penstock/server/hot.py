"""What the protocol of `penstock.server.early` and the hot routes are to each other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

Fields = list[tuple[bytes, bytes]]
Again = Callable[[Fields], bytes | None]
"""Answers a request that was answered on the spot before, as a new one, or returns None when it must take another way.

Its argument is `default` of `KnownAnswers.known`.
"""


Answering = Callable[[Fields], bytes]
"""Makes the response to a request that was answered on the short way; its argument is as that of `Again`."""


class Under(Protocol):
    """A request on the short way; `penstock.lane.Passage` is one."""

    over: bool
    """Nothing is left to be done for it."""

    def run(self) -> None:
        """Begin."""

    def resume(self) -> None:
        """The client, which was behind, has caught up."""

    def cancel(self, error: asyncio.CancelledError, *, tell: bool = False) -> None:
        """End it early; with `tell`, its client hears why."""


class Client(Protocol):
    """Who waits for an answer on the short way."""

    @property
    def behind(self) -> int:
        """Bytes that wait to be sent."""

    @property
    def default(self) -> Fields:
        """Header fields every response has."""

    def say(self, data: bytes) -> bool:
        """Send a part of the answer; False when the client is behind."""

    def reply(self, answering: Answering) -> None:
        """Send what `answering` makes; the answer is complete."""


class KnownAnswers(Protocol):
    """A route that can answer some requests on the spot, and others without a task."""

    again: Again | None
    """How the request that `known` answered last can be answered when it comes again; None when it cannot."""

    def known(self, headers: Mapping[bytes, bytes], body: bytes, default: Fields) -> tuple[bytes | None, object]:
        """Return the response to a POST of `body`, or None and what to hand on in the scope as ``penstock``.

        Args:
            headers: What `penstock.server.controls.pick` found in the request's head.
            body: All of its body.
            default: Header fields every response has.
        """

    def begin(self, decoded: object, client: Client) -> Under | None:
        """Return the short way of what `known` handed on; None when it needs a task. `client` is told of its end."""
