"""Line 12: the client disconnects."""

from __future__ import annotations

import asyncio
import math
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Literal, NamedTuple

from benchmarks.faults.answers import BOUNDARIES, WHOLE, good, stream, whole
from benchmarks.faults.asking import PATIENCE_S, Asking, Heard, ask
from benchmarks.faults.cells import ANSWERED, KINDS, PLACES, Cell, Fault, Moment
from benchmarks.faults.judging import CLOSED_S
from benchmarks.faults.stage import Stage
from penstock.testing import InvoiceLine, UpstreamReply, faults

How = Literal["fin", "rst"]


class Leaving(NamedTuple):
    """A cell, and how its client leaves."""

    cell: Cell
    how: How


class Left(NamedTuple):
    """A cell whose client has left.

    Attributes:
        leaving: The cell.
        at: When it left, on the event loop's clock.
        closed_ms: Milliseconds until the upstream's connection was closed; None after the last event.
        again: What another client got for the same question with ``only-if-cached``.
    """

    leaving: Leaving
    at: float
    closed_ms: float | None
    again: Heard


def leavings() -> Iterator[Leaving]:
    """Every moment, for JSON and streams, with FIN and with RST, in each place."""
    number = 0
    for kind in KINDS:
        moments: tuple[tuple[Moment, UpstreamReply], ...] = (
            ("before headers", UpstreamReply(silent=True)),
            ("before the first token", faults.stalled(good(kind), 0)),
            ("in the middle", faults.stalled(stream(), BOUNDARIES[4]) if kind == "stream" else _half()),
            ("after the last event", good(kind)),
        )
        for moment, reply in moments:
            for how in ("fin", "rst"):
                fault = Fault(12, f"the client leaves with {how.upper()}", moment, kind, ANSWERED, reply)
                for place in PLACES:
                    yield Leaving(Cell(f"leave-{number:03d}-{place}", fault, place), "rst" if how == "rst" else "fin")
                number += 1


async def leave(stage: Stage, leaving: Leaving) -> Left:
    """Ask, leave at the moment, and wait for the upstream's connection to be closed."""
    cell, fault = leaving.cell, leaving.cell.fault
    asking = Asking(stage.port)
    await asking.send(cell.id, stream=fault.stream)
    with suppress(TimeoutError, EOFError):  # judged by what is on the invoice and in the record then
        async with asyncio.timeout(PATIENCE_S):
            await _reach(stage, asking, cell)
    at = await asking.leave(leaving.how)
    closed_ms = None
    if fault.moment != "after the last event":
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await stage.faulty.wait_until(lambda: all(line.ending is not None for line in _mine(stage, cell)))
        closed_ms = max((((line.ended_at or math.inf) - at) * 1000 for line in _mine(stage, cell)), default=None)
    again = await ask(stage.port, cell.id, stream=False, request_id=f"{cell.id}-again", cache_control="only-if-cached")
    return Left(leaving, at, closed_ms, again)


async def _reach(stage: Stage, asking: Asking, cell: Cell) -> None:
    """Wait for the moment to leave."""
    fault = cell.fault
    await stage.faulty.wait_until(lambda: bool(_mine(stage, cell)))
    if fault.moment == "after the last event":
        await asking.hear()
    elif fault.moment == "in the middle" and fault.stream:
        await asking.head()
        while b"Wasser" not in await asking.chunk():
            pass
    else:
        # Until the gateway has read what the upstream sent, and watches its client.
        await asyncio.sleep(0.12)


def judge_leaving(
    left: Left, lines: Sequence[InvoiceLine], calls: Sequence[sqlite3.Row], rows: Sequence[sqlite3.Row]
) -> list[str]:
    """Return what is wrong with the cell."""
    return list(_problems(left, lines, calls, rows))


def _problems(
    left: Left, lines: Sequence[InvoiceLine], calls: Sequence[sqlite3.Row], rows: Sequence[sqlite3.Row]
) -> Iterator[str]:
    cell = left.leaving.cell
    finished = cell.fault.moment == "after the last event"
    if left.closed_ms is not None and left.closed_ms > CLOSED_S * 1000:
        yield f"the upstream was closed after {left.closed_ms:.0f} ms"
    if not lines:
        yield "no upstream was asked"
        return
    line = lines[-1]
    if line.ending != ("finished" if finished else "closed"):
        yield f"the upstream's answer was {line.ending}"
    if finished is not (left.again.status == 200):
        yield f"asked again: {left.again.status} {left.again.body[:100]!r}"
    outcome = "ok" if finished else "client_closed"
    if [call["outcome"] for call in calls] != [outcome]:
        yield f"recorded as {[call['outcome'] for call in calls]}"
    if len(rows) != len(lines) or not rows or rows[-1]["outcome"] != outcome:
        yield f"attempts recorded as {[row['outcome'] for row in rows]} for {len(lines)} lines on the invoice"
        return
    row = rows[-1]
    tokens = (row["input_tokens"], row["output_tokens"], row["usage_source"])
    if finished:
        if line.usage is None or tokens != (line.usage.input_tokens, line.usage.output_tokens, "provider"):
            yield f"{tokens} tokens for {line.usage} on the invoice"
    elif tokens[2] not in ("estimate", "calibrated") or not tokens[0]:
        yield f"{tokens} tokens of an answer that was paid for in part"


def _mine(stage: Stage, cell: Cell) -> list[InvoiceLine]:
    return [line for line in stage.lines(cell.id) if line.request.headers["host"].endswith(f":{stage.faulty.port}")]


def _half() -> UpstreamReply:
    return faults.stalled(whole(), len(WHOLE) // 2)
