"""Counters of the running process, kept as plain dictionaries and written out for Prometheus only when somebody looks.

A labelled counter of a metrics library costs more per request than an exact cache hit may. Here what calls and attempts
have in common is looked up once, its counters are raised, and labels are summed up and `prometheus-client` is asked
only at the scrape.
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
_Values = Iterable[tuple[tuple[str, ...], int | Decimal]]


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


class _Calls(Histogram):
    """Calls of one operation, model, outcome and state of the cache, and how long they took."""

    __slots__ = ()

    @property
    def number(self) -> int:
        """How many."""
        return sum(self.counts)


class _Attempts:
    """Attempts of one provider, model, outcome and source of their tokens; `silent` ones gave no answer at all."""

    __slots__ = ("cost", "first_tokens", "input", "output", "silent")

    def __init__(self) -> None:
        self.silent = self.input = self.output = 0
        self.cost = Decimal(0)
        self.first_tokens = Histogram()

    @property
    def number(self) -> int:
        """How many."""
        return self.silent + sum(self.first_tokens.counts)


class Metrics:
    """What `/metrics` shows."""

    def __init__(self) -> None:
        self.active = 0
        self._calls: dict[tuple[str, str, str, str], _Calls] = {}
        self._attempts: dict[tuple[str, str, str, str], _Attempts] = {}
        self._retries: dict[tuple[str], int] = {}
        self._saved = Decimal(0)
        self._models: set[str] = set()
        self._target_models: set[str] = set()
        self._gauges: dict[str, tuple[str, tuple[str, ...], Gauge]] = {}

    def gauge(self, name: str, text: str, labels: tuple[str, ...], read: Gauge) -> None:
        """Show values read at the scrape, of a counter if `name` ends in `_total`; the last of one `name` counts."""
        self._gauges[name] = (text, labels, read)

    def finished(self, request: Request, call: Call, duration_s: float, outcome: str) -> None:
        """Count one finished call."""
        route = request.route
        key = (request.operation, "unknown" if route is None else route.model, outcome, call.cache)
        held = self._calls.get(key) or self._new_calls(*key)
        held.counts[bisect_left(BUCKETS, duration_s)] += 1
        held.total += duration_s
        if call.saved_usd is not None:
            self._saved += call.saved_usd
        attempts = call.attempts
        for attempt in attempts:
            usage = attempt.usage
            place = (attempt.provider, attempt.model, attempt.outcome, "" if usage is None else usage.source)
            tried = self._attempts.get(place) or self._new_attempts(*place)
            if usage is not None:
                tried.input += usage.input_tokens
                tried.output += usage.output_tokens
            first = attempt.first_token_s
            if first is None:
                tried.silent += 1
            else:
                times = tried.first_tokens
                times.counts[bisect_left(BUCKETS, first)] += 1
                times.total += first
            if attempt.cost_usd is not None:
                tried.cost += attempt.cost_usd
        if len(attempts) > 1:
            self._count_retries(attempts)

    def totals(self) -> dict[str, Any]:
        """Sum up what was counted since the start, as the fields of `penstock.insight.measures.Totals`."""
        requests = errors = hits = rejected = 0
        for (_, _, outcome, cache), calls in self._calls.items():
            requests += calls.number
            errors += calls.number * (outcome not in _FINE)
            hits += calls.number * (cache in CACHED)
            rejected += calls.number * (outcome == _REJECTED)
        tried = self._attempts.values()
        return {
            "requests": requests,
            "errors": errors,
            "hits": hits,
            "rejected": rejected,
            "seconds": sum(each.total for each in self._calls.values()),
            "durations": _merged(self._calls.values()),
            "first_tokens": _merged(each.first_tokens for each in tried),
            "attempts": sum(each.number for each in tried),
            "retries": sum(self._retries.values()),
            "tokens": sum(each.input + each.output for each in tried),
            "cost_usd": float(sum(each.cost for each in tried)),
            "saved_usd": float(self._saved),
        }

    def _new_calls(self, operation: str, model: str, outcome: str, cache: str) -> _Calls:
        key = (operation, _bounded(model, self._models), outcome, cache)
        return self._calls.setdefault(key, _Calls())

    def _new_attempts(self, provider: str, model: str, outcome: str, source: str) -> _Attempts:
        key = (provider, _bounded(model, self._target_models), outcome, source)
        return self._attempts.setdefault(key, _Attempts())

    def _count_retries(self, attempts: list[Attempt]) -> None:
        tried = set()
        for attempt in attempts:
            target = attempt.provider, attempt.model
            if target in tried and not attempt.hedge:
                self._retries[attempt.provider,] = self._retries.get((attempt.provider,), 0) + 1
            tried.add(target)

    def collect(self) -> Iterator[Metric]:
        """Yield the metric families; the interface of `prometheus_client`'s custom collectors."""
        from prometheus_client.core import (  # noqa: PLC0415 only a scrape needs the library
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        def counter(name: str, text: str, labels: list[str], values: _Values) -> Metric:
            family = CounterMetricFamily(name, text, labels=labels)
            for key, value in values:
                family.add_metric(key, float(value))
            return family

        def histogram(name: str, text: str, labels: list[str], values: dict[tuple[str, str], Histogram]) -> Metric:
            family = HistogramMetricFamily(name, text, labels=labels)
            for key, value in values.items():
                family.add_metric(key, value.cumulative(), value.total)
            return family

        tried = list(self._attempts.items())
        yield GaugeMetricFamily("penstock_active_requests", "Requests being answered now.", value=self.active)
        yield counter(
            "penstock_requests",
            "Finished requests.",
            ["operation", "model", "outcome", "cache"],
            [((*key, cache or "none"), calls.number) for (*key, cache), calls in self._calls.items()],
        )
        yield histogram(
            "penstock_request_duration_seconds",
            "From the request being read to the end of the answer.",
            ["operation", "cache"],
            _summed(((operation, cache or "none"), held) for (operation, *_, cache), held in self._calls.items()),
        )
        yield histogram(
            "penstock_first_token_seconds",
            "From the start of an attempt to its first event or whole answer.",
            ["provider", "model"],
            _summed(
                ((provider, model), held.first_tokens)
                for (provider, model, *_), held in tried
                if any(held.first_tokens.counts)
            ),
        )
        outcomes = _added(((provider, outcome), held.number) for (provider, _, outcome, _), held in tried)
        yield counter("penstock_attempts", "Upstream attempts.", ["provider", "outcome"], outcomes)
        yield counter("penstock_retries", "Attempts on a target that had failed for the same request.", ["provider"],
                      list(self._retries.items()))  # fmt: skip
        tokens = [((provider, direction, source), count) for (provider, _, _, source), held in tried if source
                  for direction, count in (("input", held.input), ("output", held.output))]  # fmt: skip
        yield counter("penstock_tokens", "Tokens, by how they are known.", ["provider", "direction", "source"],
                      _added(tokens))  # fmt: skip
        costs = _added(((provider,), held.cost) for (provider, *_), held in tried if held.cost)
        yield counter("penstock_cost_usd", "Cost of attempts whose price is known.", ["provider"], costs)
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


def _summed(histograms: Iterable[tuple[tuple[str, str], Histogram]]) -> dict[tuple[str, str], Histogram]:
    found: dict[tuple[str, str], Histogram] = {}
    for key, each in histograms:
        held = found.setdefault(key, Histogram())
        held.counts = [one + other for one, other in zip(held.counts, each.counts, strict=True)]
        held.total += each.total
    return found


def _added(values: _Values) -> _Values:
    found: dict[tuple[str, ...], int | Decimal] = {}
    for key, value in values:
        found[key] = found.get(key, 0) + value
    return found.items()


def _bounded(name: str, known: set[str]) -> str:
    if name not in known:
        if len(known) >= _MODELS:
            return "other"
        known.add(name)
    return name
