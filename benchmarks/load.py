"""Load from wrk: pinned, every request a POST."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from benchmarks.processes import Server

_SCRIPT = """\
local bodies, number, started = {{}}, 0, 0
for line in io.lines("{file}") do bodies[#bodies + 1] = line end
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
{headers}
function setup(thread) thread:set("id", started); started = started + 1 end
{request}
done = function(summary, latency, requests)
  io.write(string.format(
    "RESULT seconds=%.6f n=%d failed=%d p50=%.1f p99=%.1f\\n", summary.duration / 1e6, summary.requests,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status
      + summary.errors.timeout, latency:percentile(50), latency:percentile(99)))
end
"""
_REQUESTS = {
    "same": "wrk.body = bodies[1]",
    "number": """\
local before, after = bodies[1]:match("^(.*)NUMBER(.*)$")
function init() number = {first} + id * {apart} end
function request() number = number + 1; return wrk.format(nil, nil, nil, before .. number .. after) end""",
    "spaces": """\
function init() number = {first} + id * {apart} end
function request()
  local left, body = math.floor(number / #bodies), bodies[number % #bodies + 1]
  number = number + 1
  return wrk.format(nil, nil, nil, (body:gsub("\\t", function()
    local more = left % {most}
    left = (left - more) / {most}
    return (" "):rep(more + 1)
  end)))
end""",
}
MOST_SPACES = 3
"""In place of a tab."""
_EACH_RUN, _EACH_THREAD = 10_000_000, 5_000_000
"""Numbers that a run, and a thread of it, has to itself."""


class Measured(NamedTuple):
    """One run.

    Attributes:
        per_s: Requests answered per second.
        p50_ms: Median latency.
        p99_ms: 99th percentile of the latency.
        cpu_us: Processor time of the server per request, microseconds.
        n: Requests answered.
    """

    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    n: int


class Bodies(NamedTuple):
    """What is sent.

    Attributes:
        lines: Bodies, in turn; of more than one if they vary by spaces only.
        vary: How each differs from all others: not at all; by a number in place of NUMBER; or by how many spaces
            stand in place of each tab.
    """

    lines: Sequence[bytes]
    vary: Literal["same", "number", "spaces"] = "number"

    def other(self) -> bytes:
        """Return one that no run sends, unless all are the same."""
        return self.lines[0].replace(b"NUMBER", b"%d" % time.time_ns()).replace(b"\t", b" " * (MOST_SPACES + 1))


def chat_body(*, stream: bool, model: str = "gpt-mock", paragraphs: int = 4) -> bytes:
    """Return a request in which NUMBER stands where unique ones differ, of about 1 KB unless it has more paragraphs."""
    text = "Seals are inspected every six months (manual 4.2); the duty engineer signs the sheet and files it. "
    body = {
        "model": model,
        "messages": [
            {"role": "system", "content": "You are a careful assistant for a water utility. Cite the manual."},
            {"role": "user", "content": "How often are the penstock gate seals inspected?"},
            {"role": "assistant", "content": text * paragraphs},
            {"role": "user", "content": f"And after a flood? {text}{text}Case NUMBER."},
        ],
        "temperature": 0,
        "max_tokens": 256,
        **({"stream": True} if stream else {}),
    }
    return json.dumps(body).encode()


def whole_request(server: Server, body: bytes, *, digits: int) -> bytes:
    """Return `body` with its head, which is right when NUMBER is replaced by that many digits."""
    length = len(body) + (digits - len(b"NUMBER")) * body.count(b"NUMBER")
    fields = {"host": "bench", "content-type": "application/json", "content-length": str(length), **server.headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {server.path} HTTP/1.1\r\n{head}\r\n".encode() + body


class Load:
    """Makes requests from some cores.

    Attributes:
        cores: A core, or taskset's list of them.
    """

    def __init__(self, folder: Path, cores: int | str) -> None:
        self._folder = folder
        self.cores = cores
        self._first = _EACH_RUN
        self._spaced = 0

    def run(
        self,
        server: Server,
        bodies: Bodies,
        *,
        connections: int,
        seconds: int,
        threads: int = 1,
    ) -> Measured:
        """Send requests for `seconds`; those that vary differ from all others ever sent by this object.

        Raises:
            RuntimeError: A request failed: a rate with failures in it means nothing.
        """
        file, script = self._folder / "bodies", self._folder / "wrk.lua"
        file.write_bytes(b"\n".join(bodies.lines))
        first = self._first
        if bodies.vary == "spaces":  # without a gap, since there are only so many ways to space a question
            first = self._spaced
        self._first += _EACH_RUN
        script.write_text(
            _SCRIPT.format(
                file=file,
                headers="\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in server.headers.items()),
                request=_REQUESTS[bodies.vary].format(first=first, apart=_EACH_THREAD, most=MOST_SPACES),
            )
        )
        before = server.cpu_s()
        output = subprocess.run(
            ["taskset", "-c", str(self.cores), "wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s",
             "--timeout", "30s", "-s", str(script), server.url + server.path],
            capture_output=True, text=True, timeout=seconds + 90, check=True,
        ).stdout  # fmt: skip
        used = server.cpu_s() - before
        found = re.search(r"RESULT (.*)", output)
        if found is None:
            raise RuntimeError(f"wrk said:\n{output}")
        values = {name: float(value) for name, value in (pair.split("=") for pair in found.group(1).split())}
        if values["failed"] or not values["n"]:
            raise RuntimeError(f"{server.name}: {values['failed']:.0f} requests failed of {values['n']:.0f}")
        n = int(values["n"])
        if bodies.vary == "spaces":
            self._spaced += n + connections
        return Measured(n / values["seconds"], values["p50"] / 1000, values["p99"] / 1000, used / n * 1e6, n)
