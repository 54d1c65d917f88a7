"""The task that looks, and what it tells.

every `alerts.interval_s`: sample ──► rules ──► log, history, callbacks, sinks, actions
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from penstock.abc import AlertStore
from penstock.abc.workers import Bus
from penstock.config.alerting import AlertRuleSettings
from penstock.config.settings import Settings
from penstock.core.alert import AlertEvent
from penstock.core.clock import Clock
from penstock.core.errors import StoreError
from penstock.core.tasks import TaskGroup
from penstock.insight.alerts import BUILT_IN, Alert, AlertRule, Alerts
from penstock.insight.health import Health, assess
from penstock.insight.measures import History, Sample, Totals
from penstock.monitoring.actions import COLLECT_GARBAGE, apply, collect_garbage
from penstock.monitoring.process import Process
from penstock.notify.building import build_sinks
from penstock.notify.message import Message
from penstock.notify.outbox import Outbox, OutboxState
from penstock.telemetry.metrics import BUCKETS, Gauge

if TYPE_CHECKING:
    from penstock.monitoring.colleagues import Colleagues

HEALTH_WINDOW_S = 300.0
"""What the health score is taken over."""

Read = Callable[[], float | None]

_log = logging.getLogger("penstock.alerts")


class Monitor:
    """Watches one process. A client has one; without `start` it does nothing.

    Example:
        ::

            client.monitor.add_rule(AlertRule("slow_search", "search_s", 2.0, callback=print))
            client.monitor.observe("search_s", 2.5)
    """

    def __init__(
        self, tasks: TaskGroup, clock: Clock, store: AlertStore, totals: Callable[[], Totals],
        adapt: Callable[[], Awaitable[None]],
    ) -> None:  # fmt: skip
        """Nothing is watched yet.

        Args:
            tasks: Background work.
            clock: Where time comes from.
            store: The history of alerts.
            totals: Reads the counters of the process.
            adapt: Called when `adapted` has changed.
        """
        self._tasks = tasks
        self._clock = clock
        self._store = store
        self._totals = totals
        self._adapt = adapt
        self._alerts = Alerts()
        self._samples = History(BUCKETS)
        self._outbox = Outbox(tasks, clock)
        self._process = Process()
        self._gauges: dict[str, Read] = {}
        self._observed: dict[str, tuple[float, int]] = {}
        self._configured: dict[str, AlertRule] = {}
        self._own: dict[str, AlertRule] = {}
        self._sinks: dict[str, Sequence[str]] = {}
        self._default_sinks: Sequence[str] = ()
        self._interval_s = 5.0
        self._active: dict[str, tuple[str, ...]] = {}
        self._task: asyncio.Task[None] | None = None
        self._colleagues: Colleagues | None = None

    def join(self, bus: Bus) -> None:
        """Watch together with the other workers of a gateway: one of them looks, at all of them."""
        from penstock.monitoring.colleagues import Colleagues  # noqa: PLC0415 one process has no use for it

        self._colleagues = Colleagues(bus, self._totals, lambda: self._read(self._clock.monotonic()), self._obey)

    def configure(self, settings: Settings) -> None:
        """Put the rules and sinks of `settings` in force; alerts whose rule stays the same stay as they are.

        Raises:
            ConfigError: A rule or a sink cannot be used.
        """
        self.prepare(settings)()

    def prepare(self, settings: Settings) -> Callable[[], None]:
        """Return what does `configure`, and cannot fail.

        Raises:
            ConfigError: A rule or a sink cannot be used.
        """
        alerts = settings.alerts
        sinks, process = build_sinks(settings.sinks, self._clock), Process(alerts.memory_bytes)
        rules = {
            **({rule.name: rule for rule in BUILT_IN} if alerts.built_in else {}),
            **{rule.name: rule_of(rule) for rule in alerts.rules},
        }

        def configure() -> None:
            self._outbox.sinks = sinks
            self._default_sinks = alerts.sinks
            self._interval_s = alerts.interval_s
            self._sinks = {rule.name: rule.sinks for rule in alerts.rules if rule.sinks is not None}
            self._process = process
            self._configured = rules
            self._put_in_force()

        return configure

    def start(self) -> None:
        """Look from now on."""
        if self._task is None:
            self._task = self._tasks.spawn(self._watch(), name="watch for alerts")

    def add_rule(self, rule: AlertRule) -> None:
        """Add a rule of the application's own, or replace the one of the same name; starts watching."""
        self._own[rule.name] = rule
        self._put_in_force()
        self.start()

    def remove_rule(self, name: str) -> None:
        """Take back what `add_rule` added; unknown names are ignored."""
        self._own.pop(name, None)
        self._put_in_force()

    def gauge(self, name: str, read: Read) -> None:
        """Let rules use a value of the application's own, read at each look; None when there is none."""
        self._gauges[name] = read

    def observe(self, name: str, value: float) -> None:
        """Let rules use the mean of values as they come, such as times of the application's own work."""
        total, count = self._observed.get(name, (0.0, 0))
        self._observed[name] = (total + value, count + 1)

    def adapted(self, settings: Settings, sources: Mapping[str, str]) -> Settings:
        """Return `settings` as the actions of alerts that fire now want them."""
        wanted = {action for actions in self._active.values() for action in actions}
        return apply(settings, sources, wanted) if wanted else settings

    def measure(self, name: str, window_s: float = HEALTH_WINDOW_S) -> float | None:
        """Return a metric over a window; None when there is too little to tell, or no such metric."""
        return self._samples.measure(name, window_s)

    def health(self) -> Health:
        """Score the last five minutes."""
        return assess(self.measure)

    def alerts(self) -> list[Alert]:
        """Return where each rule stands."""
        return self._alerts.states(self._clock.monotonic())

    async def history(self, limit: int = 100) -> Sequence[AlertEvent]:
        """Return the newest events, newest first.

        Raises:
            StoreError: They could not be read.
        """
        return await self._store.events(limit)

    def tell(self, message: Message, sinks: Sequence[str]) -> None:
        """Send `message` to the sinks of those names, soon, several times if need be; never waits, never raises."""
        self._outbox.send(message, sinks)

    @property
    def notifications(self) -> OutboxState:
        """How telling the sinks goes."""
        return self._outbox.state

    async def test(self, sink: str) -> None:
        """Send a test message to a sink, once.

        Raises:
            KeyError: There is no such sink.
            DeliveryFailed: It did not arrive.
        """
        now = self._clock.wall()
        text = "This is a test. Alerts and reports will arrive here."
        await self._outbox.sinks[sink].send(Message(_message_id(), "test", now, "Penstock test message", text))

    def show(self, gauge: Callable[[str, str, tuple[str, ...], Gauge], None]) -> None:
        """Put alerts, health and notifications on the metrics page."""
        gauge(
            "penstock_alert_firing",
            "1 while an alert fires.",
            ("rule", "severity"),
            lambda: [((alert.rule, alert.severity), float(alert.state == "firing")) for alert in self.alerts()],
        )
        gauge(
            "penstock_health_score",
            "How well the process does, 0 to 100, over five minutes.",
            (),
            lambda: [((), self.health().score)],
        )
        gauge(
            "penstock_notifications",
            "Messages to sinks: on their way now, the rest since the start.",
            ("state",),
            lambda: [((name,), count) for name, count in msgspec.structs.asdict(self.notifications).items()],
        )

    def raise_event(self, event: AlertEvent) -> None:
        """Put an event, of a rule or of no rule here, into the history, and tell the sinks."""
        self._store.record(event)
        message = Message(
            _message_id(), f"alert.{event.state}", event.at, event.message, _text(event), msgspec.to_builtins(event)
        )
        self._outbox.send(message, self._sinks.get(event.rule, self._default_sinks))

    def look(self) -> list[AlertEvent]:
        """Take a sample, compare the rules, and tell what has changed."""
        now, colleagues = self._clock.monotonic(), self._colleagues
        totals, gauges = self._totals(), self._read(now)
        if colleagues is not None:
            totals, gauges = colleagues.totals(), colleagues.gauges(gauges)
        self._samples.add(Sample(now, totals, gauges))
        events = self._alerts.check(self._samples.measure, now, self._clock.wall())
        for event in events:
            self._tell(event)
        return events

    async def _watch(self) -> None:
        colleagues, watching = self._colleagues, False
        while True:
            if colleagues is not None and colleagues.elected and not watching:
                self._begin_anew()
            watching = colleagues is None or colleagues.elected
            if colleagues is not None and watching:
                await colleagues.gather()
            if watching:
                self.look()
            await self._clock.sleep(self._interval_s)

    def _begin_anew(self) -> None:
        """Take over from another worker, whose samples are not known here."""
        self._samples = History(BUCKETS)
        self._alerts = Alerts()
        self._put_in_force()
        if self._active:
            self._active = {}
            self._change("another worker watches now")

    def _obey(self, actions: dict[str, tuple[str, ...]], collect: bool) -> None:  # noqa: FBT001 as it is told
        if collect:
            collect_garbage()
        if actions != self._active:
            self._active = actions
            self._tasks.spawn(_adapt(self._adapt), name="adapt settings")

    def _read(self, now: float) -> dict[str, float]:
        found = self._process.gauges(now)
        for name, read in self._gauges.items():
            try:
                value = read()
            except Exception:  # noqa: BLE001 - the application's own may raise anything; the others are still looked at
                _log.exception("the gauge %s could not be read", name)
                continue
            if value is not None:
                found[name] = value
        observed, self._observed = self._observed, {}
        return found | {name: total / count for name, (total, count) in observed.items()}

    def _put_in_force(self) -> None:
        rules = {**self._configured, **self._own}
        for name in self._alerts.configure(list(rules.values())):
            self._end_actions(name)

    def _tell(self, event: AlertEvent) -> None:
        rule = next(rule for rule in self._alerts.rules if rule.name == event.rule)
        firing = event.state == "firing"
        _log.log(logging.WARNING if firing else logging.INFO, "%s", event.message)
        self.raise_event(event)
        if rule.callback is not None:
            self._tasks.spawn(_call(rule.callback, event), name=f"alert {rule.name}")
        if firing and not event.repeated:
            self._begin_actions(rule)
        elif not firing:
            self._end_actions(rule.name)

    def _begin_actions(self, rule: AlertRule) -> None:
        if COLLECT_GARBAGE in rule.actions:
            collect_garbage()
            if self._colleagues is not None:
                self._colleagues.tell(self._active, collect=True)
        lasting = tuple(action for action in rule.actions if action != COLLECT_GARBAGE)
        if lasting:
            self._active[rule.name] = lasting
            self._change(f"{rule.name}: {', '.join(lasting)}")

    def _end_actions(self, name: str) -> None:
        if self._active.pop(name, None) is not None:
            self._change(f"{name} is over")

    def _change(self, why: str) -> None:
        _log.warning("settings are adapted; %s", why)
        if self._colleagues is not None:
            self._colleagues.tell(self._active)
        self._tasks.spawn(_adapt(self._adapt), name="adapt settings")


def rule_of(settings: AlertRuleSettings) -> AlertRule:
    """Return a configured rule."""
    return AlertRule(
        settings.name, settings.metric, settings.threshold, settings.operator, settings.window_s, settings.for_s,
        settings.severity, settings.repeat_s, tuple(settings.actions),
    )  # fmt: skip


def _message_id() -> str:
    return f"msg_{uuid.uuid4().hex}"


def _text(event: AlertEvent) -> str:
    return f"{event.message}\n\nrule: {event.rule}\nstate: {event.state}\nseverity: {event.severity}\n"


async def _call(callback: Callable[[AlertEvent], object], event: AlertEvent) -> None:
    """Call what the application gave; a coroutine function is awaited. Failures are logged by the task's group."""
    found = callback(event)
    if inspect.isawaitable(found):
        await found


async def _adapt(adapt: Callable[[], Awaitable[None]]) -> None:
    try:
        await adapt()
    except StoreError as error:
        _log.error("settings are not adapted: %s", error)
