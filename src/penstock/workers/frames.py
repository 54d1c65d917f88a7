"""Messages between workers: a length of four bytes, then MessagePack."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Final

import msgspec

MOST_BYTES: Final = 64 * 1024 * 1024
"""Largest message, some bytes of framing apart."""
_HEAD: Final = 4
_FRAMING: Final = 1024

Frame = tuple[int, int, str, bytes]
"""Its kind, the number of the request it belongs to, its topic (of a failure: the code), and what it says."""

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Frame)


class Kind(IntEnum):
    """What a frame is; the first five are the asker's, the rest the answering side's."""

    HELLO = 0
    SAY = 1
    ASK = 2
    STREAM = 3
    CANCEL = 4
    CREDIT = 5
    ANSWER = 6
    PIECE = 7
    END = 8
    FAIL = 9


def encode(kind: Kind, number: int, topic: str, data: bytes) -> bytes | bytearray:
    """Return the bytes of one frame."""
    frame = bytearray(len(data) + 64)
    _encoder.encode_into((int(kind), number, topic, data), frame, _HEAD)
    frame[:_HEAD] = (len(frame) - _HEAD).to_bytes(_HEAD, "big")
    return frame


class Reader:
    """Finds frames in what arrives."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that are complete with `data`.

        Raises:
            ValueError: A frame is too large, or is none.
        """
        buffer = self._buffer
        buffer += data
        start, end = 0, len(buffer)
        try:
            while end - start >= _HEAD:
                size = int.from_bytes(buffer[start : start + _HEAD], "big")
                if size > MOST_BYTES + _FRAMING:
                    raise ValueError(f"a message of {size} bytes")
                if end - start - _HEAD < size:
                    break
                begin, start = start + _HEAD, start + _HEAD + size
                with memoryview(buffer) as view, view[begin:start] as part:
                    frame: Frame = _decoder.decode(part)
                yield frame
        except msgspec.DecodeError as error:
            raise ValueError(f"not a message: {error}") from error
        finally:
            del buffer[:start]
