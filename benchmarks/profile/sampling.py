"""Microseconds per part: a timer of each thread's processor time samples where it is, inside the gateway under load.

What that cannot see: C code counts for the Python frame that called it. Time is taken at the kernel's ticks, so rows
below a percent are rough. A sampler from outside does worse: py-spy stops the process at the end of a system call if
one is near, and so says they are dear, or reads moving stacks, and loses a fifth of them.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks.load import Load
from benchmarks.processes import say
from benchmarks.profile.inside import Inside
from benchmarks.profile.parts import BESIDE, KERNEL, Parts
from benchmarks.profile.serving import KINDS, LOAD, bodies, gateway

CONNECTIONS = 64
_TICK_US = 1e6 / os.sysconf("SC_CLK_TCK")


class Sampled(NamedTuple):
    """Where the time of a kind of requests goes.

    Attributes:
        parts: Microseconds per request, by part.
        functions: The dearest functions of the event loop's thread without what they call, microseconds per request.
        n: Requests.
        samples: How many samples there were.
    """

    parts: dict[str, float]
    functions: list[tuple[float, str]]
    n: int
    samples: int


def measure(seconds: int) -> dict[str, Sampled]:
    """Sample each kind of requests for `seconds` under load."""
    found = {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        parts = Parts()
        inside = Inside(folder, parts)
        with gateway(folder, environment=inside.environment) as server:
            load = Load(folder, LOAD)
            for kind in KINDS:
                load.run(server, bodies(kind), connections=8, seconds=1)
                inside.ask("s")
                before = _used(server.process.pid)
                run = load.run(server, bodies(kind), connections=CONNECTIONS, seconds=seconds)
                used = [(now - then) / run.n for now, then in zip(_used(server.process.pid), before, strict=True)]
                found[kind] = _shared_out(inside.ask("e"), parts.names, used, run.n)
                say(f"{kind}: {sum(used):.1f} us, {found[kind].samples} samples")
                for us, function in found[kind].functions:
                    say(f"  {us:6.2f} us  {function}")
    return found


def _used(pid: int) -> tuple[float, float]:
    """Return the processor time of the first thread and of all others so far, in microseconds."""
    used = [0.0, 0.0]
    for task in Path(f"/proc/{pid}/task").iterdir():
        fields = (task / "stat").read_text().rsplit(")", 1)[1].split()
        used[int(task.name) != pid] += (int(fields[11]) + int(fields[12])) * _TICK_US
    return used[0], used[1]


def _shared_out(lines: list[list[str]], names: list[str], used: list[float], n: int) -> Sampled:
    samples: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    functions = []
    for what, *fields in lines:
        if what == "function":
            functions.append((int(fields[0]), fields[1]))
        else:
            other, system, part, seen = map(int, fields)
            samples[other][(KERNEL if system else "") + names[part]] += seen
    parts = {}
    for us, beside, counted in zip(used, ("", BESIDE), samples, strict=True):
        parts.update({beside + name: us * number / counted.total() for name, number in counted.items()})
    each = used[0] / max(samples[0].total(), 1)
    dearest = [(number * each, name) for number, name in sorted(functions, reverse=True)[:40]]
    return Sampled(parts, dearest, n, samples[0].total() + samples[1].total())
