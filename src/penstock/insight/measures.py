"""What a running process measures of itself, sampled now and then, and what that comes to over a window.

Counters only grow, so a window is the difference of two samples; nothing is computed when requests are answered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import msgspec

LONGEST_WINDOW_S = 3600.0
LEAST = 10
"""Requests a window must have for a share, a mean or a percentile to mean something."""


class Totals(msgspec.Struct, frozen=True):
    """Counters since the start of the process.

    Attributes:
        requests: Finished requests.
        errors: Those that failed, other than by the client's leaving.
        hits: Those answered from a cache.
        seconds: How long they took, all together.
        durations: How many took how long, by `bounds` and beyond.
        first_tokens: The same of the times to the first token, of attempts.
        attempts: Attempts at providers.
        retries: Attempts on a target that had failed for the same request.
        tokens: Input and output tokens of attempts.
        cost_usd: What they cost, as far as that is known.
        saved_usd: What hits would have cost.
        rejected: Requests that were refused because of a limit.
        lost: Rows of the store that could not be written.
    """

    requests: int = 0
    errors: int = 0
    hits: int = 0
    seconds: float = 0.0
    durations: tuple[int, ...] = ()
    first_tokens: tuple[int, ...] = ()
    attempts: int = 0
    retries: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    saved_usd: float = 0.0
    rejected: int = 0
    lost: int = 0


class Sample(msgspec.Struct, frozen=True):
    """Totals and gauges at one moment.

    Attributes:
        at: When, on `Clock.monotonic`.
        totals: Counters.
        gauges: Values of the moment by name: those of `GAUGES`, and the application's own.
    """

    at: float
    totals: Totals
    gauges: Mapping[str, float] = MappingProxyType({})


GAUGES = MappingProxyType({
    "memory_share": "Memory the process uses, as a share of what it may.",
    "cpu_share": "Processor time the process uses, as a share of one core.",
    "threads": "Threads of the process.",
    "descriptors_share": "Open files and connections, as a share of what is allowed.",
    "loop_lag_s": "The longest time in the last minute in which nothing else was answered.",
    "active_requests": "Requests being answered.",
    "store_pending": "Rows that wait to be written.",
    "targets_down": "Targets that take no requests now, as a share of all.",
})  # fmt: skip
"""Gauges Penstock samples itself."""


class Window(msgspec.Struct, frozen=True):
    """What happened between two samples, the gauges of all samples between them included.

    Attributes:
        first: The sample it begins with.
        last: The sample it ends with.
        gauges: Every value each gauge had.
        bounds: Upper bounds of the histograms, seconds.
    """

    first: Sample
    last: Sample
    gauges: Mapping[str, Sequence[float]]
    bounds: Sequence[float]

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.last.at - self.first.at

    def of(self, name: str) -> float:
        """How much a counter of `Totals` grew."""
        return float(getattr(self.last.totals, name)) - float(getattr(self.first.totals, name))

    def share(self, part: str, whole: str) -> float | None:
        """One counter's growth by another's; None when there was too little to tell."""
        total = self.of(whole)
        return self.of(part) / total if total >= LEAST else None

    def percentile(self, name: str, share: float) -> float | None:
        """The value that so many of a histogram's observations do not exceed, by its buckets, interpolated."""
        after: tuple[int, ...] = getattr(self.last.totals, name)
        before: tuple[int, ...] = getattr(self.first.totals, name)
        counts = [new - old for new, old in zip(after, before or (0,) * len(after), strict=True)]
        wanted = share * sum(counts)
        if sum(counts) < LEAST:
            return None
        below = 0.0
        for position, count in enumerate(counts):
            if count and below + count >= wanted:
                if position >= len(self.bounds):
                    return float(self.bounds[-1])
                low = float(self.bounds[position - 1]) if position else 0.0
                return low + (self.bounds[position] - low) * (wanted - below) / count
            below += count
        return None

    def gauge(self, name: str) -> float | None:
        """The mean of a gauge; None when it had no value."""
        values = self.gauges.get(name)
        return sum(values) / len(values) if values else None


def _rate(name: str, per_s: float) -> Callable[[Window], float | None]:
    return lambda window: window.of(name) / window.seconds * per_s if window.seconds > 0 else None


MEASURES: Mapping[str, tuple[str, Callable[[Window], float | None]]] = MappingProxyType({
    "requests_per_minute": ("Finished requests.", _rate("requests", 60)),
    "error_rate": ("Share of requests that failed.", lambda window: window.share("errors", "requests")),
    "success_rate": ("Share of requests that did not fail.",
                     lambda window: None if (rate := window.share("errors", "requests")) is None else 1 - rate),
    "rejected_rate": ("Share of requests refused because of a limit.",
                      lambda window: window.share("rejected", "requests")),
    "hit_rate": ("Share of requests answered from a cache.", lambda window: window.share("hits", "requests")),
    "retry_rate": ("Retries as a share of attempts.", lambda window: window.share("retries", "attempts")),
    "latency_mean_s": ("Mean time of a request.", lambda window: window.share("seconds", "requests")),
    "latency_p50_s": ("Median time of a request.", lambda window: window.percentile("durations", 0.5)),
    "latency_p95_s": ("Time that 95 of 100 requests do not exceed.",
                      lambda window: window.percentile("durations", 0.95)),
    "first_token_p95_s": ("Time to the first token that 95 of 100 attempts do not exceed.",
                          lambda window: window.percentile("first_tokens", 0.95)),
    "tokens_per_minute": ("Input and output tokens.", _rate("tokens", 60)),
    "cost_usd_per_hour": ("Cost, as far as prices are known.", _rate("cost_usd", 3600)),
    "cost_usd_per_request": ("The same a request, hits included.",
                             lambda window: window.share("cost_usd", "requests")),
    "lost_rows": ("Rows of the store that could not be written.", lambda window: window.of("lost")),
})  # fmt: skip
"""What rules may name besides gauges: its meaning, and how it comes from a window."""


class History:
    """The samples of the last hour."""

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` are the upper bounds of the histograms' buckets, seconds."""
        self._bounds = bounds
        self._samples: deque[Sample] = deque()

    def add(self, sample: Sample) -> None:
        """Remember a sample; they come in order of time."""
        self._samples.append(sample)
        while len(self._samples) > 2 and self._samples[1].at <= sample.at - LONGEST_WINDOW_S:
            self._samples.popleft()

    def window(self, seconds: float) -> Window | None:
        """Return the newest window of about that length, or as long as there are samples; None before the second."""
        if len(self._samples) < 2:
            return None
        last = self._samples[-1]
        inside = [sample for sample in self._samples if sample.at >= last.at - seconds]
        before = [sample for sample in self._samples if sample.at < last.at - seconds]
        first = inside[0] if len(inside) > 1 else before[-1]
        gauges: dict[str, list[float]] = {}
        for sample in inside:
            for name, value in sample.gauges.items():
                gauges.setdefault(name, []).append(value)
        return Window(first, last, gauges, self._bounds)

    def measure(self, name: str, seconds: float) -> float | None:
        """Return what `name`, of `MEASURES` or a gauge, is over the window; None when there is too little to tell."""
        window = self.window(seconds)
        if window is None:
            return None
        known = MEASURES.get(name)
        return known[1](window) if known is not None else window.gauge(name)
