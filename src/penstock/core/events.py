"""The canonical pieces of a streamed answer.

Penstock's canonical form of a chat answer is the one of OpenAI's chat completions: a whole answer is a
``chat.completion`` object, a piece of a stream a ``chat.completion.chunk``. Other dialects are translated to and from
it in `penstock.wire`, so a provider and a client that both speak it exchange the very same JSON.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from penstock.core.usage import Usage

BETWEEN = b"\n\ndata: "
"""What is between the chunks of an event that has several: as on the wire, since they come and go so."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """One chunk of a streamed answer, or several that came together and differ in the text of their choice alone.

    Attributes:
        data: The chunk as JSON, one line, in the canonical form; several with `BETWEEN` between them.
        finish_reason: Why a choice ended, if this chunk ends one.
        usage: Token counts, if this chunk carries them.
        has_text: Whether the first choice says something visible, in a chunk that has no other choice, no refusal, no
            call of a tool and no error; None for any other chunk, and when nobody has looked.
        bare_usage: The chunk has no choices: it exists only to carry usage (OpenAI's ``include_usage`` chunk).
        chunks: How many chunks it has. Several end nothing and carry no counts.
        shortest: Bytes of the shortest of several.
    """

    data: bytes
    finish_reason: str | None = None
    usage: Usage | None = None
    has_text: bool | None = None
    bare_usage: bool = False
    chunks: int = 1
    shortest: int = 0

    def singles(self) -> list[Event]:
        """Return an event for each of its chunks."""
        return [self] if self.chunks == 1 else [Event(data) for data in self.data.split(BETWEEN)]


Batch = list[Event]
"""Chunks that became known at once, e.g. with one network read; never empty."""


def lines(events: Iterable[Event]) -> bytes:
    """Return the chunks of `events`, one a line."""
    return b"\n".join([event.data for event in events]).replace(BETWEEN, b"\n")
