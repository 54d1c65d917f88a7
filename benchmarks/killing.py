"""Gateways that are killed under load, and what is right about their books afterwards.

Two gateway processes share one database and ask one upstream, 20 % of whose answers are errors or break off. Every
200 requests one of them is killed with SIGKILL in the midst of its work and started again. At the end the database is
compared with the upstream's own invoice and with what the clients received.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import sys
import time
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from random import Random

from benchmarks.processes import free_port, say
from penstock.core.usage import Usage
from penstock.testing.answers import answer, chunks
from penstock.testing.faultd import (
    InvoiceLine,
    UpstreamReply,
    UpstreamRequest,
    UpstreamServer,
    json_reply,
    sse_frames,
    sse_reply,
)

CLIENTS = 32
FAULTS = 0.2
INPUT_PUSD, OUTPUT_PUSD = 1_500_000, 6_000_000
"""Picodollars a token, as the configuration says."""
_CONFIG = """\
providers:
  - {{name: first, kind: openai-compatible, base_url: "{upstream}/v1"}}
  - {{name: second, kind: openai-compatible, base_url: "{upstream}/v1"}}
models:
  - {{name: m, targets: [{{provider: first, model: m}}, {{provider: second, model: m}}]}}
prices: [{{usd_per_million: {{input: 1.5, output: 6}}}}]
retry: {{budget: 1.0, backoff_s: 0.01, max_backoff_s: 0.05}}
breaker: {{failures: 1000}}
store: {{url: "sqlite:///{folder}/books.db"}}
"""
_TEXT = "Seals are inspected every six months, the duty engineer signs the sheet and files it."


class Upstream:
    """The script of the upstream: good answers with tokens of their own, and faults."""

    def __init__(self) -> None:
        self._random = Random(7)

    def __call__(self, request: UpstreamRequest) -> UpstreamReply:
        """Reply to one request."""
        asked = request.json()
        number = int(name_of(request).removeprefix("case-"))
        usage = Usage(100 + number % 89, 10 + number % 31)
        if asked.get("stream"):
            good = sse_reply(chunks(_TEXT, usage=usage))
            length = sum(map(len, sse_frames(chunks(_TEXT, usage=usage))))
        else:
            body = answer(_TEXT, usage=usage)
            good, length = json_reply(body), len(body)
        if self._random.random() >= FAULTS:
            return good
        return self._random.choice(
            (
                json_reply({"error": {"message": "overloaded"}}, status=503),
                json_reply({"error": {"message": "broken"}}, status=500),
                UpstreamReply(cut="rst"),
                UpstreamReply(headers=good.headers, body=good.body, parts=good.parts, cut="rst", cut_after=length // 2),
            )
        )


def name_of(request: UpstreamRequest) -> str:
    """Which request of a client this attempt is for."""
    name: str = request.json()["messages"][0]["content"]
    return name


class Gateway:
    """One gateway process, which can be killed and started again."""

    def __init__(self, config: Path, number: int) -> None:
        self.port = free_port()
        self._log = config.parent / f"gateway-{number}.log"
        self._command = [sys.executable, "-m", "penstock", "serve", "--config", str(config), "--port", str(self.port),
                         "--log-level", "warning"]  # fmt: skip
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            RuntimeError: It does not start.
        """
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(*self._command, stdout=log, stderr=log)
        until = time.monotonic() + 60
        while not await asyncio.to_thread(_ready, self.port):
            if self._process.returncode is not None or time.monotonic() > until:
                raise RuntimeError(f"a gateway did not start:\n{self._log.read_text()[-2000:]}")
            await asyncio.sleep(0.02)

    async def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            await self._process.wait()

    async def stop(self) -> None:
        """SIGTERM."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await asyncio.wait_for(self._process.wait(), 60)


class Killing:
    """The whole run."""

    def __init__(self, folder: Path, origin: str, requests: int, kills: int) -> None:
        config = folder / "penstock.yaml"
        config.write_text(_CONFIG.format(upstream=origin, folder=folder))
        self.answered: set[str] = set()
        self.sent = 0
        self._requests = requests
        self._kills = kills
        self._allowed = asyncio.Semaphore(0)
        self._middle = 0
        self._in_the_midst = asyncio.Event()
        self._gateways = [Gateway(config, number) for number in range(2)]
        self._alive = set(self._gateways)
        self._random = Random(11)

    async def run(self) -> None:
        """Send all requests, with all kills among them."""
        try:
            await self._gateways[0].start()
            await self._gateways[1].start()
            clients = [asyncio.ensure_future(self._client()) for _ in range(CLIENTS)]
            for kill in range(self._kills):
                await self._kill_one(self._gateways[kill % 2])
            for _ in range(CLIENTS):
                self._allowed.release()  # what each takes to see that there is no more
            await asyncio.gather(*clients)
        finally:
            for gateway in self._gateways:
                await gateway.stop()

    async def _kill_one(self, gateway: Gateway) -> None:
        share = self._requests // self._kills
        self._middle = self.sent + share // 2
        self._in_the_midst.clear()
        for _ in range(share):
            self._allowed.release()
        await self._in_the_midst.wait()
        await asyncio.sleep(self._random.uniform(0.0, 0.02))
        self._alive.discard(gateway)
        await gateway.kill()
        await gateway.start()
        self._alive.add(gateway)

    async def _client(self) -> None:
        while True:
            await self._allowed.acquire()
            if self.sent >= self._requests:
                return
            name = f"case-{self.sent}"
            self.sent += 1
            if self.sent >= self._middle:
                self._in_the_midst.set()
            gateway = self._random.choice([*self._alive])
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                if await _ask(gateway.port, name, stream=self._random.random() < 0.5):
                    self.answered.add(name)


async def _ask(port: int, name: str, *, stream: bool) -> bool:
    """Whether a whole good answer came."""
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": name}], "stream": stream}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: books\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}x-request-id: {name}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        answered = (await reader.readuntil(b"\r\n\r\n")).lower()
        good = answered.startswith(b"http/1.1 200")
        if b"transfer-encoding: chunked" in answered:
            return good and b"[DONE]" in await reader.readuntil(b"\r\n0\r\n\r\n")
        await reader.readexactly(int(answered.partition(b"content-length:")[2].split(b"\r\n", 1)[0]))
        return good
    finally:
        writer.close()


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=2) as reply:
            return bool(reply.status == 200)
    except (OSError, urllib.error.HTTPError):
        return False


def audit(path: Path, invoice: Sequence[InvoiceLine], answered: set[str]) -> dict[str, int]:
    """Compare the ledger with the invoice and with what clients received.

    Returns:
        ``drift``: picodollars and tokens by which answered calls differ from the invoice, and sums from their rows;
        ``lost``: answered calls without a row, and requests and attempts on the invoice without one;
        ``duplicated``: rows of a request beyond its first.
    """
    connection = sqlite3.connect(path)
    calls = connection.execute("SELECT request_id, cost_pusd, outcome FROM calls").fetchall()
    attempts = connection.execute(
        "SELECT request_id, a.outcome, a.input_tokens, a.output_tokens, a.cost_pusd FROM attempts a "
        "JOIN calls c ON c.id = a.call_id"
    ).fetchall()
    summed = connection.execute("SELECT sum(calls), sum(attempts), sum(cost_pusd) FROM usage").fetchone()
    connection.close()

    rows = Counter(name for name, *_ in calls)
    asked = Counter(name_of(line.request) for line in invoice)
    tried = Counter(name for name, *_ in attempts)
    lost = sum(name not in rows for name in answered | set(asked))
    lost += sum(max(count - tried[name], 0) for name, count in asked.items())
    drift = abs(summed[0] - len(calls)) + abs(summed[1] - len(attempts))
    drift += abs(summed[2] - sum(cost for _, cost, _ in calls))
    drift += abs(sum(cost for _, cost, _ in calls) - sum(cost for *_, cost in attempts))

    billed: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for line in invoice:
        if line.usage is not None and line.status == 200 and line.ending == "finished":
            _add(billed[name_of(line.request)], line.usage.input_tokens, line.usage.output_tokens, None)
    booked: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for name, outcome, sent, made, cost in attempts:
        if outcome == "ok":
            _add(booked[name], sent, made, cost)
    drift += sum(
        abs(mine - theirs) for name in answered for mine, theirs in zip(booked[name], billed[name], strict=True)
    )
    interrupted = sum(outcome == "interrupted" for *_, outcome in calls)
    say(
        f"  {len(answered)} answered, {len(calls)} rows, {interrupted} interrupted, "
        f"{len(invoice)} attempts on the invoice"
    )
    return {"drift": drift, "lost": lost, "duplicated": sum(rows.values()) - len(rows), "interrupted": interrupted}


def _add(to: list[int], sent: int, made: int, cost: int | None) -> None:
    to[0] += sent
    to[1] += made
    to[2] += sent * INPUT_PUSD + made * OUTPUT_PUSD if cost is None else cost


async def killing(folder: Path, requests: int, kills: int) -> dict[str, int]:
    """Run it all."""
    async with UpstreamServer(Upstream()) as upstream:
        run = Killing(folder, upstream.origin, requests, kills)
        await run.run()
        return audit(folder / "books.db", upstream.invoice, run.answered) | {"answered": len(run.answered)}
