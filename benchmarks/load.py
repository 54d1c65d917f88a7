"""Load from wrk: one thread, pinned, every request a POST of a chat body."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks.processes import Server

_SCRIPT = """\
local file = io.open("{body}", "r"); local body = file:read("*a"); file:close()
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
{headers}
{request}
done = function(summary, latency, requests)
  io.write(string.format(
    "RESULT seconds=%.6f n=%d failed=%d p50=%.1f p99=%.1f\\n", summary.duration / 1e6, summary.requests,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status
      + summary.errors.timeout, latency:percentile(50), latency:percentile(99)))
end
"""
_SAME = "wrk.body = body"
_UNIQUE = """\
local number = {seed}
local before, after = body:match("^(.*)NUMBER(.*)$")
request = function() number = number + 1; return wrk.format(nil, nil, nil, before .. number .. after) end"""


class Measured(NamedTuple):
    """One run of wrk.

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


def chat_body(*, stream: bool, model: str = "gpt-mock") -> bytes:
    """Return a request of about 1 KB in which NUMBER stands where unique ones differ."""
    text = "Seals are inspected every six months (manual 4.2); the duty engineer signs the sheet and files it. "
    body = {
        "model": model,
        "messages": [
            {"role": "system", "content": "You are a careful assistant for a water utility. Cite the manual."},
            {"role": "user", "content": "How often are the penstock gate seals inspected?"},
            {"role": "assistant", "content": text * 4},
            {"role": "user", "content": f"And after a flood? {text}{text}Case NUMBER."},
        ],
        "temperature": 0,
        "max_tokens": 256,
        **({"stream": True} if stream else {}),
    }
    return json.dumps(body).encode()


class Load:
    """Makes requests from one core."""

    def __init__(self, folder: Path, core: int) -> None:
        self._folder = folder
        self._core = core
        self._seed = 10_000_000

    def run(
        self,
        server: Server,
        *,
        path: str = "/v1/chat/completions",
        connections: int,
        seconds: int,
        stream: bool = False,
        unique: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> Measured:
        """Send requests for `seconds`; `unique` ones differ from all others ever sent.

        Raises:
            RuntimeError: A request failed: a rate with failures in it means nothing.
        """
        body = self._folder / ("stream.json" if stream else "whole.json")
        body.write_bytes(chat_body(stream=stream))
        self._seed += 10_000_000
        script = self._folder / "wrk.lua"
        script.write_text(
            _SCRIPT.format(
                body=body,
                headers="\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in (headers or {}).items()),
                request=_UNIQUE.format(seed=self._seed) if unique else _SAME,
            )
        )
        before = server.cpu_s()
        output = subprocess.run(
            ["taskset", "-c", str(self._core), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s",
             "-s", str(script), server.url + path],
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
        return Measured(n / values["seconds"], values["p50"] / 1000, values["p99"] / 1000, used / n * 1e6, n)
