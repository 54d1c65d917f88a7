"""No request leaves reference cycles, whatever becomes of it: collecting them would stop the event loop for all."""

import asyncio
import collections
import gc
import json
import types

import pytest

from penstock import AsyncClient
from penstock.server.app import Gateway
from penstock.testing.answers import answer, chunks
from penstock.testing.faultd import UpstreamReply, UpstreamServer, faults, json_reply, sse_reply

PATH = "/v1/chat/completions"
N = 5
EVENTS = chunks("Seals are inspected every six months.")
WHOLE, LIVE = json_reply(answer("Every six months.")), sse_reply(EVENTS)
FAILED = json_reply({"error": {"message": "no", "type": "server_error"}}, status=503)
REFUSED = json_reply({"error": {"message": "no", "type": "invalid_request_error"}}, status=400)
FAULT = b'{"error": {"message": "boom", "type": "server_error"}}'
SILENT = UpstreamReply(silent=True)
STALLED = faults.stalled(LIVE, after=400)
HANGS_UP = UpstreamReply(cut="rst")

KINDS = {
    "a whole answer": (WHOLE, {}, 200),
    "a stream": (LIVE, {"stream": True}, 200),
    "a hit": (WHOLE, {"same": True}, 200),
    "company": (faults.split(WHOLE), {"same": True, "together": True}, 200),
    "an error of the request": (REFUSED, {}, 400),
    "an unknown model": (WHOLE, {"model": "nobody/knows"}, 404),
    "failures": (FAILED, {}, 502),
    "failures in company": (FAILED, {"same": True, "together": True}, 502),
    "failures of a stream": (FAILED, {"stream": True}, 502),
    "failover": ([FAILED, WHOLE] * N, {"retries": 1}, 200),
    "a server that hangs up": (HANGS_UP, {}, 502),
    "half an answer": (json_reply(WHOLE.body[:50]), {}, 502),
    "an answer cut off": (UpstreamReply(headers=WHOLE.headers, body=WHOLE.body, cut="fin", cut_after=50), {}, 502),
    "a stream cut off": (sse_reply(EVENTS, cut="rst", cut_after=400), {"stream": True}, 200),
    "a stream corrupted": (sse_reply([*EVENTS[:2], b"{bad"]), {"stream": True}, 200),
    "a stream of nonsense": (sse_reply([b"{bad"]), {"stream": True}, 502),
    "a stream with an error": (sse_reply([*EVENTS[:2], FAULT]), {"stream": True}, 200),
    "a compressed answer corrupted": (faults.corrupt(WHOLE), {}, 502),
    "a late answer": (SILENT, {"timeout_s": b"0.05"}, 504),
    "a late stream": (STALLED, {"stream": True, "timeout_s": b"0.05"}, 200),
    "a client that leaves": (SILENT, {"leaves": True}, None),
    "a client that leaves before its stream": (SILENT, {"stream": True, "leaves": True}, None),
    "a client that leaves a stream": (STALLED, {"stream": True, "leaves": True}, 200),
}


def configured(origin: str, *, retries: int = 2):
    provider = {"kind": "openai-compatible", "base_url": f"{origin}/v1"}
    return {
        "providers": [{"name": "near", **provider}, {"name": "far", **provider}],
        "models": [
            {"name": "m", "strategy": "ordered", "targets": [{"provider": p, "model": p} for p in ("near", "far")]}
        ],
        "retry": {"attempts": retries, "backoff_s": 0.001, "max_backoff_s": 0.001},
        "breaker": {"failures": 1000},
        "store": {"url": "memory:"},
    }


async def ask(
    gateway, number, *, same=False, leaves=False, stream=False, model="m", timeout_s=b"30", **_
) -> int | None:
    """Post one request over ASGI; returns the status, if there was one."""
    content = f"case {0 if same else number}"
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": content}], "stream": stream}).encode()
    scope = {"type": "http", "method": "POST", "path": PATH, "headers": [(b"x-penstock-timeout", timeout_s)]}
    coming = [{"type": "http.request", "body": body}]
    sent = []

    async def receive():
        if coming:
            return coming.pop()
        await asyncio.sleep(0 if leaves else 30)
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    await gateway(scope, receive, send)
    return sent[0]["status"] if sent else None


def is_ours(found: object) -> bool:
    if isinstance(found, types.FrameType):
        return "/penstock/" in found.f_code.co_filename and "/testing/" not in found.f_code.co_filename
    module = type(found).__module__
    return module.startswith("penstock.") and not module.startswith("penstock.testing")


def leftovers() -> dict[str, int]:
    """Count what only the collector could free, of Penstock's own, by type."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return dict(collections.Counter(type(found).__name__ for found in gc.garbage if is_ours(found)))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.collect()


@pytest.mark.parametrize("kind", KINDS)
async def test_requests_leave_no_cycles(kind):
    script, how, status = KINDS[kind]
    async with UpstreamServer(script) as upstream:
        client = AsyncClient(configured(upstream.origin, retries=how.get("retries", 2)))
        async with client:
            gateway = Gateway(client)
            await ask(gateway, -1, **how)
            gc.collect()
            gc.freeze()  # only what the requests make is looked at: the rest of a test run is large
            gc.disable()
            try:
                if how.get("together") or how.get("leaves") or "timeout_s" in how:
                    found = await asyncio.gather(*(ask(gateway, number, **how) for number in range(N)))
                else:
                    found = [await ask(gateway, number, **how) for number in range(N)]
                for _ in range(5):  # what was closed says so in the loop's next rounds
                    await asyncio.sleep(0)
                assert set(found) == {status}
                assert leftovers() == {}
            finally:
                gc.enable()
