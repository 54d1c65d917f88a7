"""Heads of requests that came before: a client says the same of each of its requests, but for how long it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from penstock.server import controls
from penstock.server.hot import Fields, KnownAnswers
from penstock.server.seen import SeenBytes

_MOST_BYTES = 512 * 1024
_LENGTH = b"ength: "
"""The end of the name, which clients write in two ways."""
_NAME_BYTES = len(_LENGTH)
_DIGITS = 7
_CHANGING = frozenset({b"x-request-id", b"traceparent", b"transfer-encoding"})
"""Fields that are new with each request, or make the length another one."""


class Known(NamedTuple):
    """What a head was found to say.

    Attributes:
        route: Of its target.
        url: Its target.
        fields: All its header fields, lower-case, with the length of the request that had it first.
        headers: Those that `penstock.server.controls.pick` found, without the length.
    """

    route: KnownAnswers
    url: bytes
    fields: Fields
    headers: Mapping[bytes, bytes]

    def fields_for(self, body: bytes) -> Fields:
        """Return all header fields of a request with this body."""
        size = b"%d" % len(body)
        return [(name, size if name == b"content-length" else value) for name, value in self.fields]


class KnownHeads:
    """What the heads of plain requests to hot routes said, by their bytes without the digits of the body's length."""

    def __init__(self) -> None:
        self._known = SeenBytes[Known](_MOST_BYTES)
        self._get = self._known.get

    def find(self, data: bytes, end: int) -> tuple[Known, int] | None:
        """Return what the head says that ends at `end`, and the length of the body; None if it is not known."""
        start = data.find(_LENGTH, 0, end) + _NAME_BYTES
        stop = data.find(b"\r", start, end)
        known = self._get(data[:start] + data[stop:end])
        if known is None:
            return None
        digits = data[start:stop]
        return (known, int(digits)) if stop - start <= _DIGITS and digits.isdigit() else None

    def remember(self, data: bytes, end: int, size: int, route: KnownAnswers, url: bytes, fields: Fields) -> None:
        """Keep what the parser found in the head of `data`, which ends at `end`, with `size` bytes of body behind it.

        The head must say its body's length once, in the usual words, lest another reader of the same bytes sees
        another request; and the parser must have seen its end at `end`.
        """
        if size != len(data) - end or not _CHANGING.isdisjoint([name for name, _ in fields]):
            return
        head = data[:end]
        start = head.find(_LENGTH) + _NAME_BYTES
        stop = head.find(b"\r", start)
        length = [value for name, value in fields if name == b"content-length"]
        said = head.count(_LENGTH) == head.lower().count(b"content-length") == 1
        if said and length == [head[start:stop]] and length[0].isdigit():
            headers = controls.pick(fields)
            del headers[b"content-length"]
            self._known.remember(head[:start] + head[stop:], Known(route, url, fields, headers))
