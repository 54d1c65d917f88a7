"""Whether the other side can have read what was sent last, by what the system knows of the connection (RFC 9293)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys

if sys.platform == "linux":
    import fcntl
    import termios

_INFO_BYTES, _BYTES_SENT = 208, 200
"""Size of Linux' `tcp_info` up to and with `tcpi_bytes_sent`, and where that is."""


def unread(transport: asyncio.Transport, exc: Exception | None, *, before: int, size: int) -> bool:
    """Return whether nobody can have read the last `size` bytes, after `before` others, as far as that can be told.

    The end of the other side's data brings its last acknowledgement along; if that is of none of the bytes, they came
    too late. A reset after that end (EPIPE) answers bytes that came too late. A reset alone need not acknowledge what
    was read: then only what was never sent is known to be unread.
    """
    if isinstance(exc, BrokenPipeError):
        return True
    opened = transport.get_extra_info("socket")
    if sys.platform == "linux" and opened is not None:
        with contextlib.suppress(OSError, ValueError, struct.error):
            if exc is None:
                (waiting,) = struct.unpack("i", fcntl.ioctl(opened.fileno(), termios.TIOCOUTQ, b"\0" * 4))
                return bool(waiting + transport.get_write_buffer_size() >= size)
            if transport.get_extra_info("ssl_object") is None:
                info = opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
                (sent,) = struct.unpack_from("Q", info, _BYTES_SENT)
                return bool(sent <= before)
    return False
