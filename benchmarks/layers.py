"""What does each layer cost per request, in microseconds?

In-process, no sockets: the stack is built up layer by layer over a provider that answers at once, and the differences
are the layers' costs. Also the work at the edges: decoding, the cache key, headers, framing. Medians of repetitions,
on one core, so that ratios between rows hold where absolute figures do not.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import uvloop

from benchmarks.load import chat_body
from benchmarks.outcome import finish
from benchmarks.processes import say
from benchmarks.upstream import events, whole
from penstock.abc import ModelInfo
from penstock.caching.key import cache_key
from penstock.client import AsyncClient
from penstock.core.call import Call
from penstock.core.handler import Handler, compose
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import Target
from penstock.core.usage import Usage
from penstock.pipeline import CALL, TARGET, Pipeline
from penstock.server.openai import describe
from penstock.server.serving import GARBAGE
from penstock.wire.openai_answers import parse_answer, parse_chunk
from penstock.wire.openai_chat import decode_request, encode_request, frame

_SEEDS = itertools.count()
LIMITS = {"requests_per_minute": 10**9, "tokens_per_minute": 10**12}
"""Never reached."""
BODY = json.dumps(whole()).encode()
EVENTS = [parse_chunk(event[6:-2]) for event in events()[:-1]]


class Instant:
    """A provider that answers before it is asked."""

    name = "mock"

    async def send(self, request: Request, target: Target) -> Response:
        """Return the constant answer."""
        usage = Usage(input_tokens=211, output_tokens=188)
        return Response(body=BODY, usage=usage, finish_reason="stop")

    async def models(self) -> list[ModelInfo]:
        """None to speak of."""
        return []

    async def aclose(self) -> None:
        """Nothing is open."""


def edges(n: int) -> dict[str, float]:
    """Time the pure functions at the edges, microseconds."""
    body, stream = chat_body(stream=False), chat_body(stream=True)
    inbound = decode_request("chat", body)
    request = _request(inbound.payload)
    steps: dict[str, Callable[[], object]] = {
        "decode_request": lambda: decode_request("chat", body),
        "encode_request": lambda: encode_request(request, "gpt-mock"),
        "parse_answer": lambda: parse_answer(BODY),
        "frame, 22 events": lambda: frame(EVENTS, include_usage=False),
        "describe": lambda: describe(request.call, whole=True),
        "decode_request, stream": lambda: decode_request("chat", stream),
    }
    found = {name: _time(step, n) for name, step in steps.items()}

    def key() -> None:
        request.call.key = None
        cache_key(request)

    request = msgspec.structs.replace(request, route=_route())
    found["cache_key"] = _time(key, n)
    return found


async def limits(n: int) -> dict[str, float]:
    """Time the layers that only limits, of tokens too, put into the stack, each alone, for a request within them."""
    config = {
        "providers": [{
            "name": "mock", "kind": "openai-compatible", "base_url": "http://127.0.0.1:9/v1",
            "limits": {**LIMITS, "max_concurrency": 1000, "adaptive": True},
        }],
        "models": [{"name": "gpt-mock", "targets": [{"provider": "mock", "model": "gpt-mock"}]}],
        "limits": {"per_tenant": LIMITS},
        "context": {"mode": "budget", "tokens": 100_000},
        "store": {"url": "memory:"},
    }  # fmt: skip
    found: dict[str, float] = {}
    async with AsyncClient(config, providers={"mock": Instant()}) as client:
        pipeline = client.pipeline
        payload = decode_request("chat", chat_body(stream=False)).payload
        bare = await _time_calls(_innermost(pipeline), payload, n, pipeline)
        for name, build in (*CALL, *TARGET):
            layer = build(pipeline.parts) if name in ("limit", "concurrency", "shape_context") else None
            if layer is not None:
                handler = compose([layer], _innermost(pipeline))
                found[name] = await _time_calls(handler, payload, n, pipeline) - bare
    return found


async def budgets(n: int, folder: Path) -> dict[str, float]:
    """Time the layer of budgets, for a request that is paid from a lease."""
    config = {
        "providers": [{"name": "mock", "kind": "openai-compatible", "base_url": "http://127.0.0.1:9/v1"}],
        "models": [{"name": "gpt-mock", "targets": [{"provider": "mock", "model": "gpt-mock"}]}],
        "prices": [{"usd_per_million": {"input": 1, "output": 10}}],
        "budgets": [{"scope": "team", "subject": "default", "amount": 10**6}],
        "store": {"url": f"sqlite:///{folder}/budgets.db"},
    }
    async with AsyncClient(config, providers={"mock": Instant()}) as client:
        pipeline = client.pipeline
        payload = decode_request("chat", chat_body(stream=False)).payload
        bare = await _time_calls(_innermost(pipeline), payload, n, pipeline)
        layer = next(build(pipeline.parts) for name, build in CALL if name == "budget")
        if layer is None:
            raise AssertionError("there is a budget")
        handler = compose([layer], _innermost(pipeline))
        return {"budget": await _time_calls(handler, payload, n, pipeline) - bare}


async def stack(n: int, folder: Path) -> dict[str, float]:
    """Time the stack as it grows from the provider outwards, microseconds added by each layer."""
    config = {
        "providers": [{"name": "mock", "kind": "openai-compatible", "base_url": "http://127.0.0.1:9/v1"}],
        "models": [{"name": "gpt-mock", "targets": [{"provider": "mock", "model": "gpt-mock"}]}],
        "store": {"url": f"sqlite:///{folder}/layers.db"},
    }
    found: dict[str, float] = {}
    async with AsyncClient(config, providers={"mock": Instant()}) as client:
        pipeline = client.pipeline
        payload = decode_request("chat", chat_body(stream=False)).payload
        before = 0.0
        for name, handler in _growing(pipeline):
            took = await _time_calls(handler, payload, n, pipeline)
            found[name] = took - before
            before = took
        found["all of a miss"] = before
        handler = client.handle
        await handler(_request(payload))
        found["all of a hit"] = await _time_calls(handler, payload, n, pipeline, unique=False)
    return found


def _growing(pipeline: Pipeline) -> list[tuple[str, Handler]]:
    parts = pipeline.parts
    named = [(name, build(parts)) for name, build in (*CALL, *TARGET)]
    layers = [(name, layer) for name, layer in named if layer is not None]

    innermost = _innermost(pipeline)
    grown: list[tuple[str, Handler]] = [("provider (constant)", innermost)]
    for start in range(len(layers) - 1, -1, -1):
        grown.append((layers[start][0], compose([layer for _, layer in layers[start:]], innermost)))
    return [*grown, ("pipeline", pipeline)]


def _innermost(pipeline: Pipeline) -> Handler:
    async def send(request: Request) -> Response:
        return await pipeline.providers["mock"].send(request, request.target or Target("mock", "gpt-mock"))

    return send


def _route() -> Any:  # noqa: ANN401 the route's own type is not needed here
    from penstock.core.route import Route  # noqa: PLC0415

    return Route(model="gpt-mock", targets=(Target("mock", "gpt-mock"),), identity=b"i" * 32)


def _request(payload: dict[str, Any]) -> Request:
    return Request(operation="chat", model="gpt-mock", payload=payload, call=Call(id="req_bench"))


def _time(step: Callable[[], object], n: int) -> float:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(n):
            step()
        times.append((time.perf_counter() - start) / n * 1e6)
    return statistics.median(times)


async def _time_calls(
    handler: Callable[[Request], Awaitable[Response]],
    payload: dict[str, Any],
    n: int,
    pipeline: Pipeline,
    *,
    unique: bool = True,
) -> float:
    route, target = pipeline.routes.resolve("gpt-mock"), Target("mock", "gpt-mock")
    times = []
    for _ in range(5):
        requests = [
            Request(
                operation="chat", model="gpt-mock", call=Call(id="req_bench"), route=route, target=target,
                payload={**payload, "seed": next(_SEEDS)} if unique else payload,
            )
            for _ in range(n)
        ]  # fmt: skip
        start = time.perf_counter()
        for request in requests:
            await handler(request)
        times.append((time.perf_counter() - start) / n * 1e6)
        await asyncio.sleep(0.2)  # let the writer finish, so that it does not share the next repetition's core
    return statistics.median(times)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layers", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--json", action="store_true", help="accepted for uniformity: the last line always is JSON")
    parser.add_argument("--data", help="accepted for uniformity: no data is read")
    parser.add_argument("-n", type=int, default=3000, help="calls per repetition (default 3000)")
    options = parser.parse_args()
    started = time.monotonic()
    gc.freeze()
    gc.set_threshold(*GARBAGE)  # as the gateway does
    with TemporaryDirectory() as name:
        figures = edges(options.n) | uvloop.run(stack(options.n, Path(name)))
        figures |= uvloop.run(limits(options.n)) | uvloop.run(budgets(options.n, Path(name)))
    for what, took in figures.items():
        say(f"{what:<24} {took:7.2f} us")
    finish({f"{what} us": round(took, 2) for what, took in figures.items()}, started=started, n=options.n * 5)


if __name__ == "__main__":
    main()
