"""Rules about measures, and what becomes of them: quiet, pending, firing, resolved.

    quiet ──true──► pending ──true for `for_s`──► firing ──false for `for_s`──► quiet (resolved)
                      └──false──► quiet             └─ told again every `repeat_s`

A rule tells once that it fires and once that it is over, so that nobody hears of the same thing twice.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import msgspec

from penstock.core.alert import AlertEvent, AlertState, Severity
from penstock.core.errors import ConfigError
from penstock.insight.measures import GAUGES, MEASURES

Operator = Literal["gt", "ge", "lt", "le"]

_COMPARE: Mapping[str, Callable[[float, float], bool]] = MappingProxyType(
    {"gt": operator.gt, "ge": operator.ge, "lt": operator.lt, "le": operator.le}
)
_WORDS = MappingProxyType({"gt": "above", "ge": "at or above", "lt": "below", "le": "at or below"})


class AlertRule(msgspec.Struct, frozen=True):
    """When to raise an alert.

    Attributes:
        name: Unique.
        metric: One of `penstock.insight.measures.MEASURES` or `GAUGES`, or a gauge of the application's own.
        threshold: What it is compared with.
        operator: ``gt``, ``ge``, ``lt`` or ``le``: the alert is raised while `metric` `operator` `threshold` holds.
        window_s: What the metric is taken over, at most an hour.
        for_s: How long it must hold, and how long it must not hold for the alert to be over.
        severity: ``info``, ``warning`` or ``critical``.
        repeat_s: How often an alert that goes on is told again; 0 for never.
        actions: What else is done while it fires, see `penstock.config.settings.AlertSettings`.
        callback: Called with each event, in the event loop; what it raises is logged.

    Raises:
        ConfigError: The operator is unknown, or a time is negative or too long.
    """

    name: str
    metric: str
    threshold: float
    operator: Operator = "gt"
    window_s: float = 300.0
    for_s: float = 0.0
    severity: Severity = "warning"
    repeat_s: float = 14_400.0
    actions: tuple[str, ...] = ()
    callback: Callable[[AlertEvent], object] | None = None

    def __post_init__(self) -> None:
        if self.operator not in _COMPARE:
            raise ConfigError(
                f"alert {self.name}: no operator {self.operator!r}", key="operator", expected=", ".join(_COMPARE)
            )
        if not 0 < self.window_s <= 3600 or self.for_s < 0 or self.repeat_s < 0:
            raise ConfigError(f"alert {self.name}: windows are 1 to 3600 seconds, times not negative", key="window_s")

    def holds(self, value: float | None) -> bool:
        """Whether `value` is what the alert is about; nothing is when there is too little to tell."""
        return value is not None and _COMPARE[self.operator](value, self.threshold)

    def says(self, value: float | None, state: AlertState) -> str:
        """Put an event in words."""
        meaning = MEASURES[self.metric][0] if self.metric in MEASURES else GAUGES.get(self.metric, "")
        now = "not known" if value is None else f"{value:.4g}"
        about = f" ({meaning.rstrip('.')})" if meaning else ""
        if state == "resolved":
            return f"{self.name} is over: {self.metric} is {now}{about}"
        return f"{self.name}: {self.metric} is {now}, {_WORDS[self.operator]} {self.threshold:g}{about}"


class _Watched:
    """A rule and where it stands."""

    __slots__ = ("calm_since", "firing", "rule", "since", "told_at", "value")

    def __init__(self, rule: AlertRule) -> None:
        self.rule = rule
        self.since: float | None = None
        self.calm_since: float | None = None
        self.told_at = 0.0
        self.firing = False
        self.value: float | None = None


class Alert(msgspec.Struct, frozen=True):
    """Where a rule stands.

    Attributes:
        rule: The rule's name.
        severity: The rule's.
        state: ``quiet``, ``pending`` or ``firing``.
        value: The measure when it was last taken.
        threshold: The rule's.
        since_s: How long it has held, seconds; 0 when quiet.
    """

    rule: str
    severity: Severity
    state: Literal["quiet", "pending", "firing"]
    value: float | None
    threshold: float
    since_s: float


class Alerts:
    """All rules of a process; asked at intervals what has changed."""

    def __init__(self) -> None:
        self._watched: dict[str, _Watched] = {}

    def configure(self, rules: Sequence[AlertRule]) -> list[str]:
        """Put `rules` in force; those that did not change stay where they stand.

        Returns:
            The names of rules that fired and are gone.
        """
        new: dict[str, _Watched] = {}
        for rule in rules:
            known = self._watched.get(rule.name)
            new[rule.name] = known if known is not None and known.rule == rule else _Watched(rule)
        gone = [name for name, old in self._watched.items() if old.firing and new.get(name) is not old]
        self._watched = new
        return gone

    @property
    def rules(self) -> list[AlertRule]:
        """The rules in force."""
        return [each.rule for each in self._watched.values()]

    def states(self, now: float) -> list[Alert]:
        """Return where each rule stands at `now`, on `Clock.monotonic`."""
        return [
            Alert(
                each.rule.name,
                each.rule.severity,
                "firing" if each.firing else "quiet" if each.since is None else "pending",
                each.value,
                each.rule.threshold,
                0.0 if each.since is None else now - each.since,
            )
            for each in self._watched.values()
        ]

    def check(self, measure: Callable[[str, float], float | None], now: float, wall: float) -> list[AlertEvent]:
        """Compare all rules with what they are about.

        Args:
            measure: Returns a metric over so many seconds.
            now: Time on `Clock.monotonic`.
            wall: Seconds since the epoch.
        """
        events: list[AlertEvent] = []
        for each in self._watched.values():
            each.value = measure(each.rule.metric, each.rule.window_s)
            event = _step(each, now, wall)
            if event is not None:
                events.append(event)
        return events


def _step(each: _Watched, now: float, wall: float) -> AlertEvent | None:
    rule = each.rule
    if rule.holds(each.value):
        each.calm_since = None
        if each.since is None:
            each.since = now
        if not each.firing and now - each.since >= rule.for_s:
            each.firing, each.told_at = True, now
            return _event(each, "firing", wall)
        if each.firing and rule.repeat_s and now - each.told_at >= rule.repeat_s:
            each.told_at = now
            return _event(each, "firing", wall, repeated=True)
        return None
    if not each.firing:
        each.since = None
        return None
    if each.calm_since is None:
        each.calm_since = now
    if now - each.calm_since < rule.for_s:
        return None
    each.firing, each.since, each.calm_since = False, None, None
    return _event(each, "resolved", wall)


def _event(each: _Watched, state: AlertState, wall: float, *, repeated: bool = False) -> AlertEvent:
    rule, value = each.rule, each.value
    return AlertEvent(rule.name, state, rule.severity, wall, value, rule.threshold, rule.says(value, state), repeated)


BUILT_IN = (
    AlertRule("high_memory", "memory_share", 0.8, for_s=60.0, actions=("collect_garbage",)),
    AlertRule("slow_answers", "latency_mean_s", 5.0, for_s=60.0),
    AlertRule("many_errors", "error_rate", 0.1, for_s=30.0, severity="critical"),
    AlertRule("processor_busy", "cpu_share", 0.9, for_s=300.0),
    AlertRule("many_descriptors", "descriptors_share", 0.8, for_s=60.0),
    AlertRule("slow_loop", "loop_lag_s", 0.25, for_s=60.0),
    AlertRule("no_target", "targets_down", 0.99, window_s=30.0, severity="critical"),
    AlertRule("lost_rows", "lost_rows", 0.0, window_s=60.0, severity="critical"),
)
"""In force unless the configuration says otherwise; a rule of the same name replaces one."""
