"""Line 8, an answer split at every byte, and line 10, a client that does not read."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.faults.answers import SSE, TEXT, USAGE, stream, whole
from benchmarks.faults.asking import PATIENCE_S, Asking, ask, understand
from benchmarks.faults.cells import ANSWERED, Fault, Kind
from benchmarks.faults.judging import CLOSED_S
from benchmarks.faults.stage import Stage
from penstock.core.canonical import write_usage
from penstock.core.events import lines
from penstock.testing import UpstreamReply, faults, json_reply
from penstock.testing.faultd import sse_frames
from penstock.testing.faultd.script import Part
from penstock.wire.openai_stream import StreamReader

_PAUSE_S = 0.001
_AT_A_TIME = 16
_GROWTH_BYTES = 32 * 1024 * 1024
"""By how much the process may grow while a client does not read."""
_PAGE_BYTES = 4096


def _chunk(delta: dict[str, str], finish: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return json.dumps({"choices": [choice], **more}, ensure_ascii=False, separators=(",", ":")).encode()


_SHORT = b"".join(
    sse_frames(
        [
            _chunk({"content": TEXT[:14]}),
            _chunk({"content": TEXT[14:]}),
            _chunk({}, "stop", usage=write_usage(USAGE)),
        ]
    )
)
STYLES = {
    "LF": _SHORT,
    "CRLF": _SHORT.replace(b"\n", b"\r\n"),
    "CR": _SHORT.replace(b"\n", b"\r"),
    "BOM and comments": b"\xef\xbb\xbf: hi\n" + _SHORT.replace(b"\n\n", b"\n: ping\nid: 1\n\n"),
    "JSON": json.dumps(
        {"choices": [{"index": 0, "message": {"content": TEXT}, "finish_reason": "stop"}], "usage": write_usage(USAGE)},
        ensure_ascii=False,
    ).encode(),
}
"""Bodies that all say the same."""


class Checked(NamedTuple):
    """A cell that is not a single answer.

    Attributes:
        line: Of the specification.
        name: What was done.
        expected: What must come of it.
        problems: What was wrong.
        answers: How many answers it took.
    """

    line: int
    name: str
    expected: str
    problems: list[str]
    answers: int


def bytewise() -> Iterator[Fault]:
    """Answers that come a byte at a time."""
    kinds: tuple[tuple[Kind, UpstreamReply], ...] = (("stream", stream()), ("JSON", whole()))
    for kind, reply in kinds:
        slow = faults.split(reply)
        yield Fault(8, "every byte by itself", "in the middle", kind, ANSWERED, slow, tries=(1,))
    for name in ("CRLF", "CR", "BOM and comments"):
        reply = faults.split(UpstreamReply(headers=SSE, body=STYLES[name], framing="chunked"))
        yield Fault(8, f"every byte by itself, {name}", "in the middle", "stream", ANSWERED, reply, tries=(1,))


def split_reply(model: str) -> UpstreamReply:
    """Return the reply to the model ``split-STYLE-OFFSET``."""
    _, style, offset = model.rsplit("-", 2)
    body, at = STYLES[style], int(offset)
    parts: list[Part] = [body[:at], _PAUSE_S, body[at:]]
    if style == "JSON":
        return UpstreamReply(headers=json_reply({}).headers, parts=parts, framing="length")
    return UpstreamReply(headers=SSE, parts=parts)


async def every_offset(stage: Stage) -> AsyncIterator[Checked]:
    """Split each style's body at each offset."""
    turn = asyncio.Semaphore(_AT_A_TIME)

    async def one(style: str, offset: int) -> str:
        streamed = style != "JSON"
        async with turn:
            heard = await ask(stage.port, f"split-{style}-{offset}", stream=streamed)
        said = understand(heard, stream=streamed)
        good = heard.complete and (said.text, said.finish, said.done) == (TEXT, "stop", True)
        return "" if good else f"split at {offset}: {heard.status} {said}"

    for style, body in STYLES.items():
        found = await asyncio.gather(*(one(style, offset) for offset in range(1, len(body))))
        problems = [problem for problem in found if problem]
        yield Checked(8, f"split in two at every byte, {style}", "answered", problems, len(found))


def three_parts(count: int = 10_000, seed: int = 1) -> Checked:
    """Split the streams' bodies in three at `count` pairs of offsets, for the decoder alone."""
    chance = random.Random(seed)
    problems = []
    bodies = [(style, body) for style, body in STYLES.items() if style != "JSON"]
    whole = {style: lines(StreamReader("").feed(body)) for style, body in bodies}
    for number in range(count):
        style, body = bodies[number % len(bodies)]
        first, second = sorted(chance.sample(range(len(body)), 2))
        reader = StreamReader("")
        parts = (body[:first], body[first:second], body[second:])
        if lines([event for part in parts for event in reader.feed(part)]) != whole[style] or not reader.done:
            problems.append(f"{style} split at {first} and {second}")
    return Checked(8, f"split in three, {count:,} times, the decoder alone", "answered", problems, count)


async def slow_reader(stage: Stage) -> Checked:
    """Let an upstream send as fast as it can to a client that reads nothing, and then hangs up."""
    problems = []
    asking = Asking(stage.port)
    resident = _resident()
    await asking.send("flood", stream=True)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await stage.faulty.wait_until(lambda: bool(stage.lines("flood")))
            line = stage.lines("flood")[0]
            # The kernel's buffers, tens of megabytes in all, are filled first.
            before = -1
            while before != line.sent_bytes:
                before = line.sent_bytes
                await asyncio.sleep(0.4)
            if (growth := _resident() - resident) > _GROWTH_BYTES:
                problems.append(f"the process grew by {growth} bytes while the upstream got rid of {before}")
            left = await asking.leave()
            await stage.faulty.wait_until(lambda: line.ending is not None)
        if (line.ended_at or left) - left > CLOSED_S:
            problems.append("the upstream was not hung up on in time")
    except TimeoutError:
        problems.append("the upstream is not held up, or not hung up on")
    return Checked(10, "fast upstream, slow client", "the upstream waits", problems, 1)


def _resident() -> int:
    """Bytes of the process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES


def flood() -> UpstreamReply:
    """The reply to the model ``flood``."""
    return faults.flood(sse_frames([_chunk({"content": "water " * 1000})], done=False)[0])
