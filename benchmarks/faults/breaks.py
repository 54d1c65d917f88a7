"""Lines 5 to 7, 9 and 10: answers that stop, break off, are something else, or too much."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from benchmarks.faults.answers import (
    BOUNDARIES,
    DONE,
    EVENTS,
    FINISHED,
    FRAMES,
    SSE,
    WHOLE,
    good,
    stream,
    whole,
)
from benchmarks.faults.cells import ANSWERED, KINDS, Fault, Moment, Outcome
from penstock.testing import UpstreamReply, faults, json_reply, sse_reply
from penstock.testing.faultd import sse_frames

_replace = msgspec.structs.replace
_LATE, _INCOMPLETE, _INVALID = ("upstream_timeout",), ("upstream_incomplete",), ("upstream_invalid",)
_JSON = {"content-type": "application/json"}
_HALF = len(WHOLE) // 2
_HOWS: tuple[Literal["fin", "rst"], ...] = ("fin", "rst")
_FRAMINGS: tuple[Literal["length", "chunked"], ...] = ("length", "chunked")
_INSIDE: tuple[tuple[int, Moment], ...] = ((0, "before the first token"), (_HALF, "in the middle"))
"""Bytes of a JSON answer, and the moment they stand for."""


def breaks() -> Iterator[Fault]:
    """Everything, as JSON and as a stream."""
    yield from _stalls()
    yield from _slow()
    yield from _cut_streams()
    yield from _cut_json()
    yield from _malformed()
    yield from _mistaken()
    yield from _compressed()
    yield from _too_much()


def moment_of(boundary: int) -> Moment:
    """When in a stream an event boundary is."""
    if boundary == 0:
        return "before the first token"
    return "after the last event" if boundary == DONE else "in the middle"


def _after(boundary: int, status: int, codes: tuple[str, ...]) -> Outcome:
    """An error before the first event, a frame after it, nothing after the last."""
    return ANSWERED if boundary == DONE else Outcome(200 if boundary else status, codes)


def _stalls() -> Iterator[Fault]:
    for boundary in (0, 1, 3, FINISHED, DONE):
        name = f"stall after event {boundary}"
        reply = faults.stalled(stream(), BOUNDARIES[boundary])
        yield Fault(5, name, moment_of(boundary), "stream", _after(boundary, 504, _LATE), reply, "impatient")
    for after, moment in _INSIDE:
        reply = faults.stalled(whole(), after)
        yield Fault(5, "stall", moment, "JSON", Outcome(504, _LATE), reply, "impatient")
    chunked = _replace(whole(), framing="chunked", cut="stall", cut_after=len(WHOLE))
    late = Outcome(504, _LATE)
    yield Fault(5, "stall before the last chunk", "after the last event", "JSON", late, chunked, "impatient")


def _slow() -> Iterator[Fault]:
    dripping = [b"%c" % byte for byte in b"".join(FRAMES[2:])]
    gaps: list[bytes | float] = [part for byte in dripping for part in (byte, 0.02)]
    streams: tuple[tuple[str, Moment, UpstreamReply], ...] = (
        ("drip", "before the first token", faults.dripped(stream(), 0.02)),
        ("drip", "in the middle", UpstreamReply(headers=SSE, parts=[*FRAMES[:2], *gaps])),
        ("comments only", "before the first token", faults.comments(0.02)),
        ("comments only", "in the middle", faults.comments(0.02, FRAMES[:2])),
    )
    for name, moment, reply in streams:
        status = 200 if moment == "in the middle" else 504
        late = Outcome(status, _LATE)
        yield Fault(5, f"{name}, to the attempt's end", moment, "stream", late, reply, "hurried")
        yield Fault(5, f"{name}, to the deadline", moment, "stream", late, reply, elsewhere=False, timeout_s=0.6)
    reply = faults.dripped(whole(), 0.02)
    late = Outcome(504, _LATE)
    yield Fault(5, "drip, to the attempt's end", "in the middle", "JSON", late, reply, "hurried")
    yield Fault(5, "drip, to the deadline", "in the middle", "JSON", late, reply, elsewhere=False, timeout_s=0.6)


def _cut_streams() -> Iterator[Fault]:
    for how in _HOWS:
        lost = Outcome(502, _INCOMPLETE)
        yield Fault(6, how.upper(), "before headers", "stream", lost, UpstreamReply(cut=how), "cutting")
        for boundary, size in enumerate(BOUNDARIES):
            reply = _replace(stream(), cut=how, cut_after=size)
            name = f"{how.upper()} after event {boundary}"
            yield Fault(6, name, moment_of(boundary), "stream", _after(boundary, 502, _INCOMPLETE), reply)
    for boundary in (0, 2, FINISHED, DONE):
        reply = _replace(stream(), framing="close", cut="fin", cut_after=BOUNDARIES[boundary])
        # The end of the connection is the end of such a body, and the answer's own end has been said.
        alone = ANSWERED if boundary >= FINISHED else _after(boundary, 502, _INCOMPLETE)
        name = f"end of a body without framing after event {boundary}"
        yield Fault(6, name, moment_of(boundary), "stream", alone, reply)
    unfinished = sse_reply([event for event in EVENTS if event.finish_reason is None])
    yield Fault(6, "`[DONE]` without a finish reason", "in the middle", "stream", Outcome(200, _INCOMPLETE), unfinished)
    yield Fault(6, "`[DONE]` alone", "before the first token", "stream", Outcome(502, _INCOMPLETE), sse_reply([]))


def _cut_json() -> Iterator[Fault]:
    lost = Outcome(502, _INCOMPLETE)
    for how in _HOWS:
        yield Fault(6, how.upper(), "before headers", "JSON", lost, UpstreamReply(cut=how), "cutting")
        for framing in _FRAMINGS:
            name = f"{how.upper()}, {framing}"
            common = _replace(whole(), framing=framing, cut=how)
            for after, moment in _INSIDE:
                reply = _replace(common, cut_after=after)
                yield Fault(6, name, moment, "JSON", lost, reply)
            beyond = _replace(common, cut_after=len(WHOLE) + 1)
            yield Fault(6, name, "after the last event", "JSON", ANSWERED, beyond)
    half = _replace(whole(), framing="close", cut="fin", cut_after=_HALF)
    yield Fault(6, "end of a body without framing", "in the middle", "JSON", Outcome(502, _INVALID), half)
    full = _replace(whole(), framing="close")
    yield Fault(6, "end of a body without framing", "after the last event", "JSON", ANSWERED, full)


def _malformed() -> Iterator[Fault]:
    name = "malformed chunk"
    for boundary in (0, 2, DONE):
        reply = faults.malformed_chunk(SSE, FRAMES[:boundary])
        yield Fault(7, name, moment_of(boundary), "stream", _after(boundary, 502, _INVALID), reply)
    invalid = Outcome(502, _INVALID)
    before: Sequence[tuple[Moment, list[bytes]]] = (("before the first token", []), ("in the middle", [WHOLE[:_HALF]]))
    for moment, parts in before:
        yield Fault(7, name, moment, "JSON", invalid, faults.malformed_chunk(_JSON, parts))
    for kind in KINDS:
        yield Fault(7, "another protocol", "before headers", kind, invalid, faults.not_http())
    bad = b'{"choices":[{"delta":{"content":"\xff"}}]}'
    for text, what in ((b"{oops", "an event that is no JSON"), (bad, "bad UTF-8")):
        frames = sse_frames([text], done=False)
        for boundary in (0, 2):
            reply = UpstreamReply(headers=SSE, parts=[*FRAMES[:boundary], *frames])
            yield Fault(7, what, moment_of(boundary), "stream", _after(boundary, 502, _INVALID), reply)
    for text, what in ((WHOLE[:_HALF], "half a document"), (WHOLE.replace("水".encode(), b"\xff"), "bad UTF-8")):
        yield Fault(7, what, "in the middle", "JSON", invalid, json_reply(text))


def _mistaken() -> Iterator[Fault]:
    invalid = Outcome(502, _INVALID)
    for kind in KINDS:
        right = good(kind)
        for name, reply in (
            ("a page of HTML", faults.html()),
            ("a wrong content type", faults.mislabelled(right, "text/plain")),
            ("no content type", faults.mislabelled(right, None)),
            ("an empty answer", _replace(right, body=b"", parts=None)),
            ("the other kind of answer", good("JSON" if kind == "stream" else "stream")),
        ):
            alone = Outcome(502, _INCOMPLETE) if kind == "stream" and name == "an empty answer" else invalid
            yield Fault(7, name, "before the first token", kind, alone, reply)


def _compressed() -> Iterator[Fault]:
    invalid = Outcome(502, _INVALID)
    for kind in KINDS:
        right = good(kind)
        yield Fault(9, "gzip", "after the last event", kind, ANSWERED, faults.gzipped(right), tries=(1,))
        for name, reply in (
            ("gzip, corrupt", faults.corrupt(right)),
            ("gzip, cut short", faults.truncated(right)),
            ("gzip, a bomb of 1000:1", faults.bomb(right)),
            ("brotli, which was not offered", _replace(right, headers={**right.headers, "content-encoding": "br"})),
        ):
            yield Fault(9, name, "before the first token", kind, invalid, reply)


def _too_much() -> Iterator[Fault]:
    for boundary in (0, 2):
        reply = faults.endless_line(before=FRAMES[:boundary])
        name = "one line of 64 MiB"
        yield Fault(10, name, moment_of(boundary), "stream", _after(boundary, 502, _INVALID), reply)
    invalid = Outcome(502, _INVALID)
    block = b" " * 65536
    announced = json_reply(WHOLE + block * 64)
    yield Fault(10, "4 MiB where 1 is allowed", "before the first token", "JSON", invalid, announced, "capped")
    endless = UpstreamReply(headers=_JSON, parts=[block] * 1024)
    yield Fault(10, "64 MiB in chunks where 1 is allowed", "in the middle", "JSON", invalid, endless, "capped")
