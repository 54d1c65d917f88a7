"""What matching by meaning costs through the gateway, and whether tenants learn of each other.

Parts of `benchmarks.semantic`: hits by meaning over one connection, look-ups of two tenants that know the same
questions, and a probe of whether a tenant can tell from the time its own misses take what another has asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.processes import Server, free_port, running, say
from penstock.abc import ModelInfo
from penstock.client import AsyncClient
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import Target
from penstock.testing import answer

GATEWAY, OTHERS = 0, 1
"""Cores."""
LOOKUPS = 100_000
TENANTS = ("sluice", "weir")
_UPSTREAM = Path(__file__).parent.with_name("upstream.py")

Answered = tuple[str, float]
"""How a cache took part, and milliseconds."""


def variants(question: str) -> list[str]:
    """Return the same question in spellings that no exact cache knows, and that every embedder should."""
    bare = question.rstrip(" ?.!")
    return [bare.lower(), f"{bare.lower()} ?", f"{bare}??", f"  {bare.lower()}.", f"{bare.upper()}"]


def served(questions: Sequence[str], label: str, onnx: Path | None) -> dict[str, Any]:
    """Return the figures of one embedder; those of tenants, which do not depend on it, with the lexical one's."""
    say(f"{label}: through the gateway")
    found: dict[str, Any] = {f"{label}_{name}": value for name, value in hit_ms(questions[:200], onnx=onnx).items()}
    if onnx is None:
        found |= isolation(questions[:500], LOOKUPS)
        found["timing_auc"] = timing_auc(questions[:2000])
    return found


def hit_ms(questions: Sequence[str], *, onnx: Path | None = None, most: int = 1000) -> dict[str, float]:
    """Ask known questions in other spellings over one connection; median milliseconds of those served by meaning."""
    embedder = {"kind": "lexical"} if onnx is None else {"kind": "onnx", "path": str(onnx)}
    with gateway(embedder) as server:
        client = Client(server, TENANTS[0])
        for question in questions:
            client.ask(question)
        asked = [text for question in questions for text in variants(question)]
        random.Random(0).shuffle(asked)
        found = [client.ask(text) for text in asked[:most]]
        known = [client.ask(question) for question in questions]
    served = [ms for how, ms in found if how == "semantic"]
    exact = [ms for how, ms in known if how == "hit"]
    if not served or not exact:
        raise RuntimeError(f"{len(served)} of {len(found)} were served by meaning, {len(exact)} word for word")
    say(f"  {len(served)} of {len(found)} served by meaning")
    return {"hit_ms_p50": statistics.median(served), "hit_ms_p99": statistics.quantiles(served, n=100)[98],
            "exact_hit_ms_p50": statistics.median(exact), "hits_served": len(served) / len(found)}  # fmt: skip


def timing_auc(questions: Sequence[str], rounds: int = 2) -> float:
    """Return how well one tenant tells from its own waiting which questions another has asked; 0.5 is not at all."""
    chance = random.Random(0)
    shuffled = list(questions)
    chance.shuffle(shuffled)
    middle = len(shuffled) // 2
    with gateway({"kind": "lexical"}) as server:
        victim, prober = Client(server, TENANTS[0]), Client(server, TENANTS[1])
        for question in shuffled[:middle]:
            victim.ask(question)
        for question in questions[:200]:
            prober.ask(f"{question} (to warm up)")
        asked = [(text, place < middle) for place, text in enumerate(shuffled)]
        times: tuple[list[float], list[float]] = ([], [])
        for spelling in range(rounds):
            chance.shuffle(asked)
            for text, known in asked:
                times[known].append(prober.ask(variants(text)[spelling])[1])
    return auc(times[True], times[False])


def auc(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the chance that one of `one` is less than one of `other` (Mann & Whitney 1947)."""
    ranked = sorted([(value, 1) for value in one] + [(value, 0) for value in other])
    below = less = 0
    for _, first in reversed(ranked):
        less += below * first
        below += not first
    return less / (len(one) * len(other))


def isolation(questions: Sequence[str], lookups: int) -> dict[str, int]:
    """Ask for two tenants that know the same questions; count hits, and answers that were the other tenant's."""
    return asyncio.run(_isolation(questions, lookups))


async def _isolation(questions: Sequence[str], lookups: int) -> dict[str, int]:
    chance = random.Random(0)
    config = _config(9, {"kind": "lexical"}) | {"store": {"url": "memory:"}}
    config["cache"]["semantic"]["audit"] = 1e-9
    counts = {"cross_tenant_hits": 0, "cross_tenant_lookups": 0, "own_hits": 0}
    async with AsyncClient(config, providers={"near": _Telltale()}) as client:
        for tenant in TENANTS:
            for question in questions:
                await client.chat(question, model="fast", tenant=tenant)
        for done in range(lookups):
            tenant = TENANTS[chance.getrandbits(1)]
            text = chance.choice(variants(chance.choice(questions)))
            found = await client.chat(text, model="fast", tenant=tenant)
            counts["cross_tenant_lookups"] += 1
            counts["own_hits"] += found.call.cache == "semantic" and found.text.startswith(tenant)
            counts["cross_tenant_hits"] += not found.text.startswith(tenant)
            if done % 20_000 == 19_999:
                say(f"  {done + 1} look-ups, {counts}")
    return counts


class _Telltale:
    """A provider whose every answer says whose it is."""

    name = "near"

    async def send(self, request: Request, _target: Target) -> Response:
        return Response(body=answer(f"{request.tenant} was told."), finish_reason="stop")

    async def models(self) -> list[ModelInfo]:
        return []

    async def aclose(self) -> None:
        pass


class Client:
    """One tenant's connection."""

    def __init__(self, server: Server, tenant: str) -> None:
        self._connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=30)
        self._headers = {"authorization": f"Bearer sk-{tenant}", "content-type": "application/json"}

    def ask(self, question: str) -> Answered:
        """Ask, and return how a cache took part and how long it took."""
        body = json.dumps({"model": "fast", "messages": [{"role": "user", "content": question}]})
        started = time.perf_counter()
        self._connection.request("POST", "/v1/chat/completions", body, self._headers)
        reply = self._connection.getresponse()
        reply.read()
        took = (time.perf_counter() - started) * 1e3
        if reply.status != 200:
            raise RuntimeError(f"{reply.status} for {question!r}")
        return _how(reply.headers["cache-status"] or ""), took


def _how(status: str) -> str:
    if "Penstock-Exact; hit" in status:
        return "hit"
    return "semantic" if "Penstock-Semantic; hit" in status else "miss"


@contextlib.contextmanager
def gateway(embedder: dict[str, Any]) -> Iterator[Server]:
    """Run the gateway with matching by meaning, for two tenants, before an upstream that costs nothing."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        upstream, port = free_port(), free_port()
        config = folder / "penstock.json"
        settings = _config(upstream, embedder) | {"store": {"url": f"sqlite:///{folder}/penstock.db"}}
        keys = [{"key": f"sk-{tenant}", "tenant": tenant} for tenant in TENANTS]
        config.write_text(json.dumps({**settings, "server": {"keys": keys, "admin_key": "root-of-the-benchmark"}}))
        serve = [sys.executable, "-m", "penstock", "serve", "--config", str(config), "--port", str(port), "--json"]
        with (
            running("upstream", [sys.executable, str(_UPSTREAM), str(upstream)], f"http://127.0.0.1:{upstream}",
                    core=OTHERS, folder=folder),
            running("penstock", serve, f"http://127.0.0.1:{port}", core=GATEWAY, folder=folder, ready="/health/ready")
            as server,
        ):  # fmt: skip
            yield server


def _config(upstream: int, embedder: dict[str, Any]) -> dict[str, Any]:
    provider = {"name": "near", "kind": "openai-compatible", "base_url": f"http://127.0.0.1:{upstream}/v1"}
    return {
        "providers": [{**provider, "api_key": "none-needed"}],
        "models": [{"name": "fast", "targets": [{"provider": "near", "model": "m"}]}],
        "cache": {
            "exact": {"max_entries": 100_000},
            "semantic": {"mode": "on", "max_error": 0.05, "embedder": embedder},
        },
    }
