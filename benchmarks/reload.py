"""Are requests dropped, or answered from half a set, while 50 prompts are read again and again?

A gateway process serves 50 prompts from a directory behind a symbolic link. Clients send requests that name them, whole
and streamed, over connections they keep. Meanwhile another set takes the place of the one in force, over and over: all
files new, the link replaced, `POST /admin/templates/reload`. Every fifth set has a broken file and must be refused. The
number of its set is in each prompt twice, in its own file and in one that it includes; the upstream says what it was
sent.

A request is dropped when its answer is not whole and right, for any reason; torn, when its two numbers differ; stale,
when its set was not in force at any time between its start and its end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvloop

from benchmarks.killing import Gateway
from benchmarks.outcome import finish
from benchmarks.processes import say
from penstock.testing.answers import answer, chunks
from penstock.testing.faultd import UpstreamReply, UpstreamRequest, UpstreamServer, json_reply, sse_reply

CLIENTS = 16
BROKEN_EVERY = 5
_KEY = "sk-only-for-this-benchmark"
_CONFIG = """\
providers: [{{name: up, kind: openai-compatible, base_url: "{upstream}/v1"}}]
models: [{{name: m, targets: [{{provider: up, model: m}}]}}]
server: {{admin_key: {key}}}
prompts: {{directory: "{folder}/live", reload: false}}
store: {{url: "sqlite:///{folder}/penstock.db"}}
"""
_PROMPT = """\
model: m
variables: {{name: string}}
system: "{{% include 'number.j2' %}}"
user: "set {number}, prompt {index} for {{{{ name }}}}"
"""
_SAID = re.compile(r"set (\d+) \| set (\d+), prompt (\d+) for (case-\d+)")


def echo(request: UpstreamRequest) -> UpstreamReply:
    """Say what was asked, after a while."""
    asked = request.json()
    text = " | ".join(message["content"] for message in asked["messages"])
    if asked.get("stream"):
        return sse_reply(chunks(text), gap_s=0.005)
    whole = json_reply(answer(text))
    return UpstreamReply(headers=whole.headers, body=whole.body, delay_s=0.05)


class Sets:
    """Writes sets of prompts, and puts them in force."""

    def __init__(self, folder: Path, prompts: int) -> None:
        self._folder = folder
        self._prompts = prompts

    def publish(self, number: int, *, broken: bool = False) -> None:
        """Write a set and let the link lead to it, in one step."""
        folder = self._folder / f"set-{number}"
        folder.mkdir()
        (folder / "number.j2").write_text(f"set {number}")
        for index in range(self._prompts):
            (folder / f"p{index}.yaml").write_text(_PROMPT.format(number=number, index=index))
        if broken:
            (folder / "p1.yaml").write_text("model: m\nuser: |\n  {{ undeclared }}\n")
        following = self._folder / "following"
        following.symlink_to(folder)
        os.replace(following, self._folder / "live")


class Run:
    """The requests and the reloads."""

    def __init__(self, folder: Path, prompts: int, requests: int) -> None:
        self._sets = Sets(folder, prompts)
        self._prompts = prompts
        self._requests = requests
        self._sent = 0
        self._confirmed = self._published = 0
        self.counts = {"dropped": 0, "torn": 0, "stale": 0, "reloads": 0, "refused": 0, "wrongly_taken": 0}
        self.took: list[float] = []

    async def run(self, port: int) -> None:
        """Send all requests, reloading until the last is answered."""
        clients = asyncio.gather(*(self._client(port) for _ in range(CLIENTS)))
        reloading = asyncio.ensure_future(self._reload(port, clients))
        await clients
        await reloading

    async def _reload(self, port: int, clients: asyncio.Future[Any]) -> None:
        connection = await Connection.open(port)
        number = 0
        while not clients.done():
            number += 1
            broken = number % BROKEN_EVERY == 0
            await asyncio.to_thread(self._sets.publish, number, broken=broken)
            if not broken:
                self._published = number
            began = time.monotonic()
            status, body = await connection.ask("/admin/templates/reload", b"{}")
            if broken:
                good = status == 409 and b"p1.yaml:3" in body
                self.counts["refused" if good else "wrongly_taken"] += 1
            elif status == 200 and len(json.loads(body)["changed"]) == self._prompts:
                self._confirmed = number
                self.took.append(time.monotonic() - began)
                self.counts["reloads"] += 1
            else:
                raise RuntimeError(f"set {number} was not taken: {status} {body[:500]!r}")
        connection.close()

    async def _client(self, port: int) -> None:
        connection = await Connection.open(port)
        while self._sent < self._requests:
            case = self._sent
            self._sent += 1
            oldest = self._confirmed
            try:
                text = await self._ask(connection, case)
            except (OSError, EOFError, ValueError, KeyError) as error:
                say(f"  case-{case}: {type(error).__name__} {error}")
                text = ""
                connection.close()
                connection = await Connection.open(port)
            self._judge(case, text, oldest)
        connection.close()

    async def _ask(self, connection: Connection, case: int) -> str:
        stream = case % 2 == 1
        prompt = {"id": f"p{case % self._prompts}", "variables": {"name": f"case-{case}"}}
        body = json.dumps({"prompt": prompt, "stream": stream}).encode()
        status, said = await connection.ask("/v1/chat/completions", body)
        if status != 200:
            raise ValueError(f"status {status}: {said[:300]!r}")
        if not stream:
            return str(json.loads(said)["choices"][0]["message"]["content"])
        frames = [line[6:] for line in said.split(b"\n\n") if line.startswith(b"data: ")]
        if frames[-1] != b"[DONE]":
            raise ValueError("a stream without its end")
        deltas = (choice["delta"] for frame in frames[:-1] for choice in json.loads(frame)["choices"])
        return "".join(delta.get("content") or "" for delta in deltas)

    def _judge(self, case: int, text: str, oldest: int) -> None:
        found = _SAID.fullmatch(text)
        if found is None or int(found[3]) != case % self._prompts or found[4] != f"case-{case}":
            self.counts["dropped"] += 1
        elif found[1] != found[2]:
            self.counts["torn"] += 1
        elif not oldest <= int(found[1]) <= self._published:
            self.counts["stale"] += 1


class Connection:
    """One connection that is kept."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Connection:
        """Connect to the gateway."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Return status and body.

        Raises:
            EOFError: The connection ended first.
        """
        head = f"POST {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {_KEY}\r\n"
        self._writer.write(
            f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
        )
        answered = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        status = int(answered.split(b" ", 2)[1])
        if b"transfer-encoding: chunked" not in answered:
            length = int(answered.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            return status, await self._reader.readexactly(length)
        parts = []
        while size := int((await self._reader.readuntil(b"\r\n")).strip(), 16):
            parts.append(await self._reader.readexactly(size))
            await self._reader.readexactly(2)
        await self._reader.readexactly(2)
        return status, b"".join(parts)

    def close(self) -> None:
        """Close it."""
        self._writer.close()


async def reloading(folder: Path, prompts: int, requests: int) -> dict[str, float]:
    """Run it all.

    Raises:
        RuntimeError: The gateway does not start, or does not take a good set.
    """
    async with UpstreamServer(echo) as upstream:
        run = Run(folder, prompts, requests)
        Sets(folder, prompts).publish(0)
        config = folder / "penstock.yaml"
        config.write_text(_CONFIG.format(upstream=upstream.origin, folder=folder, key=_KEY))
        gateway = Gateway(config, 0)
        await gateway.start()
        try:
            await run.run(gateway.port)
        finally:
            await gateway.stop()
        return {**run.counts, "reload_ms_p50": round(statistics.median(run.took) * 1000, 1)}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reload", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--json", action="store_true", help="accepted for uniformity: the last line always is JSON")
    parser.add_argument("--data", help="accepted for uniformity: no data is read")
    parser.add_argument("-n", type=int, default=2_000, help="requests (default 2000)")
    parser.add_argument("--prompts", type=int, default=50, help="prompts (default 50)")
    options = parser.parse_args()
    started = time.monotonic()
    with TemporaryDirectory() as name:
        say(f"{options.n} requests, {options.prompts} prompts")
        figures = uvloop.run(reloading(Path(name), options.prompts, options.n))
    finish(figures, started=started, n=options.n)
    wrong = [what for what in ("dropped", "torn", "stale", "wrongly_taken") if figures[what]]
    if wrong:
        raise SystemExit(f"not zero: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
