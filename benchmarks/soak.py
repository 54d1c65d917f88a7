"""Does anything grow, leak, stall or get lost when much happens for long?

A gateway process on SQLite gets 50,000 requests over 32 connections, after a warm-up that fills its cache (2,000
entries here): 40 % of them known, 25 % chat, 20 % streams, 10 % embeddings, 5 % from clients that hang up. Upstream,
5 % fail and 2 % break off; the configuration is reloaded all the while. Then 2,000 more, without faults, are answered
under reloads, and SIGTERM comes in their midst.

    growth_mb      memory after the 50,000 − before, MiB
    leaked_slots   requests, coalesced calls and upstream connections still held when nothing is asked any more
    leaked_fds     descriptors that are neither a client's nor an upstream connection − the same before
    leaked_tasks   asyncio tasks − the same before
    loop_lag_ms    how late the event loop came to a timer, at worst
    idle_lag_ms    the same of a process beside it that does nothing: what the machine is to blame for
    dropped        requests that were sent and not answered, in all of it; one refused while connecting was not sent
    errors         answers that were errors, of the 50,000: what broke upstream after its first byte
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random

import uvloop

from benchmarks.faulty import SLOW, Faults, FaultyUpstream
from benchmarks.outcome import finish
from benchmarks.processes import Server, free_port, running, say

WARM, N, DRAINED = 12_000, 50_000, 2_000
CONNECTIONS = 32
_RELOAD_S = 2.0
_LONGEST_S = 100.0
"""A machine that does not get through in this time reports what it got through."""
_LIMIT = 1024 * 1024
_CONFIG = """\
providers:
  - {{name: first, kind: openai-compatible, base_url: "http://127.0.0.1:{upstream}/v1"}}
  - {{name: second, kind: openai-compatible, base_url: "http://127.0.0.1:{upstream}/v1"}}
models:
  - name: m
    targets: [{{provider: first, model: m}}, {{provider: second, model: m}}]
cache: {{exact: {{max_entries: 2000}}}}
store: {{url: "sqlite:///{folder}/soak.db"}}
"""
_BYSTANDER = """\
import asyncio, sys, time, uvloop
async def main():
    loop, worst = asyncio.get_running_loop(), 0.0
    ended = loop.run_in_executor(None, sys.stdin.read)
    while not ended.done():
        due = loop.time() + 0.05
        await asyncio.sleep(0.05)
        worst = max(worst, loop.time() - due)
    print(worst * 1000)
uvloop.run(main())
"""
_PATHS = {"chat": "/v1/chat/completions", "embeddings": "/v1/embeddings"}
_TEXT = "Seals are inspected every six months (manual 4.2); the duty engineer signs the sheet and files it. "


def _message(operation: str, body: dict[str, object]) -> bytes:
    data = json.dumps({"model": "m", **body}).encode()
    head = f"POST {_PATHS[operation]} HTTP/1.1\r\nhost: soak\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(data)}\r\n\r\n".encode() + data


def chat(text: str, *, stream: bool = False) -> bytes:
    """Return a request for a conversation."""
    asked = [{"role": "system", "content": _TEXT * 3}, {"role": "user", "content": text}]
    return _message("chat", {"messages": asked, "stream": stream})


def mixed(random: Random) -> Iterator[tuple[bytes, bool]]:
    """Yield requests, and whether their client hangs up."""
    for number in iter(int, 1):
        draw = random.random()
        text = f"Case {random.getrandbits(60)}"
        if draw < 0.40:
            yield chat(f"known {random.randrange(100)}", stream=draw < 0.2), False
        elif draw < 0.65:
            yield chat(text), False
        elif draw < 0.85:
            yield chat(text, stream=True), False
        elif draw < 0.95:
            yield _message("embeddings", {"input": f"{text} {number}"}), False
        else:
            yield chat(f"{text}, {SLOW.decode()}", stream=draw < 0.975), True


class Count:
    """What clients saw.

    Attributes:
        sent: Requests.
        errors: Answers that were errors, or streams that ended with one.
        dropped: Requests without a whole answer.
        aborted: Clients that hung up.
    """

    def __init__(self) -> None:
        self.sent = self.errors = self.dropped = self.aborted = 0


class Client:
    """One connection at a time, to one gateway."""

    def __init__(self, port: int, count: Count, random: Random) -> None:
        self._port = port
        self._count = count
        self._random = random
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, message: bytes, *, leave: bool) -> bool:
        """Send one request; False when no connection could be made, so that it was not sent."""
        if self._streams is None:
            try:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=_LIMIT)
            except OSError:
                return False
        reader, writer = self._streams
        self._count.sent += 1
        writer.write(message)
        try:
            if leave:
                await asyncio.sleep(self._random.uniform(0.0, 0.5))
                self._count.aborted += 1
                self.close()
            elif not await self._read(reader):
                self.close()
        except (OSError, asyncio.IncompleteReadError):
            self._count.dropped += 1
            self.close()
        return True

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _read(self, reader: asyncio.StreamReader) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b"transfer-encoding: chunked" in head:
            body = await reader.readuntil(b"\r\n0\r\n\r\n")
            wrong = b"[DONE]" not in body
        else:
            await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]))
            wrong = not head.startswith(b"http/1.1 200")
        self._count.errors += wrong
        return b"connection: close" not in head


class Worst:
    """The longest delay, in milliseconds."""

    worst_ms = 0.0


class Soak:
    """The whole run against one gateway."""

    def __init__(self, server: Server, port: int, faults: Faults) -> None:
        self._server = server
        self._port = port
        self._faults = faults
        self._random = Random(7)
        self._lag = 0.0
        self._until = time.monotonic() + _LONGEST_S

    async def run(self, n: int) -> tuple[dict[str, float], int]:
        """Return the figures, and how many requests they are of."""
        await self._load(WARM, reloads=True)
        before, memory = await self._rest(), self._server.memory_mb()
        say(f"  after the warm-up: {memory:.1f} MiB, {before}")
        count = await self._load(n, reloads=True)
        after, grown = await self._rest(), self._server.memory_mb()
        say(f"  after {count.sent} requests: {grown:.1f} MiB, {after}")
        drained = await self._drain()
        held = ("requests", "coalesced", "used")
        return {
            "growth_mb": round(grown - memory, 1),
            "leaked_slots": sum(after[name] for name in held),
            "leaked_fds": after["fds"] - before["fds"],
            "leaked_tasks": after["tasks"] - before["tasks"],
            "loop_lag_ms": round(self._lag * 1000, 1),
            "dropped": count.dropped + drained.dropped + drained.errors,
            "errors": count.errors,
            "aborted": count.aborted,
        }, count.sent + drained.sent

    async def _load(self, n: int, *, reloads: bool) -> Count:
        count, requests = Count(), mixed(self._random)
        reloading = asyncio.ensure_future(self._reload(_RELOAD_S)) if reloads else None

        async def work() -> None:
            client = Client(self._port, count, self._random)
            while count.sent < n and time.monotonic() < self._until:
                message, leave = next(requests)
                if not await client.ask(message, leave=leave):
                    raise RuntimeError("the gateway does not accept connections")
            client.close()

        started = time.monotonic()
        await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
        say(f"  {count.sent} requests, {count.sent / (time.monotonic() - started):.0f}/s, {count.errors} errors, "
            f"{count.aborted} hung up, {count.dropped} dropped")  # fmt: skip
        if reloading is not None:
            reloading.cancel()
        return count

    async def _reload(self, interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            self._server.process.send_signal(signal.SIGHUP)
            if interval_s >= _RELOAD_S:
                await self._scrape()

    async def _drain(self) -> Count:
        """Ask on while the configuration is reloaded, and on until SIGTERM has closed the door."""
        self._faults.on = False
        count, stopping = Count(), asyncio.Event()
        reloading = asyncio.ensure_future(self._reload(0.3))

        async def work() -> None:
            client = Client(self._port, count, self._random)
            while await client.ask(
                chat(f"drain {self._random.getrandbits(60)}", stream=count.sent % 2 > 0), leave=False
            ):
                if count.sent >= DRAINED:
                    stopping.set()
            client.close()

        working = asyncio.gather(*(work() for _ in range(CONNECTIONS)))
        await stopping.wait()
        reloading.cancel()
        self._server.process.send_signal(signal.SIGTERM)
        await working
        code = await asyncio.to_thread(self._server.process.wait, 30)
        say(
            f"  {count.sent} requests under reloads and SIGTERM: {count.dropped} dropped, {count.errors} errors; "
            f"exit {code}"
        )
        if code != 0:
            raise RuntimeError(f"the gateway ended with {code}")
        return count

    async def _rest(self) -> dict[str, int]:
        """Wait until nothing is under way, at most some seconds, and see what is held."""
        found: dict[str, int] = {}
        for _ in range(12):
            await asyncio.sleep(0.5)
            found = await self._scrape()
            if found["requests"] + found["coalesced"] + found["used"] == 0 and found["clients"] <= 1:
                break
        await asyncio.sleep(1)
        return await self._scrape()

    async def _scrape(self) -> dict[str, int]:
        page = await asyncio.to_thread(_get, f"http://127.0.0.1:{self._port}/metrics")
        figure: Callable[[str], float] = partial(_sum, page)
        self._lag = max(self._lag, figure("penstock_event_loop_lag_seconds"))
        used = int(figure(r'penstock_upstream_connections\{[^}]*state="used"\}'))
        clients = int(figure("penstock_client_connections"))
        upstream = int(figure(r"penstock_upstream_connections\{[^}]*\}"))
        return {
            "requests": int(figure(r'penstock_under_way\{what="requests"\}')),
            "coalesced": int(figure(r'penstock_under_way\{what="coalesced"\}')),
            "tasks": int(figure(r'penstock_under_way\{what="tasks"\}')),
            "used": used,
            "clients": clients,
            "fds": int(figure("process_open_fds")) - clients - upstream,
        }


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as reply:
        text: str = reply.read().decode()
    return text


def _sum(page: str, pattern: str) -> float:
    return sum(float(value) for value in re.findall(rf"^{pattern} (\S+)$", page, re.MULTILINE))


@contextlib.asynccontextmanager
async def bystander() -> AsyncIterator[Worst]:
    """Run an idle event loop in a process of its own and, when the block ends, say how late it was at worst."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _BYSTANDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    found = Worst()
    try:
        yield found
    finally:
        said, _ = await process.communicate(b"")
        found.worst_ms = float(said)


async def soak(folder: Path, n: int) -> tuple[dict[str, float], int]:
    """Start everything and run."""
    faults = Faults()
    upstream = await asyncio.get_running_loop().create_server(lambda: FaultyUpstream(faults), "127.0.0.1", 0)
    port = free_port()
    config = folder / "penstock.yaml"
    config.write_text(_CONFIG.format(upstream=upstream.sockets[0].getsockname()[1], folder=folder))
    command = [sys.executable, "-m", "penstock", "serve", "--config", str(config), "--port", str(port), "--json"]
    gateway = running("penstock", command, f"http://127.0.0.1:{port}", core="0-1", folder=folder, ready="/health/ready")
    with contextlib.ExitStack() as stack:
        server = await asyncio.to_thread(stack.enter_context, gateway)
        async with bystander() as idle:
            figures, sent = await Soak(server, port, faults).run(n)
    return {**figures, "idle_lag_ms": round(idle.worst_ms, 1)}, sent


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--json", action="store_true", help="accepted for uniformity: the last line always is JSON")
    parser.add_argument("--data", help="accepted for uniformity: no data is read")
    parser.add_argument("--n", type=int, default=N, help="requests after the warm-up (default 50000)")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        figures, n = uvloop.run(soak(Path(name), options.n))
    finish(figures, started=started, n=n)


if __name__ == "__main__":
    main()
