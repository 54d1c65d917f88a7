"""One request of a connection on the short way, without an application's task; see `penstock.lane`."""

from __future__ import annotations

import asyncio
from typing import Any

from penstock.server.cycle import LeanCycle
from penstock.server.guard import HEAD_BYTES, GuardedProtocol
from penstock.server.hot import Answering, Fields, Under


class ShortProtocol(GuardedProtocol):
    """A `penstock.server.hot.Client`: it waits for the request's answer and sends it.

    Attributes:
        busy: A request is on the short way.
        draining: The connection is closed after the answer that comes next.
    """

    busy = False
    draining = False
    _under: Under | None = None
    _held = b""
    """What came while a request was on the short way."""

    def go(self, under: Under) -> None:
        """Let a request take the short way."""
        self._under = under
        self.busy = True
        under.run()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits for the answer any more."""
        under, self._under = self._under, None
        self.busy = False
        super().connection_lost(exc)
        if under is not None:
            under.cancel(asyncio.CancelledError())

    def shutdown(self) -> None:
        """Close the connection, after the answer that is under way."""
        if self._under is None:
            super().shutdown()

    def cut_off(self, reason: str) -> None:
        """End the request on the short way; its client is told."""
        if self._under is not None:
            self._under.cancel(asyncio.CancelledError(reason), tell=True)

    def finish(self, response: bytes) -> None:
        """Send a whole response, or the last of one, and wait for the next request."""
        self.transport.write(response)
        self.on_response_complete()
        if self.draining:
            self.transport.close()

    def hold(self, data: bytes) -> None:
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
        self.busy = False
        if self.transport.is_closing():
            return
        self.finish(answering(self.server_state.default_headers))
        if self._held and not self.draining:
            held, self._held = self._held, b""
            asyncio.get_running_loop().call_soon(self.data_received, held)

    def hand_on(self, body: bytes, decoded: object) -> None:
        """Start the application with a request that is all there, as uvicorn would at the end of its head."""
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
