"""How fast is the gateway, beside nginx, LiteLLM and Portkey?

One process pinned to core 0; wrk and the upstream on core 1. Every repetition measures each server once, in turn, and
the figures are medians over the repetitions. Penstock runs its defaults: cache, coalescing, record in SQLite, metrics
all on. Pass-through requests are all different, so each is a miss that is answered upstream, recorded and stored.

    hit_vs_*            exact hits per second ÷ nginx returning a constant, LiteLLM's cached answers; 64 connections
    json_vs_*, sse_vs_* passed-through requests per second ÷ the peer's; 64 connections
    added_p50_vs_nginx  (p50 − the upstream's own p50) ÷ the same of nginx; 1 connection
    *_us                processor time of Penstock per request, microseconds
    growth_mb           memory after 50,000 mixed requests − before, the cache being full before
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks import peers
from benchmarks.load import Load, Measured
from benchmarks.outcome import finish
from benchmarks.processes import Server, free_port, running, say
from benchmarks.upstream import whole

GATEWAY, LOAD = 0, 1
"""Cores."""

REPETITIONS = 3
FILL, GROWTH = 60_000, 50_000
"""Requests before and while memory is watched; the first fill the cache, whose 10,000 entries are bounded anyway."""

_CONFIG = """\
providers: [{{name: mock, kind: openai-compatible, base_url: "http://{upstream}/v1"}}]
models: [{{name: gpt-mock, targets: [{{provider: mock, model: gpt-mock}}]}}]
store: {{url: "sqlite:///{folder}/bench-{port}.db"}}
"""


class Row(NamedTuple):
    """One thing measured.

    Attributes:
        name: Key of the result.
        connections: Kept open at the same time.
        stream: Ask for streams.
        unique: Every request differs.
    """

    name: str
    connections: int
    stream: bool = False
    unique: bool = True


HIT = Row("hit", 64, unique=False)
JSON_1, JSON_64 = Row("json_1", 1), Row("json_64", 64)
SSE_1, SSE_64 = Row("sse_1", 1, stream=True), Row("sse_64", 64, stream=True)

Results = dict[str, list[Measured]]


def penstock(upstream: str, folder: Path) -> AbstractContextManager[Server]:
    """Run the gateway on its defaults."""
    port = free_port()
    config = folder / f"penstock-{port}.yaml"
    config.write_text(_CONFIG.format(upstream=upstream, folder=folder, port=port))
    command = [sys.executable, "-m", "penstock", "serve", "--config", str(config), "--port", str(port), "--json"]
    return running("penstock", command, f"http://127.0.0.1:{port}", core=GATEWAY, folder=folder, ready="/health/ready")


def measure(
    load: Load,
    server: Server,
    rows: list[Row],
    results: Results,
    seconds: int,
    headers: Mapping[str, str] | None = None,
    warm_s: int = 1,
) -> None:
    """Warm `server` up and run `rows` against it."""
    for row in rows:
        run = partial(load.run, server, stream=row.stream, unique=row.unique, headers=headers)
        run(connections=min(row.connections, 8), seconds=warm_s)
        found = run(connections=row.connections, seconds=seconds)
        results.setdefault(f"{server.name}/{row.name}", []).append(found)
        say(
            f"  {server.name + '/' + row.name:<22} {found.per_s:>9.0f}/s  p50 {found.p50_ms:7.3f} ms  "
            f"p99 {found.p99_ms:7.3f} ms  {found.cpu_us:7.1f} us"
        )


def growth_mb(load: Load, server: Server) -> float:
    """Fill the cache, then see what 50,000 more requests of all kinds leave behind."""
    mixed(load, server, FILL)
    before = server.memory_mb()
    sent = mixed(load, server, GROWTH)
    after = server.memory_mb()
    say(f"  memory {before:.1f} -> {after:.1f} MB over {sent} requests")
    return after - before


def mixed(load: Load, server: Server, n: int) -> int:
    """Send at least `n` requests of all kinds; returns how many."""
    sent = 0
    while sent < n:
        for row in (HIT, JSON_64, SSE_64):
            found = load.run(server, connections=row.connections, seconds=2, stream=row.stream, unique=row.unique)
            sent += found.n
    return sent


def repetition(load: Load, folder: Path, results: Results, seconds: int, *, slow: bool) -> None:
    """Measure every server once."""
    python, address = sys.executable, f"127.0.0.1:{free_port()}"
    command = [python, str(Path(__file__).with_name("upstream.py")), address.split(":")[1]]
    with running("upstream", command, f"http://{address}", core=LOAD, folder=folder) as upstream:
        measure(load, upstream, [JSON_1, SSE_1], results, seconds)
        with peers.nginx_constant(_answer(), core=GATEWAY, folder=folder) as server:
            measure(load, server, [HIT], results, seconds)
        with peers.nginx_proxy(address, core=GATEWAY, folder=folder) as server:
            measure(load, server, [JSON_1, JSON_64, SSE_1, SSE_64], results, seconds)
        with penstock(address, folder) as server:
            measure(load, server, [HIT, JSON_1, JSON_64, SSE_1, SSE_64], results, seconds)
        if not slow:
            return
        key = {"authorization": f"Bearer {peers.KEY}"}
        with peers.portkey(core=GATEWAY, folder=folder) as server:
            measure(load, server, [JSON_64], results, seconds, headers=peers.portkey_headers(address))
        with peers.litellm(address, cache=False, core=GATEWAY, folder=folder) as server:
            measure(load, server, [JSON_64], results, 2 * seconds, headers=key, warm_s=4)
        with peers.litellm(address, cache=True, core=GATEWAY, folder=folder) as server:
            measure(load, server, [HIT], results, 2 * seconds, headers=key, warm_s=4)


def figures(results: Results, *, slow: bool) -> dict[str, float]:
    """Turn measurements into the named figures."""

    def median(name: str, of: Callable[[Measured], float]) -> float:
        return statistics.median(of(found) for found in results[name])

    def rate(name: str) -> float:
        return median(name, lambda found: found.per_s)

    def p50(name: str) -> float:
        return median(name, lambda found: found.p50_ms)

    def p99(name: str) -> float:
        return median(name, lambda found: found.p99_ms)

    own, plain = p50("upstream/json_1"), p50("nginx-proxy/json_1")
    named = {
        "hit_vs_nginx": rate("penstock/hit") / rate("nginx-constant/hit"),
        "json_vs_nginx": rate("penstock/json_64") / rate("nginx-proxy/json_64"),
        "sse_vs_nginx": rate("penstock/sse_64") / rate("nginx-proxy/sse_64"),
        "added_p50_vs_nginx": (p50("penstock/json_1") - own) / (plain - own),
        "added_p50_ms_1": p50("penstock/json_1") - own,
        "added_p99_ms_1": p99("penstock/json_1") - p99("upstream/json_1"),
        "p50_ms_64": p50("penstock/json_64"),
        "p99_ms_64": p99("penstock/json_64"),
        "nginx_p50_ms_64": p50("nginx-proxy/json_64"),
        "nginx_p99_ms_64": p99("nginx-proxy/json_64"),
        "sse_added_p50_ms_1": p50("penstock/sse_1") - p50("upstream/sse_1"),
        "hit_p99_ms_64": p99("penstock/hit"),
    }
    if slow:
        named |= {
            "hit_vs_litellm": rate("penstock/hit") / rate("litellm-cache/hit"),
            "json_vs_litellm": rate("penstock/json_64") / rate("litellm/json_64"),
            "json_vs_portkey": rate("penstock/json_64") / rate("portkey/json_64"),
        }
    for name in ("hit", "json", "sse"):
        key = f"penstock/{name if name == 'hit' else name + '_64'}"
        named[f"{name}_us"] = median(key, lambda found: found.cpu_us)
        named[f"{name}_per_s"] = rate(key)
    for name in results:
        if not name.startswith("penstock"):
            named[name.replace("/", "_").replace("-", "_") + "_per_s"] = rate(name)
    return {name: round(value, 3) for name, value in named.items()}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--json", action="store_true", help="accepted for uniformity: the last line always is JSON")
    parser.add_argument("--data", help="accepted for uniformity: no data is read")
    parser.add_argument("--seconds", type=int, default=4, help="length of one measurement (default 4)")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS, help="(default 3)")
    parser.add_argument("--quick", action="store_true", help="without LiteLLM and Portkey")
    options = parser.parse_args()
    lacking = peers.missing()
    if lacking:
        raise SystemExit(f"install first: {', '.join(lacking)} (apt-get install wrk nginx nodejs npm util-linux)")
    started, results = time.monotonic(), Results()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        load = Load(folder, LOAD)
        for number in range(options.repetitions):
            say(f"repetition {number + 1} of {options.repetitions}")
            repetition(load, folder, results, options.seconds, slow=not options.quick)
        say("memory")
        address = f"127.0.0.1:{free_port()}"
        command = [sys.executable, str(Path(__file__).with_name("upstream.py")), address.split(":")[1]]
        with (
            running("upstream", command, f"http://{address}", core=LOAD, folder=folder),
            penstock(address, folder) as server,
        ):
            growth = growth_mb(load, server)
    named = {**figures(results, slow=not options.quick), "growth_mb": round(growth, 1)}
    finish(named, started=started, n=sum(found.n for rows in results.values() for found in rows))


def _answer() -> bytes:
    return json.dumps(whole()).encode()


if __name__ == "__main__":
    main()
