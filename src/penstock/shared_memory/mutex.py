"""A lock between processes that costs no system call while nobody else has it."""

from __future__ import annotations

import ctypes
import errno
import os

MUTEX_BYTES = 64
"""Room for the C library's mutex, which has 40 or 48 bytes, and for whether it was made."""
_MADE = MUTEX_BYTES - 1
_SHARED, _ROBUST = 1, 1
_TRIES = 50
"""How often is looked before waiting: whoever has it needs it for microseconds."""

_at_once = ctypes.PyDLL(None)
"""Keeps the interpreter: whoever let go of it here might get it back after another thread's turn, holding the lock."""
_waiting = ctypes.CDLL(None)


class Mutex:
    """A robust mutex of the C library in memory that processes share; not reentrant.

    It ends with a process that is killed, and the next one has it; so what is written under it must be of use at any
    moment.
    """

    __slots__ = ("_address", "_memory")

    def __init__(self, memory: object, at: int) -> None:
        """`memory` is writable and mapped by all, and has `MUTEX_BYTES` for this from `at` on, first zero.

        To be called by one process at a time.

        Raises:
            OSError: It cannot be made.
        """
        self._memory = (ctypes.c_char * MUTEX_BYTES).from_buffer(memory, at)  # type: ignore[arg-type]
        self._address = ctypes.c_void_p(ctypes.addressof(self._memory))
        if self._memory[_MADE] == b"\0":
            attributes = ctypes.create_string_buffer(MUTEX_BYTES)
            _check(_at_once.pthread_mutexattr_init(attributes))
            _check(_at_once.pthread_mutexattr_setpshared(attributes, _SHARED))
            _check(_at_once.pthread_mutexattr_setrobust(attributes, _ROBUST))
            _check(_at_once.pthread_mutex_init(self._address, attributes))
            self._memory[_MADE] = b"\1"

    def acquire(self) -> None:
        """Wait for it.

        Raises:
            OSError: It is none.
        """
        how = _try(self._address)
        if not how:
            return
        tries = _TRIES
        while how == errno.EBUSY and tries:
            tries -= 1
            how = _try(self._address)
        if how == errno.EBUSY:
            how = _waiting.pthread_mutex_lock(self._address)
        if how == errno.EOWNERDEAD:
            how = _at_once.pthread_mutex_consistent(self._address)
        _check(how)

    def release(self) -> None:
        """Let the next one have it."""
        _release(self._address)


_try = _at_once.pthread_mutex_trylock
_release = _at_once.pthread_mutex_unlock


def _check(code: int) -> None:
    if code:
        raise OSError(code, os.strerror(code))
