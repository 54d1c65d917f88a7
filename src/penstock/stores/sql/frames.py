"""The spool's files: a magic that names the format, then frames of length, Adler-32 and an `Entry` in MessagePack.

A mapped file has its whole size from the beginning and is zero where nothing was written; a frame's header is stored
after its payload, by one instruction, so a zero header is the end. A written file ends with its last frame.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from penstock.core.errors import StoreError
from penstock.stores.sql.entry import Entry

WRITTEN, MAPPED = b"PSPOOL1\n", b"PSPOOL2\n"
HEADER_BYTES = 8
_HEADER = struct.Struct("<Q")
_LONGEST = 64 * 1024 * 1024
"""A frame that says it is longer is damaged, not cut short."""
_decode = msgspec.msgpack.Decoder(Entry).decode

pack = msgspec.msgpack.Encoder().encode
"""Make a frame's payload of an entry."""
put_header = _HEADER.pack_into
"""Store a `header`, given a buffer, a position and the header."""


class DamagedError(Exception):
    """A file is not what was written."""


def header(payload: bytes | memoryview) -> int:
    """Return what stands before `payload`: its length and its checksum."""
    return len(payload) | zlib.adler32(payload) << 32


def frames(payloads: Iterable[bytes]) -> bytes:
    """Make frames of `payloads`."""
    return b"".join([part for payload in payloads for part in (_HEADER.pack(header(payload)), payload)])


def unpack(path: Path) -> Iterator[Entry]:
    """Read a file up to its end, or to a frame whose writing was cut short by a kill.

    Raises:
        DamagedError: It is not what was written, from here on.
        StoreError: Another version of Penstock wrote it.
    """
    data = memoryview(path.read_bytes())
    magic = bytes(data[:HEADER_BYTES])
    if not any(magic):  # it was killed before it began the file
        return
    mapped = magic == MAPPED
    if not mapped and magic != WRITTEN[: len(magic)]:
        raise _foreign(path)
    at = len(magic)
    while len(data) - at >= HEADER_BYTES:
        (before,) = _HEADER.unpack_from(data, at)
        if mapped and not before:
            return
        at += HEADER_BYTES
        size = before & 0xFFFFFFFF
        if not mapped and at + size > len(data) and size <= _LONGEST:
            return
        payload = data[at : at + size]
        if not size or header(payload) != before:
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
