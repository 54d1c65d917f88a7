"""Clients that hang up: how soon the upstream is hung up on, and what is left over."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import NamedTuple

from benchmarks.faults.answers import EVENTS, WHOLE
from benchmarks.faults.asking import Asking, ask
from benchmarks.faults.leftovers import held, left_over
from benchmarks.faults.stage import KEY, Served
from penstock.testing import UpstreamReply, UpstreamRequest, UpstreamServer, sse_reply

ABORTS = 1000
_CONNECTIONS = 16
_AT_A_TIME = 24
_ADMITTED = 20
"""Fewer than come at a time, and more than there are connections: some leave while they wait for either."""
_LONGEST_S = 0.3
_ENOUGH_S = 5.0


class Aborted(NamedTuple):
    """What came of it.

    Attributes:
        clients: How many hung up.
        closed_ms: Milliseconds from there to the upstream's connection being closed, for those it worked for.
        leaked: Connections, requests, tasks and descriptors that did not come back.
        remarks: What they are.
    """

    clients: int
    closed_ms: list[float]
    leaked: int
    remarks: list[str]


async def run(count: int = ABORTS, seed: int = 1) -> Aborted:
    """Ask `count` times and hang up at a random moment, with FIN or RST."""
    chance = random.Random(seed)
    gate = asyncio.Event()
    turn = asyncio.Semaphore(_AT_A_TIME)
    before = await held()

    def script(request: UpstreamRequest) -> UpstreamReply:
        document = request.json()
        if document["model"].startswith("slot"):
            return UpstreamReply(headers={"content-type": "application/json"}, parts=[gate, WHOLE], framing="length")
        return _slow_stream() if document.get("stream") else _slow_json()

    async with UpstreamServer(script) as upstream, Served(_config(upstream)) as served:
        left: dict[str, float] = {}

        async def one(number: int) -> None:
            model, wait_s, how = f"abort-{number}", chance.uniform(0, _LONGEST_S), chance.choice(("fin", "rst"))
            async with turn:
                asking = Asking(served.port)
                await asking.send(model, stream=number % 2 == 0)
                await asyncio.sleep(wait_s)
                left[model] = await asking.leave(how)

        await asyncio.gather(*map(one, range(count)))
        async with asyncio.timeout(_ENOUGH_S):
            await upstream.wait_until(lambda: all(line.ending is not None for line in upstream.invoice))
        closed = [
            ((line.ended_at or 0.0) - left[model]) * 1000
            for line in upstream.invoice
            if (model := line.request.json()["model"]) in left and line.ending == "closed"
        ]
        remarks = await _slots(served, upstream, gate)
        client = served.client
        remarks += ["a request in the pipeline"] * client.pipeline.running
        remarks += ["an active call"] * client.shared.metrics.active
        for gate_state in client.shared.doors.states():
            remarks += ["a place at a provider"] * gate_state.in_use + ["a place in its queue"] * gate_state.queued
    remarks += await left_over(before)
    return Aborted(count, closed, len(remarks), remarks)


async def _slots(served: Served, upstream: UpstreamServer, gate: asyncio.Event) -> list[str]:
    """Use all connections at once; each one that cannot be had is missing."""
    before = len(upstream.invoice)
    names = [f"slot-{number}" for number in range(_CONNECTIONS)]
    asking = [asyncio.create_task(ask(served.port, name, stream=False)) for name in names]
    with suppress(TimeoutError):  # which is counted
        async with asyncio.timeout(_ENOUGH_S):
            await upstream.wait_until(lambda: len(upstream.invoice) - before >= _CONNECTIONS)
    missing = _CONNECTIONS - (len(upstream.invoice) - before)
    gate.set()
    await asyncio.gather(*asking)
    return ["a connection"] * missing


def _slow_stream() -> UpstreamReply:
    return sse_reply(EVENTS, gap_s=_LONGEST_S / len(EVENTS))


def _slow_json() -> UpstreamReply:
    return UpstreamReply(headers={"content-type": "application/json"}, body=WHOLE, delay_s=_LONGEST_S)


def _config(upstream: UpstreamServer) -> dict[str, object]:
    provider = {"name": "slow", "kind": "openai", "base_url": f"{upstream.origin}/v1", "api_key": KEY}
    return {
        "providers": [{**provider, "max_connections": _CONNECTIONS, "limits": {"max_concurrency": _ADMITTED}}],
        "models": [{"name": "*", "targets": [{"provider": "slow", "model": "*"}]}],
        "store": {"url": "memory:"},
    }
