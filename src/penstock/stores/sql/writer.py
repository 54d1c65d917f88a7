"""One thread writes everything: callers only append to a queue, and what gathers in it shares a transaction."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from sqlalchemy.engine import Connection, Engine

from penstock.core.clock import Clock
from penstock.core.errors import StoreError
from penstock.stores.sql.sqlite import TRANSIENT

_log = logging.getLogger("penstock.stores")
_LONGER = 5
"""How many times as long the items of jobs that are not in a hurry gather."""

Batch = dict["Job", list[Any]]


class Job(Protocol):
    """Knows how to write one sort of items. Both methods are called in the writer thread.

    Attributes:
        lasting: Its items are not given up while the writer runs, however long the database cannot be written.
    """

    lasting: bool

    def write(self, connection: Connection, items: Sequence[Any]) -> None:
        """Write `items` in the transaction of `connection`, in order; called again if the transaction failed."""

    def settled(self, items: Sequence[Any], error: StoreError | None) -> None:
        """`items` are on disk, or lost because of `error`. Not called for lasting ones that were left at the end."""


class WriterState(NamedTuple):
    """How writing goes.

    Attributes:
        pending: Items in the queue.
        dropped: Items refused since the start because the queue was full.
        lost: Items given up since the start because they could not be written.
        error: What the newest attempt to write failed with; empty after one that succeeded.
    """

    pending: int
    dropped: int
    lost: int
    error: str


class Writer:
    """The queue and its thread.

    Args:
        engine: Gives the one connection that writes.
        explain: Turns a driver's error into one that says how to mend it.
        clock: Paces the messages about what goes wrong.
        limit: Items the queue holds; `put` refuses more.
        gather_s: How long items wait for company, which is what a power cut or a kill can lose.
        most: Items in one transaction.
        patience_s: How long a batch is tried again while the database is locked, full or failing.
        closing_patience_s: The same once `close` was called.

    Attributes:
        limit: As given; 0 once it was closed.
        unhurried: Jobs whose items may be lost, and go to pages all over a table: they gather five times as long, so
            that a page is written once for several of them.
    """

    def __init__(
        self,
        engine: Engine,
        explain: Callable[[BaseException], StoreError],
        clock: Clock,
        *,
        limit: int = 200_000,
        gather_s: float = 0.1,
        most: int = 5_000,
        patience_s: float = 30.0,
        closing_patience_s: float = 5.0,
    ) -> None:
        self.limit = limit
        self._engine = engine
        self._explain = explain
        self._monotonic = clock.monotonic
        self._gather_s = gather_s
        self._most = most
        self._patience_s = patience_s
        self._closing_patience_s = closing_patience_s
        self.unhurried: set[Job] = set()
        self._queue: deque[tuple[Job, Any]] = deque()
        self._held: Batch = {}
        self._held_items = 0
        self._held_until = math.inf
        self._idle = False
        self._work = threading.Event()
        self._hurry = threading.Event()
        self._closing = threading.Event()
        self._dropped = 0
        self._lost = 0
        self._error = ""
        self._next_complaint = 0.0
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._run, name="penstock-writer", daemon=True)

    @property
    def pending(self) -> int:
        """Items that wait."""
        return len(self._queue) + self._held_items

    @property
    def state(self) -> WriterState:
        """How writing goes."""
        return WriterState(self.pending, self._dropped, self._lost, self._error)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def full(self) -> bool:
        """Whether `put` refuses."""
        return len(self._queue) >= self.limit

    def put(self, job: Job, item: object, *, beyond: bool = False) -> bool:
        """Queue `item`, even `beyond` the limit; never waits. False, counted and logged, when the queue is full."""
        if not beyond and len(self._queue) >= self.limit:
            self.drop()
            return False
        self._queue.append((job, item))
        if self._idle:
            self._idle = False
            self._work.set()
        return True

    def drop(self) -> None:
        """Count an item that was not queued, and say so once a second at most."""
        self._dropped += 1
        self._complain("the store cannot keep up")

    def hurry(self) -> None:
        """Write what is queued now instead of letting it gather."""
        self._hurry.set()
        self._work.set()

    def close(self) -> None:
        """Write out everything queued, then end the thread; waits for that. What comes later is refused."""
        self.limit = 0
        self._closing.set()
        self.hurry()
        if self._thread.ident is not None:
            self._thread.join()
        if self._dropped or self._lost:
            self._next_complaint = 0.0
            self._complain("the store is closed")

    def _run(self) -> None:
        while True:
            hurried = self._gather()
            closing = self._closing.is_set()
            batch = self._take(everything=hurried or closing)
            if batch:
                self._write(batch)
            elif closing:
                self._disconnect()
                return

    def _gather(self) -> bool:
        """Wait for work, then for more of it; True when somebody wants it done now."""
        self._idle = True
        if not self._queue and not self._closing.is_set():
            left = self._held_until - time.monotonic()
            self._work.wait(None if left == math.inf else max(left, 0.0))
        self._idle = False
        self._work.clear()
        if len(self._queue) < self._most and not self._closing.is_set():
            self._hurry.wait(self._gather_s)
        hurried = self._hurry.is_set()
        self._hurry.clear()
        return hurried

    def _take(self, *, everything: bool) -> Batch:
        """Take what is queued; of jobs that are not in a hurry only when enough has gathered, or `everything`."""
        batch: Batch = defaultdict(list, self._held)
        self._held, self._held_items = {}, 0
        take = self._queue.popleft
        for _ in range(min(len(self._queue), self._most)):
            job, item = take()
            batch[job].append(item)
        held = {job: items for job, items in batch.items() if job in self.unhurried}
        count, now = sum(map(len, held.values())), time.monotonic()
        if not held or everything or count >= self._most or now >= self._held_until:
            self._held_until = math.inf
            return batch
        self._held_until = min(self._held_until, now + _LONGER * self._gather_s)
        self._held, self._held_items = held, count
        return {job: items for job, items in batch.items() if job not in held}

    def _write(self, batch: Batch) -> None:
        started, pause = time.monotonic(), 0.1
        while True:
            error = self._transact(batch)
            if error is None:
                self._settle(batch, None)
                return
            if not isinstance(error, TRANSIENT):
                self._write_singly(batch)
                return
            explained = self._explain(error)
            self._error = explained.message
            patience = self._closing_patience_s if self._closing.is_set() else self._patience_s
            if time.monotonic() - started + pause > patience:
                self._give_up(batch, explained)
                return
            self._complain(explained.message)
            if self._closing.is_set():
                time.sleep(pause)
            else:
                self._closing.wait(pause)
            pause = min(pause * 2, 2.0)

    def _give_up(self, batch: Batch, error: StoreError) -> None:
        lasting = {job: items for job, items in batch.items() if job.lasting}
        self._settle({job: items for job, items in batch.items() if job not in lasting}, error)
        for job, items in lasting.items():
            if self._closing.is_set():
                self._lost += len(items)
                self._complain(error.message)
            else:
                self._queue.extendleft((job, item) for item in reversed(items))

    def _write_singly(self, batch: Batch) -> None:
        """Keep one item that cannot be written from taking the others with it."""
        for job, items in batch.items():
            for item in items:
                single: Batch = {job: [item]}
                error = self._transact(single)
                self._settle(single, None if error is None else self._explain(error))

    def _transact(self, batch: Batch) -> Exception | None:
        try:
            if self._connection is None:
                self._connection = self._engine.connect()
            with self._connection.begin():
                for job, items in batch.items():
                    job.write(self._connection, items)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one batch, the thread must go on
            self._disconnect()
            return error
        return None

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()

    def _settle(self, batch: Batch, error: StoreError | None) -> None:
        self._error = "" if error is None else error.message
        for job, items in batch.items():
            if error is not None:
                self._lost += len(items)
            job.settled(items, error)
        if error is not None:
            self._complain(error.message)

    def _complain(self, reason: str) -> None:
        now = self._monotonic()
        if now >= self._next_complaint:
            self._next_complaint = now + 1.0
            _log.error(
                "%s; %d rows waiting, %d dropped, %d lost since the start",
                reason, len(self._queue), self._dropped, self._lost,
            )  # fmt: skip
