"""The spool: what must not be lost, in files beside the database, written before anything else happens.

    penstock.db-spool/
        0417/             one directory a process, locked (flock) for as long as the process lives
            00000001      segments, see `penstock.stores.sql.frames`
            00000002

A call is written when an attempt is about to be sent, and when it has ended. One `write` puts a frame into the
kernel's page cache, where it survives the process, however that is ended, and costs some microseconds. It does not
survive a power cut of some seconds later; neither does a commit of the database (``synchronous=NORMAL``).

A full segment is followed by a new one that begins with what has not ended yet. Segments are removed in their order,
when the database has what ended in them: most are gone before the kernel has written them to the disk.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from random import SystemRandom

from penstock.stores.failpoints import failpoint
from penstock.stores.sql.entry import Entry
from penstock.stores.sql.frames import MAGIC, DamagedError, pack, unpack

SEGMENT_BYTES = 4 * 1024 * 1024
NODES = 1 << 10


class Segment:
    """One file.

    Attributes:
        path: Where.
        fd: Open for appending, until it is sealed.
        size: Bytes written.
        limit: Size at which a new one is begun; what it began with does not count.
        sealed: A newer one is in use.
        ended: Calls whose end is in it; counted by the thread that writes here.
        stored: How many of them the database has, or will never have; counted by the thread that writes there.
    """

    __slots__ = ("ended", "fd", "limit", "path", "sealed", "size", "stored")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.size = self.limit = self.ended = self.stored = 0
        self.sealed = False

    @failpoint("spool-append", during=lambda self, data: os.write(self.fd, data[: len(data) // 2]))
    def append(self, data: bytes) -> None:
        """Write all of `data`, or nothing.

        Raises:
            OSError: There is no room, or the file system failed.
        """
        written = os.write(self.fd, data)
        if written != len(data):
            os.ftruncate(self.fd, self.size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.size += written

    def seal(self) -> None:
        """Write no more."""
        self.sealed = True
        fd, self.fd = self.fd, -1
        os.close(fd)


class Spool:
    """The spool of this process; `open` it before use.

    `begin`, `settle` and `release` belong to one thread, `sweep` to another.

    Attributes:
        root: The directory of all processes' directories; made with the first.
        node: A number that no other process at work here has.
    """

    def __init__(self, root: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.root = root
        self.node = 0
        self._segment_bytes = segment_bytes
        self._lock = -1
        self._folder = root
        self._count = 0
        self._segments: deque[Segment] = deque()
        self._running: dict[int, bytes] = {}

    def open(self) -> None:
        """Claim a directory, and begin the first segment.

        Raises:
            OSError: The directory cannot be made or written.
        """
        self.root.mkdir(mode=0o700, exist_ok=True)
        for node in SystemRandom().sample(range(NODES), NODES):
            folder = self.root / f"{node:04d}"
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
                self._lock = _locked(folder)
                if self._lock >= 0:
                    self.node, self._folder = node, folder
                    self._segments.append(self._new_segment())
                    return
        raise OSError(f"{NODES} processes use it")

    def begin(self, entry: Entry) -> None:
        """Write down that `entry` is about to have its last attempt sent.

        Raises:
            OSError: It cannot be written.
        """
        frame = pack(entry)
        segment = self._current()
        if segment.size >= segment.limit:
            segment = self._rotate(segment)
        segment.append(frame)
        self._running[entry.id] = frame

    def release(self, entry: Entry) -> None:
        """Write down that nothing was sent for `entry` after all, if it has no attempts, or that these are all.

        Raises:
            OSError: It cannot be written.
        """
        if entry.attempts:
            self.begin(entry)
        else:
            self._running.pop(entry.id, None)
            self._current().append(pack(entry))

    def settle(self, entry: Entry) -> Segment:
        """Write down that `entry` has ended; return where, for `sweep`.

        Raises:
            OSError: It cannot be written.
        """
        for attempt in entry.attempts:
            self._running.pop(attempt.ledger_id, None)
        segment = self._current()
        segment.append(pack(entry))
        segment.ended += 1
        return segment

    def sweep(self) -> None:
        """Remove what the database has."""
        segments = self._segments
        while segments and segments[0].sealed and segments[0].stored == segments[0].ended:
            _remove(segments.popleft().path)

    def close(self) -> None:
        """Give the directory up; what is left in it is for the next process. Safe to call twice, and without `open`."""
        if self._lock < 0:
            return
        self._segments[-1].seal()
        if not self._running:
            self.sweep()
        with contextlib.suppress(OSError):
            self._folder.rmdir()
        os.close(self._lock)
        self._lock = -1

    def nodes(self) -> set[int]:
        """Return the numbers that are in use, or whose processes have left something behind."""
        return {int(folder.name) for folder in self.root.iterdir() if folder.name.isdigit()}

    def leftovers(self) -> Iterator[Leftover]:
        """What ended processes have left behind, each locked against others until it is removed or closed."""
        for folder in sorted(self.root.iterdir()) if self.root.is_dir() else ():
            if folder.name.isdigit() and (lock := _locked(folder)) >= 0:
                yield Leftover(folder, lock)

    def _current(self) -> Segment:
        if self._lock < 0:
            raise OSError(errno.EBADF, "the spool is not open")
        return self._segments[-1]

    def _new_segment(self) -> Segment:
        self._count += 1
        segment = Segment(self._folder / f"{self._count:08d}")
        try:
            segment.append(b"".join([MAGIC, *self._running.values()]))
        except OSError:
            segment.seal()
            segment.path.unlink()
            raise
        segment.limit = segment.size + self._segment_bytes
        return segment

    @failpoint("spool-rotate")
    def _rotate(self, full: Segment) -> Segment:
        segment = self._new_segment()
        self._segments.append(segment)
        full.seal()
        return segment


class Leftover:
    """What an ended process has left behind.

    Attributes:
        damaged: Segments that could not be read to their end, for another reason than that a write was cut short.
    """

    def __init__(self, folder: Path, lock: int) -> None:
        self._folder = folder
        self._lock = lock
        self.damaged: list[Path] = []

    def entries(self) -> Iterator[Entry]:
        """First all calls that ended, then those that were running; each once.

        Raises:
            StoreError: Another version of Penstock wrote it.
        """
        running: dict[int, Entry] = {}
        for path in sorted(self._folder.iterdir()):
            try:
                yield from self._ended(path, running)
            except DamagedError:
                self.damaged.append(path)
        yield from running.values()

    def _ended(self, path: Path, running: dict[int, Entry]) -> Iterator[Entry]:
        for entry in unpack(path):
            for attempt in entry.attempts:
                running.pop(attempt.ledger_id, None)
            running.pop(entry.id, None)
            if entry.outcome:
                yield entry
            elif entry.attempts:
                running[entry.id] = entry

    @failpoint("recovery-remove")
    def remove(self) -> list[Path]:
        """Remove it: the database has what was in it. Return where damaged segments were moved."""
        kept = []
        for path in self.damaged:
            aside = self._folder.parent / f"damaged-{self._folder.name}-{path.name}"
            kept.append(path.replace(aside))
        for path in sorted(self._folder.iterdir()):
            _remove(path)
        self._folder.rmdir()
        self.close()
        return kept

    def close(self) -> None:
        """Leave what is there to others."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


@failpoint("spool-remove")
def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _locked(folder: Path) -> int:
    """Open `folder` and lock it; -1 if somebody else has, or has removed it."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(lock).st_ino == folder.stat().st_ino:
            return lock
    except OSError:
        pass
    os.close(lock)
    return -1
