"""The spool's files: a magic that names the format, then frames of length, Adler-32 and an `Entry` in MessagePack."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from penstock.core.errors import StoreError
from penstock.stores.sql.entry import Entry

MAGIC = b"PSPOOL1\n"
_HEADER = struct.Struct("<II")
_LONGEST = 64 * 1024 * 1024
"""A frame that says it is longer is damaged, not cut short."""
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode


class DamagedError(Exception):
    """A file is not what was written."""


def pack(entry: Entry) -> bytes:
    """Make a frame."""
    payload = _encode(entry)
    return _HEADER.pack(len(payload), zlib.adler32(payload)) + payload


def unpack(path: Path) -> Iterator[Entry]:
    """Read a file up to its end, or to a frame whose writing was cut short by a kill.

    Raises:
        DamagedError: It is not what was written, from here on.
        StoreError: Another version of Penstock wrote it.
    """
    data = memoryview(path.read_bytes())
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise _foreign(path)
    at = len(MAGIC)
    while len(data) - at >= _HEADER.size:
        size, checksum = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        if at + size > len(data) and size <= _LONGEST:
            return
        payload = data[at : at + size]
        if not size or zlib.adler32(payload) != checksum:
            raise DamagedError
        try:
            yield _decode(payload)
        except msgspec.DecodeError as error:
            raise _foreign(path) from error
        at += size


def _foreign(path: Path) -> StoreError:
    return StoreError(
        f"{path} was written by another version of Penstock: start that one once on this database, or move the file "
        "away to go on without the calls in it"
    )
