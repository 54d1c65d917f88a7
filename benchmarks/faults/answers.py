"""The good answers that faults are made of."""

from __future__ import annotations

from itertools import accumulate

from benchmarks.faults.cells import Kind
from penstock.core.usage import Usage
from penstock.testing import UpstreamReply, answer, chunks, json_reply, sse_reply
from penstock.testing.faultd import sse_frames

TEXT = "Wasser läuft. 水門は閉じている。 🚰👩‍🔧 Ready."
PIECES = ("Wasser läuft. ", "水門は閉じて", "いる。 🚰👩‍", "🔧 Ready.")
USAGE = Usage(input_tokens=23, output_tokens=17)
SSE = {"content-type": "text/event-stream"}

EVENTS = chunks(TEXT, PIECES, usage=USAGE)
"""Role, four pieces, finish reason, usage."""
FRAMES = sse_frames(EVENTS)
BOUNDARIES = (0, *accumulate(map(len, FRAMES)))
"""Bytes before each event, and after the last, which is ``[DONE]``."""
FINISHED = len(FRAMES) - 2
"""The boundary after the finish reason."""
DONE = len(FRAMES)
"""The boundary after ``[DONE]``."""
WHOLE = answer(TEXT, usage=USAGE)


def stream() -> UpstreamReply:
    """The answer as a stream."""
    return sse_reply(EVENTS)


def whole() -> UpstreamReply:
    """The answer as JSON."""
    return json_reply(WHOLE)


def good(kind: Kind) -> UpstreamReply:
    """The answer in the form that was asked for."""
    return stream() if kind == "stream" else whole()
