"""Known answers leave early: a protocol for uvicorn that answers exact hits before an application task exists.

A hot request's body is gathered here. If its answer is in memory, the same pipeline runs through at once, without a
wait, and the response is one write. Everything else, and whatever is unusual about a request, takes uvicorn's normal
way into the application, with what was decoded here handed on. Bytes that were such a request before are not parsed
again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from penstock.config.settings import ServerSettings
from penstock.server.cycle import LeanCycle
from penstock.server.guard import ANSWER, HEAD_BYTES, IDLE, OPENED, GuardedProtocol
from penstock.server.seen import SeenBytes
from penstock.server.watchman import Watchman

_MOST_BYTES = 256 * 1024
"""Larger bodies are not gathered; uvicorn's flow control is for them."""

_REPEATED_BYTES = 4 * 1024 * 1024

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

    def known(self, fields: Fields, body: bytes, default: Fields) -> tuple[bytes | None, object]:
        """Return the response to a POST of `body`, or None and what to hand on in the scope as ``penstock``.

        Args:
            fields: The request's header fields, lower-case.
            body: All of its body.
            default: Header fields every response has.
        """

    def begin(self, decoded: object, client: Client) -> Under | None:
        """Return the short way of what `known` handed on; None when it needs a task. `client` is told of its end."""


class EarlyProtocol(GuardedProtocol):
    """uvicorn's protocol with a short way out."""

    routes: Mapping[bytes, KnownAnswers]
    repeats: SeenBytes[Again]
    """Whole requests, head and body, that were answered on the spot."""

    draining = False
    """Connections are closed after the answer that comes next."""
    _route: KnownAnswers | None = None
    _again: Again | None = None
    _begun = 0
    _waiting: tuple[KnownAnswers, bytes, object] | None = None
    """A request that is all there; what was read with it is looked at before it begins."""
    _under: Under | None = None
    _held = b""
    """What came while a request was on the short way."""
    _gathered: list[bytes]
    _size: int

    def data_received(self, data: bytes) -> None:
        """Answer bytes that were a whole request before and were answered on the spot, without parsing them again.

        Between two requests the parser remembers nothing, so the same bytes are the same request.
        """
        if self.state != IDLE and self.state != OPENED:
            if self._under is not None:
                self._hold(data)
                return
            super().data_received(data)
            if self._waiting is not None:
                self._begin()
            return
        again = self.repeats.get(data)
        if again is not None and not self.flow.write_paused and not self.draining:
            response = again(self.server_state.default_headers)
            if response is not None:
                self.state = IDLE
                self.since = self.watchman.now
                self.server_state.total_requests += 1
                self.transport.write(response)
                return
        self._begun = 0
        self._again = None
        super().data_received(data)
        if self._waiting is not None:
            self._begin()
        elif self._begun == 1 and self.state == IDLE:
            self._remember(data)

    def _remember(self, data: bytes) -> None:
        """Keep the request that was read at once, if it was answered so."""
        if self._again is not None:
            self.repeats.remember(data, self._again)

    def on_message_begin(self) -> None:
        """Count the requests in what was read."""
        self._begun += 1
        if self._waiting is not None:
            # Requests that come together are answered in their order, which uvicorn sees to.
            _, body, decoded = self._waiting
            self._waiting = None
            self._hand_on(body, decoded)
        super().on_message_begin()

    def accept(self) -> None:
        """Decide which way the request takes."""
        route = self.routes.get(self.url)
        if route is not None and self._usual():
            self._route = route
            self._gathered = []
            self._size = 0
        else:
            super().accept()

    def _usual(self) -> bool:
        waiting = self.cycle is not None and not self.cycle.response_complete
        parser = self.parser
        return (
            not waiting
            and not self._old
            and not self.expect_100_continue
            and parser.get_method() == b"POST"
            and bool(parser.should_keep_alive())
            and not parser.should_upgrade()
        )

    def on_body(self, body: bytes) -> None:
        """Gather the body, up to a limit."""
        if self._route is None:
            super().on_body(body)
            return
        self.heard()
        self._gathered.append(body)
        self._size += len(body)
        if self._size > _MOST_BYTES:
            self._take_normal_way(b"".join(self._gathered))

    def unfinished(self) -> None:
        """Let the application see at once a request whose body will not be gathered; it may not want it."""
        if self._route is not None and self._is_large():
            self._take_normal_way(b"".join(self._gathered))

    def _is_large(self) -> bool:
        lengths = [int(value) for name, value in self.scope["headers"] if name == b"content-length"]
        return lengths > [_MOST_BYTES]

    def on_message_complete(self) -> None:
        """Answer, or hand the request on."""
        route = self._route
        if route is None:
            super().on_message_complete()
            return
        body = self._gathered[0] if len(self._gathered) == 1 else b"".join(self._gathered)
        if self.flow.write_paused:
            self._take_normal_way(body)
            super().on_message_complete()
            return
        self.state = ANSWER
        fields: Any = self.scope["headers"]
        response, hand_on = route.known(fields, body, self.server_state.default_headers)
        if response is None:
            if hand_on is None or self.draining:
                self._hand_on(body, hand_on)
            else:
                self._route = None
                self._waiting = route, body, hand_on
            return
        self._route = None
        self._again = route.again
        self.transport.write(response)
        self.on_response_complete()
        if self.draining:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits for the answer any more."""
        self._waiting = None
        under, self._under = self._under, None
        super().connection_lost(exc)
        if under is not None:
            under.cancel(asyncio.CancelledError())

    def shutdown(self) -> None:
        """Close the connection, after the answer that is under way."""
        if self._under is None:
            super().shutdown()

    @property
    def busy(self) -> bool:
        """A request is on the short way."""
        return self._under is not None

    def cut_off(self, reason: str) -> None:
        """End the request on the short way; its client is told."""
        if self._under is not None:
            self._under.cancel(asyncio.CancelledError(reason), tell=True)

    def _begin(self) -> None:
        """Let the request that waits take the short way, if it can."""
        if self._waiting is None:
            return
        route, body, decoded = self._waiting
        self._waiting = None
        under = None if self.state != ANSWER else route.begin(decoded, self)
        if under is None:
            self._hand_on(body, decoded)
        else:
            self._under = under
            under.run()

    def _hold(self, data: bytes) -> None:
        """Keep what comes before its turn."""
        self._held += data
        if len(self._held) > HEAD_BYTES:
            self.flow.pause_reading()

    @property
    def behind(self) -> int:
        """Bytes that wait to be sent."""
        return self.transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        """The client has read what it was sent."""
        super().resume_writing()
        if self._under is not None:
            self._under.resume()

    @property
    def default(self) -> Fields:
        """Header fields every response has."""
        return self.server_state.default_headers

    def say(self, data: bytes) -> bool:
        """Send a part of the answer; whether the client keeps up."""
        if data:
            self.transport.write(data)
        return not self.flow.write_paused

    def reply(self, answering: Answering) -> None:
        """Send the answer, or the last of it, and go on."""
        self._under = None
        if self.transport.is_closing():
            return
        self.transport.write(answering(self.server_state.default_headers))
        self.on_response_complete()
        if self.draining:
            self.transport.close()
        elif self._held:
            held, self._held = self._held, b""
            asyncio.get_running_loop().call_soon(self.data_received, held)

    def _take_normal_way(self, body: bytes) -> None:
        self._route = None
        super().accept()
        super().on_body(body)

    def _hand_on(self, body: bytes, decoded: object) -> None:
        """Start the application with a request that is all there, as uvicorn would at the end of its head."""
        self._route = None
        scope: Any = self.scope
        scope |= {"method": "POST", "path": self.url.decode("ascii"), "raw_path": self.url, "query_string": b""}
        scope["penstock"] = decoded
        self.cycle = LeanCycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=True,
            on_response=self.on_response_complete,
        )
        if decoded is None:
            self.cycle.body += body
        self.cycle.more_body = False
        self.cycle.message_event.set()
        self._start_asgi_task(self.cycle, self.app)


def early_protocol(
    routes: Mapping[bytes, KnownAnswers], limits: Callable[[], ServerSettings] = ServerSettings
) -> type[EarlyProtocol]:
    """Return a protocol class for `uvicorn.Config(http=…)` that asks `routes`, by request target, first.

    Args:
        routes: What can answer on the spot.
        limits: Returns the settings in force.
    """
    parts = {"routes": routes, "repeats": SeenBytes[Again](_REPEATED_BYTES), "watchman": Watchman(limits)}
    return type("EarlyProtocol", (EarlyProtocol,), parts)
