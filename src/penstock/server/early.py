"""Known answers leave early: a protocol for uvicorn that answers exact hits before an application task exists.

A hot request's body is gathered here. If its answer is in memory, the same pipeline runs through at once, without a
wait, and the response is one write. Everything else, and whatever is unusual about a request, takes uvicorn's normal
way into the application, with what was decoded here handed on. Bytes that were such a request before are not parsed
again, nor are heads that differ from one that was parsed in nothing but the length of the body.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from penstock.config.settings import ServerSettings
from penstock.server import controls
from penstock.server.guard import ANSWER, BODY, IDLE, OPENED
from penstock.server.hot import Again, KnownAnswers
from penstock.server.known_heads import Known, KnownHeads
from penstock.server.seen import SeenBytes
from penstock.server.short import ShortProtocol
from penstock.server.watchman import Watchman

_MOST_BYTES = 256 * 1024
"""Larger bodies are not gathered; uvicorn's flow control is for them."""

_REPEATED_BYTES = 4 * 1024 * 1024
_END = b"\r\n\r\n"
_END_BYTES = len(_END)
_ANSWERED = object()
"""In place of what is to be handed on."""


class EarlyProtocol(ShortProtocol):
    """uvicorn's protocol, that asks hot routes before there is an application's task."""

    routes: Mapping[bytes, KnownAnswers]
    repeats: SeenBytes[Again]
    """Whole requests, head and body, that were answered on the spot."""

    heads: KnownHeads
    """What their heads said."""

    _route: KnownAnswers | None = None
    _again: Again | None = None
    _begun = 0
    _waiting: tuple[KnownAnswers, bytes, object] | None = None
    """A request that is all there; what was read with it is looked at before it begins."""
    _gathered: list[bytes]
    _size = 0
    _parsed: KnownAnswers | None = None
    """The route of the newest head that was parsed, if it is hot."""
    _expected: tuple[Known, int, int] | None = None
    """A head that was known, where it ends in what was gathered, and how much there will be of that."""

    def data_received(self, data: bytes) -> None:
        """Answer bytes that were a whole request before and were answered on the spot, without parsing them again.

        Between two requests the parser remembers nothing, so the same bytes are the same request.
        """
        if self.state != IDLE and self.state != OPENED:
            if self.busy:
                self.hold(data)
            elif self._expected is not None:
                self._gather(*self._expected, data)
            else:
                self._parse(data)
            return
        if not self.flow.write_paused and not self.draining:
            again = self.repeats.get(data)
            if again is not None:
                response = again(self.server_state.default_headers)
                if response is not None:
                    self.state = IDLE
                    self.since = self.watchman.now
                    self.server_state.total_requests += 1
                    self.transport.write(response)
                    return
            end = data.find(_END) + _END_BYTES
            found = self.heads.find(data, end)
            if found is not None:
                known, length = found
                whole = end + length
                if len(data) == whole:
                    self._take(known, data[end:], data)
                    return
                if len(data) < whole <= _MOST_BYTES:
                    self.headers, self._accepted = known.fields, False
                    self._gathered, self._size = [], 0
                    self._gather(known, end, whole, data)
                    return
        self._begun = 0
        self._again = self._parsed = None
        self._parse(data)

    def _parse(self, data: bytes) -> None:
        fresh = self._begun == 0
        super().data_received(data)
        if fresh and self._begun == 1:
            if self._parsed is not None:
                fields: Any = self.scope["headers"]
                self.heads.remember(data, data.find(_END) + _END_BYTES, self._size, self._parsed, self.url, fields)
            if self.state == IDLE:
                self._remember(data)
        if self._waiting is not None:
            self._begin()

    def _gather(self, known: Known, end: int, whole: int, data: bytes) -> None:
        """Take a part of a request whose head is known, which ends at `end`; of `whole` bytes with its body."""
        self._expected = None
        self._gathered.append(data)
        self._size += len(data)
        self.since = self.watchman.now
        if self._size < whole:
            self._expected = known, end, whole
            self.state = BODY
            return
        data = b"".join(self._gathered)
        self._gathered = []
        if len(data) == whole and not self.flow.write_paused and not self.draining:
            self._take(known, data[end:], data)
        else:
            self.state = IDLE
            self._begun = 0
            self._again = self._parsed = None
            self._parse(data)

    def _take(self, known: Known, body: bytes, data: bytes) -> None:
        """Answer a request that is all there, `data`, without parsing it."""
        self.state = ANSWER
        self.since = self.watchman.now
        self.headers = known.fields
        self._again = None
        hand_on = self._ask(known.route, known.headers, body)
        if hand_on is _ANSWERED:
            self._remember(data)
            return
        under = None if hand_on is None else known.route.begin(hand_on, self)
        if under is None:
            HttpToolsProtocol.on_message_begin(self)
            self.url = known.url
            self.headers += known.fields_for(body)
            self.hand_on(body, hand_on)
        else:
            self.go(under)

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
            self.hand_on(body, decoded)
        super().on_message_begin()

    def accept(self) -> None:
        """Decide which way the request takes."""
        route = self.routes.get(self.url)
        if route is not None and self._usual():
            self._route = self._parsed = route
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
        picked: Any = self.scope["headers"]
        hand_on = self._ask(route, controls.pick(picked), body)
        self._route = None
        if hand_on is _ANSWERED:
            return
        if hand_on is None or self.draining:
            self.hand_on(body, hand_on)
        else:
            self._waiting = route, body, hand_on

    def _ask(self, route: KnownAnswers, headers: Mapping[bytes, bytes], body: bytes) -> object:
        """Have a request answered that is all there, or return what is to be handed on."""
        response, hand_on = route.known(headers, body, self.server_state.default_headers)
        if response is None:
            return hand_on
        self._again = route.again
        self.finish(response)
        return _ANSWERED

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits for the answer any more."""
        self._waiting = self._expected = None
        super().connection_lost(exc)

    def _begin(self) -> None:
        """Let the request that waits take the short way, if it can."""
        if self._waiting is None:
            return
        route, body, decoded = self._waiting
        self._waiting = None
        under = None if self.state != ANSWER else route.begin(decoded, self)
        if under is None:
            self.hand_on(body, decoded)
        else:
            self.go(under)

    def _take_normal_way(self, body: bytes) -> None:
        self._route = None
        super().accept()
        super().on_body(body)


def early_protocol(
    routes: Mapping[bytes, KnownAnswers], limits: Callable[[], ServerSettings] = ServerSettings
) -> type[EarlyProtocol]:
    """Return a protocol class for `uvicorn.Config(http=…)` that asks `routes`, by request target, first.

    Args:
        routes: What can answer on the spot.
        limits: Returns the settings in force.
    """
    parts = {
        "routes": routes,
        "repeats": SeenBytes[Again](_REPEATED_BYTES),
        "heads": KnownHeads(),
        "watchman": Watchman(limits),
    }
    return type("EarlyProtocol", (EarlyProtocol,), parts)
