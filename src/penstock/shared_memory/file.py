"""A file that several processes have in their memory."""

from __future__ import annotations

import fcntl
import mmap
import os
from contextlib import suppress


class SharedFile:
    """Maps a file of a fixed size; new bytes are zero. ``with`` it, to be the only one who changes it.

    The lock (flock) is of the process, not of the thread, is not reentrant, and ends with a process that is killed, so
    what is written under it must be of use at any moment. Taking and giving it back are two system calls, 1 µs together
    when nobody else holds it.

    Besides, a process may `hold` a number for as long as it lives; whether anybody does can be asked at any time.

    Attributes:
        memory: The bytes.
        numbers: The same as floats of 8 bytes, each of which is written at once or not at all.
    """

    __slots__ = ("_file", "memory", "numbers")

    def __init__(self, path: str, size: int) -> None:
        """`size` is a multiple of 8, and the same in all processes.

        Raises:
            OSError: The file cannot be made or mapped.
        """
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._file, size)
        self.memory = mmap.mmap(self._file, size)
        self.numbers = memoryview(self.memory).cast("d")

    def __enter__(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._file, fcntl.LOCK_UN)

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
        with suppress(BufferError):  # somebody still has a view of a part; it goes with that
            self.memory.close()
        os.close(self._file)
