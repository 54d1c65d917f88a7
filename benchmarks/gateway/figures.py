"""From measurements to the named figures."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from benchmarks.load import Measured

Results = dict[str, list[Measured]]
"""By `server/row`, a measurement for each repetition."""


class Medians:
    """Medians over the repetitions; KeyError for what was not measured."""

    def __init__(self, results: Mapping[str, Sequence[Measured]]) -> None:
        self._results = results

    def rate(self, name: str) -> float:
        """Return requests per second."""
        return self._of(name, lambda found: found.per_s)

    def p50(self, name: str) -> float:
        """Return the median latency, milliseconds."""
        return self._of(name, lambda found: found.p50_ms)

    def p99(self, name: str) -> float:
        """Return the 99th percentile of the latency, milliseconds."""
        return self._of(name, lambda found: found.p99_ms)

    def cpu(self, name: str) -> float:
        """Return processor time per request, microseconds."""
        return self._of(name, lambda found: found.cpu_us)

    def _of(self, name: str, part: Callable[[Measured], float]) -> float:
        return statistics.median(part(found) for found in self._results[name])

    def ratio(self, one: str, other: str) -> float:
        """Return the rate of `one` ÷ that of `other`."""
        return self.rate(one) / self.rate(other)

    def added(self, name: str, row: str) -> float:
        """Return how much later than the upstream's own the median answer through `name` is, milliseconds."""
        return self.p50(f"{name}/{row}") - self.p50(f"upstream/{row}")


FIGURES: dict[str, Callable[[Medians], float]] = {
    "hit_vs_nginx": lambda m: m.ratio("penstock/hit", "nginx-constant/hit"),
    "hit_vs_litellm": lambda m: m.ratio("penstock/hit", "litellm-cache/hit"),
    "hit_20k_vs_nginx": lambda m: m.ratio("penstock/hit_20k", "nginx-constant/hit_20k"),
    "json_vs_nginx": lambda m: m.ratio("penstock/json_64", "nginx-proxy/json_64"),
    "json_vs_haproxy": lambda m: m.ratio("penstock/json_64", "haproxy/json_64"),
    "json_vs_sglang": lambda m: m.ratio("penstock/json_64", "sglang/json_64"),
    "json_vs_tensorzero": lambda m: m.ratio("penstock/json_64", "tensorzero/json_64"),
    "json_vs_portkey": lambda m: m.ratio("penstock/json_64", "portkey/json_64"),
    "json_vs_litellm": lambda m: m.ratio("penstock/json_64", "litellm/json_64"),
    "json_20k_vs_nginx": lambda m: m.ratio("penstock/json_20k", "nginx-proxy/json_20k"),
    "sse_vs_nginx": lambda m: m.ratio("penstock/sse_64", "nginx-proxy/sse_64"),
    "sse_vs_haproxy": lambda m: m.ratio("penstock/sse_64", "haproxy/sse_64"),
    "sse_vs_sglang": lambda m: m.ratio("penstock/sse_64", "sglang/sse_64"),
    "sse_vs_tensorzero": lambda m: m.ratio("penstock/sse_64", "tensorzero/sse_64"),
    "added_p50_vs_nginx": lambda m: m.added("penstock", "json_1") / m.added("nginx-proxy", "json_1"),
    "sse_first_byte_vs_nginx": lambda m: m.added("penstock", "first_byte") / m.added("nginx-proxy", "first_byte"),
    "added_p50_ms_1": lambda m: m.added("penstock", "json_1"),
    "nginx_added_p50_ms_1": lambda m: m.added("nginx-proxy", "json_1"),
    "added_p99_ms_1": lambda m: m.p99("penstock/json_1") - m.p99("upstream/json_1"),
    "p50_ms_64": lambda m: m.p50("penstock/json_64"),
    "p99_ms_64": lambda m: m.p99("penstock/json_64"),
    "nginx_p50_ms_64": lambda m: m.p50("nginx-proxy/json_64"),
    "nginx_p99_ms_64": lambda m: m.p99("nginx-proxy/json_64"),
    "sse_added_p50_ms_1": lambda m: m.added("penstock", "sse_1"),
    "first_byte_added_ms": lambda m: m.added("penstock", "first_byte"),
    "nginx_first_byte_added_ms": lambda m: m.added("nginx-proxy", "first_byte"),
    "hit_p99_ms_64": lambda m: m.p99("penstock/hit"),
    "semantic_hits_per_s": lambda m: m.rate("penstock-semantic/semantic"),
    "semantic_us": lambda m: m.cpu("penstock-semantic/semantic"),
    "semantic_p99_ms_64": lambda m: m.p99("penstock-semantic/semantic"),
    "two_cores_speedup": lambda m: m.ratio("two-cores/json_64", "one-core/json_64"),
    "two_cores_speedup_hit": lambda m: m.ratio("two-cores/hit", "one-core/hit"),
}


def figures(results: Results) -> dict[str, float]:
    """Return the figures that can be had from `results`, and the rate and processor time of everything."""
    medians = Medians(results)
    named: dict[str, float] = {}
    for name, of in FIGURES.items():
        with suppress(KeyError):  # not measured in this run
            named[name] = of(medians)
    for key in results:
        server, row = key.split("/")
        name = row.removesuffix("_64") if server == "penstock" else key.replace("/", "_").replace("-", "_")
        named[f"{name}_per_s"] = medians.rate(key)
        named[f"{name}_us"] = medians.cpu(key)
    return {name: round(value, 3) for name, value in named.items()}
