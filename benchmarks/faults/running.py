"""Plays all cells and collects what was wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar

from benchmarks.faults.answers import WHOLE
from benchmarks.faults.asking import ask
from benchmarks.faults.breaks import breaks
from benchmarks.faults.cells import Cell, cross
from benchmarks.faults.judging import Played, judge
from benchmarks.faults.leaving import Left, judge_leaving, leave, leavings
from benchmarks.faults.leftovers import held, left_over
from benchmarks.faults.refusals import refusals
from benchmarks.faults.splits import Checked, bytewise, every_offset, flood, slow_reader, split_reply, three_parts
from benchmarks.faults.stage import CONNECTIONS, Stage
from penstock.testing import InvoiceLine, UpstreamReply, UpstreamRequest

T = TypeVar("T")
C = TypeVar("C")

AT_A_TIME = 8
"""Cells that are played together; more would be late for want of processor time, not through any fault."""
_HEAVY = ("64 MiB", "bomb", "4 MiB")
_PROBED = ("faulty", "impatient", "hurried", "capped", "secure")


class Row(NamedTuple):
    """One cell of the result: what it was and what was wrong with it."""

    line: int
    fault: str
    moment: str
    kind: str
    place: str
    expected: str
    problems: list[str]


class Result(NamedTuple):
    """All of it.

    Attributes:
        rows: Every cell.
        closed_ms: How long upstreams stayed open after their clients had left.
        splits: Answers split in two at an offset.
        leaks: What was left over.
        seconds: How long it took.
    """

    rows: list[Row]
    closed_ms: list[float]
    splits: int
    leaks: list[str]
    seconds: float

    @property
    def passed(self) -> int:
        """Cells without a problem."""
        return sum(not row.problems for row in self.rows)


def all_cells() -> list[Cell]:
    """The cells that are one answer each."""
    return list(cross([*refusals(), *breaks(), *bytewise()]))


async def run(cells: Sequence[Cell] | None = None, *, every: int = 1) -> Result:
    """Play the matrix.

    Args:
        cells: Those of one answer each; all by default.
        every: Of those that are not, play each n-th client that leaves, and splits at every byte only when it is 1.
    """
    started = time.monotonic()
    cells = all_cells() if cells is None else cells
    before = await held()
    with TemporaryDirectory() as folder:
        matrix = _Matrix(Path(folder), cells, every)
        async with matrix.stage:
            rows, left, splits, leaks = await matrix.play()
    leaks += await left_over(before)
    closed = [each.closed_ms for each in left if each.closed_ms is not None]
    return Result(rows, closed, splits, leaks, time.monotonic() - started)


class _Matrix:
    def __init__(self, folder: Path, cells: Sequence[Cell], every: int) -> None:
        self._cells = cells
        self._leaving = list(leavings())[::every]
        self._splits = every == 1
        self._known = {cell.id: cell for cell in (*cells, *(each.cell for each in self._leaving))}
        self._gate = asyncio.Event()
        self.stage = Stage(folder, self._script, self._models())

    async def play(self) -> tuple[list[Row], list[Left], int, list[str]]:
        """Return the rows, the clients that left, how many splits there were and what leaked."""
        stage = self.stage
        played = await _several([cell for cell in self._cells if not _is_heavy(cell)], self._play)
        played += [await self._play(cell) for cell in self._cells if _is_heavy(cell)]
        left = await _several(self._leaving, lambda each: leave(stage, each))
        checked = [each async for each in every_offset(stage)] if self._splits else []
        checked.append(three_parts())
        splits = sum(each.answers for each in checked)
        checked.append(await slow_reader(stage))
        leaks = [problem for provider in _PROBED for problem in await self._slots(provider)]
        leaks += self._running()
        return [*await self._judged(played, left), *map(_row_of, checked)], left, splits, leaks

    def _models(self) -> list[dict[str, Any]]:
        special = {"split-*": "faulty", "flood": "faulty"}
        special |= {f"slots-{provider}-*": provider for provider in _PROBED}
        models: list[dict[str, Any]] = [
            {"name": name, "targets": [{"provider": provider, "model": "*"}]} for name, provider in special.items()
        ]
        for cell in self._known.values():
            limit = {} if cell.fault.timeout_s is None else {"timeout_s": cell.fault.timeout_s}
            targets = [{"provider": provider, "model": cell.id} for provider in cell.targets]
            models.append({"name": cell.id, "targets": targets, **limit})
        return models

    def _script(self, request: UpstreamRequest) -> UpstreamReply:
        model = request.json()["model"]
        if model.startswith("split-"):
            return split_reply(model)
        if model.startswith("slots-"):
            headers = {"content-type": "application/json"}
            return UpstreamReply(headers=headers, parts=[self._gate, WHOLE], framing="length")
        if model == "flood":
            return flood()
        reply = self._known[model].fault.reply
        if reply is None:
            raise AssertionError(f"{model} was asked where nothing should arrive")
        return reply if isinstance(reply, UpstreamReply) else reply()

    async def _play(self, cell: Cell) -> Played:
        stage = self.stage
        heard = await ask(stage.port, cell.id, stream=cell.fault.stream)
        lines = stage.lines(cell.id)
        server = stage.secure if cell.fault.provider == "secure" else stage.faulty
        with suppress(TimeoutError):  # which is judged afterwards
            async with asyncio.timeout(1):
                await server.wait_until(lambda: all(map(_is_over, lines)))
        again = await ask(
            stage.port,
            cell.id,
            stream=not cell.fault.stream,
            request_id=f"{cell.id}-again",
            cache_control="only-if-cached",
        )
        return Played(cell, heard, again)

    async def _judged(self, played: Sequence[Played], left: Sequence[Left]) -> list[Row]:
        calls, attempts = await self.stage.rows()
        rows = []
        for each in played:
            ident = each.cell.id
            found = judge(each, self.stage.lines(ident), calls.get(ident, ()), attempts.get(ident, ()))
            rows.append(_row(each.cell, str(each.cell.expected), found))
        for gone in left:
            ident = gone.leaving.cell.id
            found = judge_leaving(gone, self.stage.lines(ident), calls.get(ident, ()), attempts.get(ident, ()))
            finished = gone.leaving.cell.fault.moment == "after the last event"
            rows.append(_row(gone.leaving.cell, f"recorded as `{'ok' if finished else 'client_closed'}`", found))
        return rows

    async def _slots(self, provider: str) -> list[str]:
        """Ask for more than all connections at once: one that was lost is missing, one given back twice is too many."""
        stage = self.stage
        names = [f"slots-{provider}-{number}" for number in range(CONNECTIONS + 4)]
        self._gate.clear()
        asking = [asyncio.create_task(ask(stage.port, name, stream=False)) for name in names]
        server = stage.secure if provider == "secure" else stage.faulty
        with suppress(TimeoutError):
            async with asyncio.timeout(3):
                await server.wait_until(lambda: _arrived(stage, names) >= CONNECTIONS)
        await asyncio.sleep(0.05)
        arrived = _arrived(stage, names)
        self._gate.set()
        answered = [heard.status for heard in await asyncio.gather(*asking)]
        if arrived != CONNECTIONS or answered != [200] * len(names):
            return [f"{provider} has {arrived} connections instead of {CONNECTIONS}; answers: {answered}"]
        return []

    def _running(self) -> list[str]:
        client = self.stage.served.client
        counts = {"requests in the pipeline": client.pipeline.running, "active calls": client.shared.metrics.active}
        return [f"{count} {what} after the last answer" for what, count in counts.items() if count]


def _arrived(stage: Stage, names: Sequence[str]) -> int:
    return sum(len(stage.lines(name)) for name in names)


def _is_over(line: InvoiceLine) -> bool:
    return line.ending == "finished" or (line.ending is not None and not line.request.connection.open)


def _row(cell: Cell, expected: str, problems: list[str]) -> Row:
    fault = cell.fault
    return Row(fault.line, fault.name, fault.moment, fault.kind, cell.place, expected, problems)


def _row_of(each: Checked) -> Row:
    kind = "JSON" if "JSON" in each.name else "stream"
    return Row(each.line, each.name, "in the middle", kind, "only", each.expected, each.problems)


def _is_heavy(cell: Cell) -> bool:
    return any(word in cell.fault.name for word in _HEAVY)


async def _several(items: Sequence[C], work: Callable[[C], Awaitable[T]]) -> list[T]:
    turn = asyncio.Semaphore(AT_A_TIME)

    async def one(item: C) -> T:
        async with turn:
            return await work(item)

    return list(await asyncio.gather(*map(one, items)))
