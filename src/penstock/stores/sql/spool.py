"""The spool: what must not be lost, in files beside the database, written before anything else happens.

    penstock.db-spool/
        0417/             one directory a process, locked (flock) for as long as the process lives
            00000001      segments, see `penstock.stores.sql.frames`
            00000002
            spare-3       one that will be the next

A call is written when an attempt is about to be sent, and when it has ended. A segment has its whole size from the
beginning and is mapped into memory, so a frame is two copies into the kernel's page cache, without a system call, and
a full disk is an error where a segment is made. In the page cache it survives the process, however that is ended. It
does not survive a power cut of some seconds later; neither does a commit of the database (``synchronous=NORMAL``).

A full segment is followed by a new one that begins with what has not ended yet. Segments are done with in their order,
when the database has what ended in them: most before the kernel has written them to the disk. One of them is kept to be
the next, because making a page of a file costs many times what clearing it does.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import mmap
import os
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import SystemRandom
from zlib import adler32

from penstock.stores.failpoints import failpoint
from penstock.stores.sql.entry import ATTEMPTS, Entry, Fields
from penstock.stores.sql.frames import (
    HEADER_BYTES,
    MAPPED,
    WRITTEN,
    DamagedError,
    frames,
    pack,
    put_header,
    unpack,
)

SEGMENT_BYTES = 1024 * 1024
NODES = 1 << 10
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENODEV, errno.ENOSYS, errno.EINVAL)
"""What file systems say that cannot make room ahead or cannot be mapped."""
_ZEROS = bytes(64 * 1024)


class Segment:
    """One file.

    Attributes:
        path: Where.
        size: Bytes written.
        room: Bytes it holds.
        limit: Size from which no call may begin in it; the rest of its room is for the ends of those that have.
        sealed: A newer one is in use.
        ended: Calls whose end is in it; counted by the thread that writes here.
        stored: How many of them the database has, or will never have; counted by the thread that writes there.
    """

    __slots__ = ("_fd", "_memory", "ended", "limit", "path", "room", "sealed", "size", "stored")

    def __init__(self, path: Path, room: int) -> None:
        """Make the file, with all of its `room`; where that is impossible it is written with a system call a frame.

        Raises:
            OSError: There is no room, or the file system failed.
        """
        self.path = path
        self.room = room
        self._memory: mmap.mmap | None = None
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._map()
            self.clear()
        except BaseException:
            self.remove()
            raise

    def _map(self) -> None:
        try:
            os.posix_fallocate(self._fd, 0, self.room)
            self._memory = mmap.mmap(self._fd, self.room)
        except AttributeError:  # macOS
            return
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            os.ftruncate(self._fd, 0)
            return
        os.close(self._fd)
        self._fd = -1

    def clear(self) -> None:
        """Forget what is in it; also brings its pages into memory, so that nobody waits for one later."""
        self.size = self.limit = self.ended = self.stored = 0
        self.sealed = False
        memory = self._memory
        if memory is None:
            os.ftruncate(self._fd, 0)
            return
        for start in range(0, self.room, len(_ZEROS)):
            memory[start : start + len(_ZEROS)] = _ZEROS[: self.room - start]

    def begin(self, path: Path, payloads: Iterable[bytes]) -> None:
        """Let it begin with `payloads`, and call it `path`.

        Raises:
            OSError: There is no room, or the file system failed.
        """
        memory = self._memory
        data = (WRITTEN if memory is None else MAPPED) + frames(payloads)
        if memory is None:
            self._write(data)
        else:
            memory[: len(data)] = data
        self.size = len(data)
        self.limit = self.room - (self.room - self.size) // 4
        self.path = self.path.rename(path)

    def _torn(self, payload: bytes) -> None:
        half, memory = payload[: len(payload) // 2], self._memory
        if memory is None:
            os.write(self._fd, frames([payload])[: len(half)])
        else:
            memory[self.size + HEADER_BYTES : self.size + HEADER_BYTES + len(half)] = half

    @failpoint("spool-append", during=_torn)
    def append(self, payload: bytes) -> None:
        """Write all of `payload`, or nothing; there must be room for it.

        Raises:
            OSError: There is no room, or the file system failed.
        """
        memory, at = self._memory, self.size
        start = at + HEADER_BYTES
        end = start + len(payload)
        if memory is None:
            self._write(frames([payload]))
        else:
            memory[start:end] = payload
            put_header(memory, at, end - start | adler32(payload) << 32)  # last: until then the file ends before it
        self.size = end

    def _write(self, data: bytes) -> None:
        if os.write(self._fd, data) != len(data):
            os.ftruncate(self._fd, self.size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Write no more."""
        memory, self._memory = self._memory, None
        fd, self._fd = self._fd, -1
        if memory is not None:
            memory.close()
        if fd >= 0:
            os.close(fd)

    def remove(self) -> None:
        """Remove the file."""
        _remove(self.path)
        self.close()


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
        self._count = itertools.count(1)
        self._segments: deque[Segment] = deque()
        self._spares: deque[Segment] = deque()
        self._running: dict[int, bytes] = {}
        self._newest: Segment | None = None

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
                    self._newest = self._new_segment(0)
                    self._segments.append(self._newest)
                    return
        raise OSError(f"{NODES} processes use it")

    def begin(self, ident: int, begun: Fields) -> None:
        """Write down that a call is about to have the last of its attempts sent, or what is left of them.

        Raises:
            OSError: It cannot be written.
        """
        payload = pack(begun)
        segment = self._newest
        if segment is None or segment.size + len(payload) >= segment.limit:
            segment = self._rotate(len(payload))
        segment.append(payload)
        self._running[ident] = payload

    def release(self, ident: int, begun: Fields) -> None:
        """Write down that nothing was sent for a call after all, which has no attempts.

        Raises:
            OSError: It cannot be written.
        """
        self._running.pop(ident, None)
        self._end(pack(begun))

    def settle(self, entry: Fields) -> Segment:
        """Write down that the call of `entry` has ended; return where, for `sweep`.

        Raises:
            OSError: It cannot be written.
        """
        for attempt in entry[ATTEMPTS]:
            self._running.pop(attempt.ledger_id, None)
        segment = self._end(pack(entry))
        segment.ended += 1
        return segment

    def sweep(self) -> None:
        """Do away with what the database has, and have a segment ready to be the next."""
        segments = self._segments
        while segments and segments[0].sealed and segments[0].stored == segments[0].ended:
            self._reuse(segments.popleft())
        if not self._spares and segments and segments[-1].size * 2 > segments[-1].limit:
            with contextlib.suppress(OSError):  # who needs it will say so
                self._spares.append(self._spare(self._segment_bytes))

    def close(self) -> None:
        """Give the directory up; what is left in it is for the next process. Safe to call twice, and without `open`."""
        if self._lock < 0:
            return
        segments, self._newest = self._segments, None
        segments[-1].sealed = True
        while segments and not self._running and segments[0].stored == segments[0].ended:
            segments.popleft().remove()
        for segment in segments:
            segment.close()
        while self._spares:
            self._spares.popleft().remove()
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

    def _end(self, payload: bytes) -> Segment:
        segment = self._newest
        if segment is None or segment.size + HEADER_BYTES + len(payload) > segment.room:
            segment = self._rotate(len(payload))
        segment.append(payload)
        return segment

    @failpoint("spool-rotate")
    def _rotate(self, size: int) -> Segment:
        full = self._newest
        if full is None:
            raise OSError(errno.EBADF, "the spool is not open")
        segment = self._new_segment(size)
        self._segments.append(segment)
        self._newest = segment
        full.sealed = True
        return segment

    def _new_segment(self, size: int) -> Segment:
        """Begin one with what runs, and with room for a frame of `size`."""
        running = self._running.values()
        needed = 2 * sum(len(payload) + HEADER_BYTES for payload in running) + 2 * size
        segment = self._spares.popleft() if self._spares else self._spare(self._segment_bytes + needed)
        if segment.room < needed:
            segment.remove()
            segment = self._spare(self._segment_bytes + needed)
        try:
            segment.begin(self._folder / f"{next(self._count):08d}", running)
        except OSError:
            segment.remove()
            raise
        return segment

    def _spare(self, room: int) -> Segment:
        return Segment(self._folder / f"spare-{next(self._count)}", room)

    @failpoint("spool-reuse")
    def _reuse(self, segment: Segment) -> None:
        if self._spares:
            segment.remove()
            return
        segment.path = segment.path.rename(segment.path.with_name(f"spare-{segment.path.name}"))
        segment.clear()
        self._spares.append(segment)


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
        for path in sorted(self._folder.glob("[0-9]*")):
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
