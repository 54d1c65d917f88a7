"""What the application counts: signals by stage and category, model calls, time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, Metric

from penstock import Classification


class Counters:
    """Counted since the start."""

    def __init__(self) -> None:
        self.signals = 0
        self.failed = 0
        self.cached = 0
        self.leads = 0
        self.seconds = 0.0
        self.decided: Counter[tuple[str, str]] = Counter()
        self.model_calls: Counter[str] = Counter()

    def count(self, found: Classification) -> None:
        """Count one signal."""
        self.signals += 1
        self.seconds += found.seconds
        for step in found.steps:
            self.model_calls[step.stage] += step.model_calls
        if found.error is not None:
            self.failed += 1
            return
        self.cached += found.cached
        self.decided[found.stage, found.label or ""] += 1

    def report(self) -> dict[str, Any]:
        """All of it, for people."""
        stages: Counter[str] = Counter()
        categories: Counter[str] = Counter()
        for (stage, category), number in self.decided.items():
            stages[stage] += number
            categories[category] += number
        return {
            "signals": self.signals,
            "failed": self.failed,
            "cached": self.cached,
            "cache_hit_rate": round(self.cached / self.signals, 4) if self.signals else None,
            "mean_ms": round(self.seconds / self.signals * 1000, 2) if self.signals else None,
            "leads_saved": self.leads,
            "decided_by": dict(stages),
            "categories": dict(categories),
            "model_calls": dict(self.model_calls),
        }

    def collect(self) -> Iterator[Metric]:
        """The same for Prometheus."""
        decided = CounterMetricFamily("lead_engine_signals", "Classified signals.", labels=["stage", "category"])
        for (stage, category), number in self.decided.items():
            decided.add_metric([stage, category], number)
        yield decided
        calls = CounterMetricFamily("lead_engine_model_calls", "Model calls that were sent.", labels=["stage"])
        for stage, number in self.model_calls.items():
            calls.add_metric([stage], number)
        yield calls
        yield CounterMetricFamily("lead_engine_failed_signals", "Signals without a category.", value=self.failed)
        yield CounterMetricFamily("lead_engine_cached_signals", "Signals answered from the cache.", value=self.cached)
        yield CounterMetricFamily("lead_engine_leads", "Leads saved, repeated ones included.", value=self.leads)
