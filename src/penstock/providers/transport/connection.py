"""One connection: bytes in, bytes out, one exchange at a time, one timer."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, cast

from penstock.config.providers import ProviderSettings
from penstock.core.errors import ProviderError
from penstock.providers.transport.exchange import Exchange
from penstock.providers.transport.failures import incomplete, stale, timed_out
from penstock.providers.transport.framing import ends_with_connection
from penstock.providers.transport.parsing import AnswerParser
from penstock.providers.transport.unread import unread

if TYPE_CHECKING:
    from penstock.providers.transport.pool import Pool

BUFFER_BYTES = 256 * 1024
"""Above this much undelivered body, reading pauses until the reader has caught up."""

KEEP_ALIVE_S = 60.0
"""An idle connection is closed after this time."""

ONE_WRITE_BYTES = 64 * 1024
"""Bodies up to this length are copied behind the head; larger ones are written on their own."""


class Connection(asyncio.Protocol):
    """Runs exchanges one after the other. The slot in the pool is given back with each exchange, exactly once.

    The timer is armed for a time at which something may be due and looks then at what is; in steady state an exchange
    neither makes nor cancels a timer.

    Attributes:
        place: What is spoken to, for messages.
        closed: No further exchange is possible.
        time: The event loop's clock.
    """

    __slots__ = (
        "_answers",
        "_exchange",
        "_heard_at",
        "_loop",
        "_paused",
        "_pool",
        "_sent_at",
        "_sent_before",
        "_sent_bytes",
        "_served",
        "_timeouts",
        "_timer",
        "_timer_at",
        "_transport",
        "_until",
        "closed",
        "place",
        "time",
    )

    _transport: asyncio.Transport

    def __init__(self, pool: Pool, place: str, settings: ProviderSettings) -> None:
        self.place = place
        self.closed = False
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self.time = self._loop.time
        self._timeouts = settings.timeouts
        self._answers = AnswerParser(place, settings.max_response_bytes)
        self._exchange: Exchange | None = None
        self._paused = False
        self._served = False
        self._heard_at = self._sent_at = self._until = 0.0
        self._sent_before = self._sent_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    def start(self, method: str, head: bytes, body: bytes, now: float, until: float) -> Exchange:
        """Send a request at `now` and return its exchange; wait for it to `head_done` or `ended`."""
        exchange = self._exchange = Exchange(self, self._answers.begin(method))
        self._until = until
        self._sent_at = now
        due = now + self._timeouts.first_byte_s
        if due > until:
            due = until
        if due < self._timer_at:
            self._arm(due)
        size = len(body)
        self._sent_before += self._sent_bytes
        self._sent_bytes = len(head) + size
        if size <= ONE_WRITE_BYTES:
            self._transport.write(head + body if body else head)
        else:
            self._transport.writelines((head, body))
        return exchange

    def resume(self) -> None:
        """Read on, after a pause."""
        if self._paused:
            self._paused = False
            self._heard_at = self.time()
            self._transport.resume_reading()

    def fail(self, error: ProviderError) -> None:
        """Close the connection at once and end the exchange, if there is one, with `error`."""
        exchange = self._exchange
        if exchange is None:
            self._drop()
            return
        self._close()
        exchange.end(error)
        self._pool.free()

    def abandon(self) -> None:
        """Nobody waits for this connection any more; it may not even be made yet."""
        if self._timer is not None:
            self._close()
        self.closed = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Both event loops set TCP_NODELAY themselves."""
        if self.closed:
            transport.close()
            return
        self._transport = cast("asyncio.Transport", transport)
        self._pool.opened(self)
        self._heard_at = self.time()
        self._arm(self._heard_at + KEEP_ALIVE_S)

    def data_received(self, data: bytes) -> None:
        """Parse, hand over, and see whether the exchange is over."""
        exchange = self._exchange
        if exchange is None:
            self._drop()
            return
        self._heard_at = self.time()
        refusal = self._answers.feed(data, exchange)
        if refusal is not None:
            self.fail(refusal)
        elif self._answers.done:
            self._finish(exchange)
        elif exchange.head_done:
            if (due := self._heard_at + self._timeouts.idle_s) < self._timer_at:
                self._arm(due)
            if not exchange.patient and (exchange.then is None or exchange.more is not None):
                if exchange.more is None and exchange.buffered > BUFFER_BYTES:
                    self.pause()
                exchange.wake()

    def eof_received(self) -> None:
        """The upstream sends no more."""
        self._ended(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._ended(exc)
        self._pool.gone(self)
        self._answers.close()

    def pause(self) -> None:
        """Read no more until `resume`."""
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def _finish(self, exchange: Exchange) -> None:
        self._exchange = None
        self._served = True
        if self._paused:
            self.resume()
        exchange.end(None)
        if not self._answers.keep or self._transport.is_closing() or self._transport.get_write_buffer_size():
            self._close()
            self._pool.free()
            return
        if (due := self._heard_at + KEEP_ALIVE_S) < self._timer_at:
            self._arm(due)
        self._pool.release(self)

    def _ended(self, exc: Exception | None) -> None:
        if self.closed:
            return
        exchange = self._exchange
        if exchange is None:
            self._drop()
        elif exchange.head_done and exc is None and ends_with_connection(exchange.headers):
            self._answers.keep = False
            self._finish(exchange)
        elif self._served and not exchange.head_done and not self._answers.silent:
            self._pool.drop_idle()  # they were used even longer ago
            exchange.unread = unread(self._transport, exc, before=self._sent_before, size=self._sent_bytes)
            self.fail(stale(self.place))
        else:
            what = "in the middle of the answer" if exchange.head_done else "before the answer"
            self.fail(incomplete(self.place, f"the connection was {'reset' if exc else 'closed'} {what}"))

    def _drop(self) -> None:
        """Close while idle."""
        if not self.closed:
            self._close()
            self._pool.forget(self)

    def _close(self) -> None:
        self.closed = True
        self._exchange = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._transport.abort()

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._loop.call_at(due, self._look)

    def _look(self) -> None:
        """The timer: something is overdue, or is due later than it looked when the timer was armed."""
        exchange = self._exchange
        if exchange is None:
            due, phase, seconds = self._heard_at + KEEP_ALIVE_S, "", None
        elif not exchange.head_done:
            seconds = self._timeouts.first_byte_s
            due, phase = self._sent_at + seconds, "waiting for the answer's headers"
        elif self._paused:
            due, phase, seconds = self._until, "", None
        else:
            seconds = self._timeouts.idle_s
            due, phase = self._heard_at + seconds, "waiting for more of the answer"
        if exchange is not None and self._until <= due:
            due, seconds = self._until, None
            phase = "reading the answer" if exchange.head_done else phase
        if self.time() < due:
            self._timer = None
            self._arm(due)
        elif exchange is None:
            self._drop()
        else:
            self.fail(timed_out(self.place, phase, seconds))
