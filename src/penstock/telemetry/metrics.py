"""Counters of the running process, kept as plain dictionaries and written out for Prometheus only when somebody looks.

A labelled counter of a metrics library costs more per request than an exact cache hit may; here one request costs a few
dictionary updates, and `prometheus-client` is asked only at the scrape.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from penstock.core.call import CACHED, Attempt, Call
from penstock.core.request import Request
from penstock.telemetry.families import Family, Sample

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds of the latency histograms, seconds."""

_MODELS = 200
"""Model names counted apart, of clients and of providers each; clients choose names, so the rest are ``other``."""

_FINE = frozenset({"ok", "client_closed"})
_REJECTED = "rate_limit_exceeded"

Gauge = Callable[[], Iterable[tuple[tuple[str, ...], float]]]


class Histogram:
    """Observations of one label set."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        """The buckets as Prometheus wants them: cumulative, ending with +Inf."""
        pairs: list[tuple[str, float]] = []
        running = 0
        for bound, count in zip((*map(str, BUCKETS), "+Inf"), self.counts, strict=True):
            running += count
            pairs.append((bound, running))
        return pairs


class Metrics:
    """What `/metrics` shows."""

    def __init__(self) -> None:
        self.active = 0
        self._requests: dict[tuple[str, str, str, str], int] = {}
        self._durations: dict[tuple[str, str], Histogram] = {}
        self._first_tokens: dict[tuple[str, str], Histogram] = {}
        self._attempts: dict[tuple[str, str], int] = {}
        self._retries: dict[tuple[str], int] = {}
        self._tokens: dict[tuple[str, str, str], int] = {}
        self._costs: dict[str, Decimal] = {}
        self._saved = Decimal(0)
        self._models: set[str] = set()
        self._target_models: set[str] = set()
        self._gauges: dict[str, tuple[str, tuple[str, ...], Gauge]] = {}

    def gauge(self, name: str, text: str, labels: tuple[str, ...], read: Gauge) -> None:
        """Show values read at the scrape, of a counter if `name` ends in `_total`; the last of one `name` counts."""
        self._gauges[name] = (text, labels, read)

    def finished(self, request: Request, call: Call, duration_s: float, outcome: str) -> None:
        """Count one finished call."""
        model = _bounded(request.route.model if request.route is not None else "unknown", self._models)
        key = (request.operation, model, outcome, call.cache or "none")
        self._requests[key] = self._requests.get(key, 0) + 1
        short = (request.operation, call.cache or "none")
        histogram = self._durations.get(short)
        if histogram is None:
            histogram = self._durations[short] = Histogram()
        histogram.observe(duration_s)
        if call.saved_usd:
            self._saved += call.saved_usd
        for attempt in call.attempts:
            self._attempted(attempt.provider, attempt.model, attempt.outcome, attempt.first_token_s, attempt.cost_usd)
            if attempt.usage is not None:
                self._count_tokens(attempt.provider, "input", attempt.usage.source, attempt.usage.input_tokens)
                self._count_tokens(attempt.provider, "output", attempt.usage.source, attempt.usage.output_tokens)

        if len(call.attempts) > 1:
            self._count_retries(call.attempts)

    def totals(self) -> dict[str, Any]:
        """Sum up what was counted since the start, as the fields of `penstock.insight.measures.Totals`."""
        requests = errors = hits = rejected = 0
        for (_, _, outcome, cache), count in self._requests.items():
            requests += count
            errors += count * (outcome not in _FINE)
            hits += count * (cache in CACHED)
            rejected += count * (outcome == _REJECTED)
        return {
            "requests": requests,
            "errors": errors,
            "hits": hits,
            "rejected": rejected,
            "seconds": sum(each.total for each in self._durations.values()),
            "durations": _merged(self._durations.values()),
            "first_tokens": _merged(self._first_tokens.values()),
            "attempts": sum(self._attempts.values()),
            "retries": sum(self._retries.values()),
            "tokens": sum(self._tokens.values()),
            "cost_usd": float(sum(self._costs.values())),
            "saved_usd": float(self._saved),
        }

    def _count_retries(self, attempts: list[Attempt]) -> None:
        tried = set()
        for attempt in attempts:
            target = attempt.provider, attempt.model
            if target in tried and not attempt.hedge:
                self._retries[attempt.provider,] = self._retries.get((attempt.provider,), 0) + 1
            tried.add(target)

    def _attempted(
        self, provider: str, model: str, outcome: str, first_token_s: float | None, cost: Decimal | None
    ) -> None:
        key = (provider, outcome)
        self._attempts[key] = self._attempts.get(key, 0) + 1
        if first_token_s is not None:
            pair = (provider, _bounded(model, self._target_models))
            histogram = self._first_tokens.get(pair)
            if histogram is None:
                histogram = self._first_tokens[pair] = Histogram()
            histogram.observe(first_token_s)
        if cost:
            self._costs[provider] = self._costs.get(provider, Decimal(0)) + cost

    def _count_tokens(self, provider: str, direction: str, source: str, count: int) -> None:
        key = (provider, direction, source)
        self._tokens[key] = self._tokens.get(key, 0) + count

    def collect(self) -> Iterator[Metric]:
        """Yield the metric families; the interface of `prometheus_client`'s custom collectors."""
        from prometheus_client.core import (  # noqa: PLC0415 only a scrape needs the library
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        def counter(name: str, text: str, labels: list[str], values: Iterable[tuple[tuple[str, ...], int]]) -> Metric:
            family = CounterMetricFamily(name, text, labels=labels)
            for key, value in list(values):
                family.add_metric(key, value)
            return family

        def histogram(name: str, text: str, labels: list[str], values: dict[tuple[str, str], Histogram]) -> Metric:
            family = HistogramMetricFamily(name, text, labels=labels)
            for key, value in values.items():
                family.add_metric(key, value.cumulative(), value.total)
            return family

        yield GaugeMetricFamily("penstock_active_requests", "Requests being answered now.", value=self.active)
        yield counter(
            "penstock_requests",
            "Finished requests.",
            ["operation", "model", "outcome", "cache"],
            self._requests.items(),
        )
        yield histogram(
            "penstock_request_duration_seconds",
            "From the request being read to the end of the answer.",
            ["operation", "cache"],
            self._durations,
        )
        yield histogram(
            "penstock_first_token_seconds",
            "From the start of an attempt to its first event or whole answer.",
            ["provider", "model"],
            self._first_tokens,
        )
        yield counter("penstock_attempts", "Upstream attempts.", ["provider", "outcome"], self._attempts.items())
        yield counter("penstock_retries", "Attempts on a target that had failed for the same request.", ["provider"],
                      self._retries.items())  # fmt: skip
        yield counter("penstock_tokens", "Tokens, by how they are known.", ["provider", "direction", "source"],
                      self._tokens.items())  # fmt: skip
        cost = CounterMetricFamily("penstock_cost_usd", "Cost of attempts whose price is known.", labels=["provider"])
        for provider, total in self._costs.items():
            cost.add_metric([provider], float(total))
        yield cost
        yield CounterMetricFamily("penstock_saved_usd", "What cache hits would have cost.", value=float(self._saved))
        for name, (text, labels, read) in self._gauges.items():
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            family = kind(name, text, labels=list(labels))
            for values, value in read():
                family.add_metric(values, value)
            yield family

    def exposition(self) -> tuple[bytes, str]:
        """Return the page and its content type."""
        import prometheus_client as library  # noqa: PLC0415 only a scrape needs the library

        return library.generate_latest(self._registry()), library.CONTENT_TYPE_LATEST

    def families(self) -> list[Family]:
        """Return what is on the page, for whoever puts several processes' together."""
        return [
            Family(
                metric.name,
                metric.type,
                metric.documentation,
                [Sample(each.name, dict(each.labels), float(each.value)) for each in metric.samples],
            )
            for metric in self._registry().collect()
        ]

    def _registry(self) -> CollectorRegistry:
        import prometheus_client as library  # noqa: PLC0415 only a scrape needs the library

        registry = library.CollectorRegistry()
        library.ProcessCollector(registry=registry)
        library.GCCollector(registry=registry)
        registry.register(self)
        return registry


class _Page:
    """Families as a collector of `prometheus_client`."""

    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import Metric  # noqa: PLC0415 only a scrape needs the library

        for family in self._families:
            metric = Metric(family.name, family.text, family.kind)
            for sample in family.samples:
                metric.add_sample(sample.name, sample.labels, sample.value)
            yield metric


def page_of(families: Sequence[Family]) -> tuple[bytes, str]:
    """Return the page that shows `families`, and its content type."""
    import prometheus_client as library  # noqa: PLC0415 only a scrape needs the library

    registry = library.CollectorRegistry()
    registry.register(_Page(families))
    return library.generate_latest(registry), library.CONTENT_TYPE_LATEST


def _merged(histograms: Iterable[Histogram]) -> tuple[int, ...]:
    found = [0] * (len(BUCKETS) + 1)
    for each in histograms:
        found = [one + other for one, other in zip(found, each.counts, strict=True)]
    return tuple(found)


def _bounded(name: str, known: set[str]) -> str:
    if name not in known:
        if len(known) >= _MODELS:
            return "other"
        known.add(name)
    return name
