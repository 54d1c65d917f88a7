"""Instructions per part: the whole process under callgrind, with frames of different parts run through C functions.

`frames.c` hooks the evaluation of frames. That keeps the interpreter from calling Python functions without C calls, so
everything takes more instructions than it does; the parts are therefore scaled to what is counted without the hook.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.processes import Server, say
from benchmarks.profile.counting import ask, callgrind, warmed
from benchmarks.profile.inside import Inside
from benchmarks.profile.parts import Parts
from benchmarks.profile.serving import KINDS, Client, gateway

_N = {"hit": 200, "json": 60, "sse": 40}

Arc = tuple[int, int, int]
"""How many arcs are around, the part outside, the part inside."""


def measure(totals: Mapping[str, int], parts: Parts) -> dict[str, dict[str, float]]:
    """Share out `totals`, the instructions of the event loop's thread by kind, among the parts."""
    found = {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        inside = Inside(folder, parts)
        with gateway(folder, under=callgrind(folder), environment=inside.environment) as server:
            inside.ask("h")
            client = warmed(server, KINDS)
            for kind in KINDS:
                shares = _shares(folder, inside, server, client, kind)
                found[kind] = {parts.names[part]: totals[kind] * share for part, share in shares.items()}
            client.close()
    return found


def _shares(folder: Path, inside: Inside, server: Server, client: Client, kind: str) -> dict[int, float]:
    _dump(folder, server)
    client.send(kind, _N[kind])
    lines = _dump(folder, server)
    arcs = {int(f"0x{fields[1]}", 16): _arc(fields) for fields in inside.ask("a")}
    total, inclusive = totalled(lines)
    say(f"{kind}: {total / _N[kind]:,.0f} instructions with the hook")
    return {part: cost / total for part, cost in owned(total, arcs, inclusive).items()}


def _arc(fields: list[str]) -> Arc:
    depth, outer, part = map(int, fields[2:])
    return depth, outer, part


def owned(total: int, arcs: Mapping[int, Arc], inclusive: Mapping[int, int]) -> dict[int, int]:
    """Return what each part costs without what it calls.

    Raises:
        RuntimeError: What a part calls costs more than itself: the counts do not belong together.
    """
    own: Counter[tuple[int, int]] = Counter({(0, 0): total})
    for number, (depth, outer, part) in arcs.items():
        own[depth + 1, part] += inclusive.get(number, 0)
        own[depth, outer] -= inclusive.get(number, 0)
    if wrong := [each for each, cost in own.items() if cost < 0]:
        raise RuntimeError(f"callgrind's counts do not add up at {wrong}")
    parts: Counter[int] = Counter()
    for (_, part), cost in own.items():
        parts[part] += cost
    return dict(parts)


def _dump(folder: Path, server: Server) -> list[str]:
    """Have the counters written and zeroed; returns the lines for the event loop's thread."""
    for old in folder.glob("callgrind.*"):
        old.unlink()
    ask(server, "dump")
    return next(iter(sorted(folder.glob("callgrind.*-01")))).read_text().splitlines()


def totalled(lines: Iterable[str]) -> tuple[int, dict[int, int]]:
    """Read callgrind's file.

    Returns:
        All instructions, and those within each arc, by its number, of calls made by the hook.
    """
    total, inclusive = 0, Counter[int]()
    names: dict[str, int | None] = {}
    called: int | None = None
    counts_call = False
    for line in lines:
        if line.startswith(("totals:", "summary:")):
            total = int(line.split()[1])
        elif line.startswith(("fn=", "cfn=")):
            mark, _, name = line.partition("=")[2].partition(" ")
            if name:
                found = re.match(r"arc_([0-9a-f]{3})\b", name)
                names[mark] = int(found[1], 16) if found else None
            if line.startswith("cfn="):
                called = names[mark]
        elif line.startswith("calls="):
            counts_call = True
        elif counts_call:
            counts_call = False
            if called is not None:
                inclusive[called] += int(line.split()[1])
            called = None
    return total, dict(inclusive)
