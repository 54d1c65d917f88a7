"""A file that several processes have in their memory."""

from __future__ import annotations

import fcntl
import mmap
import os
from contextlib import suppress

from penstock.shared_memory.mutex import MUTEX_BYTES, Mutex


class SharedFile:
    """Maps a file of a fixed size; new bytes are zero. ``with`` it, to be the only one who changes it.

    The lock is a `penstock.shared_memory.mutex.Mutex` behind what is shared. Besides, a process may `hold` a number for
    as long as it lives; whether anybody does can be asked at any time.

    Attributes:
        memory: The bytes.
        numbers: The same as floats of 8 bytes, each of which is written at once or not at all.
    """

    __slots__ = ("_file", "_mutex", "memory", "numbers")

    def __init__(self, path: str, size: int) -> None:
        """`size` is a multiple of 8, and the same in all processes.

        Raises:
            OSError: The file cannot be made or mapped.
        """
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            os.ftruncate(self._file, size + MUTEX_BYTES)
            self.memory = mmap.mmap(self._file, size + MUTEX_BYTES)
            self._mutex = Mutex(self.memory, size)
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        self.numbers = memoryview(self.memory)[:size].cast("d")

    def __enter__(self) -> None:
        self._mutex.acquire()

    def __exit__(self, *_: object) -> None:
        self._mutex.release()

    def hold(self, number: int) -> None:
        """Hold `number`, waiting for a process that ends at the moment and still does."""
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, number)

    def held(self, number: int) -> bool:
        """Whether another process holds `number`."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        except OSError:
            return True
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, number)
        return False

    def close(self) -> None:
        """Let go of it, and of the number that is held; the file stays."""
        self.numbers.release()
        with suppress(BufferError):  # the mutex has a view of it, with which it goes
            self.memory.close()
        os.close(self._file)
