"""Experiments in a process that serves: assigns requests, keeps up with the store, and ends what may end."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from penstock.abc import ScoreStore, StateStore
from penstock.core.alert import AlertEvent, Severity
from penstock.core.clock import Clock
from penstock.core.errors import StoreError
from penstock.core.experiment import Experiment
from penstock.core.tasks import TaskGroup
from penstock.experiments.analysis import Analysis
from penstock.experiments.assignment import Assigner
from penstock.experiments.bandit import shares
from penstock.experiments.report import Decision
from penstock.experiments.state import Shares, State, follow, moment
from penstock.trials.desk import Desk

FOLLOW_S = 10.0
"""Seconds between looks at what other processes have decided."""
LEAD_S = 60.0
"""Seconds before new shares are in force, by when every process knows them."""
EVALUATE_S = 60.0
"""Seconds between evaluations, of all processes together."""

Claim = Callable[[str, int], Awaitable[bool]]
"""Whether what is due at a time is this process's to do."""
_log = logging.getLogger("penstock.experiments")


class Trials:
    """The experiments of one process; without any it does nothing.

    Args:
        states: Where each stands.
        scores: What came of their calls.
        claim: Decides which process evaluates.
        clock: Where time comes from.
        tasks: Background work.

    Attributes:
        assigner: Applies what runs to requests; None when nothing does.
        desk: What people may ask and do.
    """

    def __init__(self, states: StateStore, scores: ScoreStore, claim: Claim, clock: Clock, tasks: TaskGroup) -> None:
        self.assigner: Assigner | None = None
        self.desk = Desk((), states, scores, clock, 0.0)
        self._stores = (states, scores)
        self._claim = claim
        self._clock = clock
        self._tasks = tasks
        self._known: Mapping[str, State] = {}
        self._analyses: dict[str, Analysis] = {}
        self._listeners: list[Callable[[AlertEvent], None]] = []
        self._begun = True
        self._following = False

    async def configure(self, experiments: Sequence[Experiment], timeout_s: float) -> None:
        """Let `experiments` run; those that are new begin now. `timeout_s` is how long a call may take.

        A store that cannot be read is put up with: nothing is compared until it can.
        """
        if not experiments and not self.desk.experiments:
            return
        self.desk = Desk(experiments, *self._stores, self._clock, timeout_s)
        self._begun = False
        try:
            await self.refresh()
        except StoreError as error:
            _log.error("experiments do not run: %s", error)
        if experiments and not self._following:
            self._following = True
            self._tasks.spawn(self._follow(), name="follow experiments")
            self._tasks.spawn(self._evaluate(), name="evaluate experiments")

    def on_event(self, listener: Callable[[AlertEvent], None]) -> None:
        """Call `listener` when an experiment ends by its own rules."""
        self._listeners.append(listener)

    async def refresh(self) -> None:
        """Take over what the store says; the first time, begin what is new.

        Raises:
            StoreError: It cannot be read or written.
        """
        if not self._begun:
            await self._begin()
            self._begun = True
        known = await self.desk.states()
        if known == self._known and self.assigner is not None:
            return
        self._known = known
        assigner = Assigner(list(self.desk.experiments.values()), known)
        self.assigner = None if assigner.idle else assigner

    async def evaluate(self) -> None:
        """Look at what came of the calls since the last time; end what may end, and follow success.

        Raises:
            StoreError: The store cannot be read or written.
        """
        slot = int(self._clock.wall() // EVALUATE_S * EVALUATE_S)
        for name, state in (await self.desk.states()).items():
            if state.status == "running" and await self._claim(f"experiment:{name}", slot):
                await self._judge(self.desk.experiments[name], state)
        await self.refresh()

    async def _begin(self) -> None:
        known = await self.desk.states()
        for experiment in self.desk.experiments.values():
            before = known.get(experiment.name)
            after = follow(experiment, before, self._clock.wall(), LEAD_S)
            if after is not before:
                await self.desk.save(experiment, after)

    async def _judge(self, experiment: Experiment, state: State) -> None:
        analysis = self._analyses.get(experiment.name)
        if analysis is None or analysis.experiment != experiment or analysis.state.since != state.since:
            analysis = self._analyses[experiment.name] = Analysis(experiment, state)
        analysis.state = state
        await self.desk.catch_up(analysis)
        now = self._clock.wall()
        decision = analysis.decision or analysis.overdue(now)
        if decision is not None:
            del self._analyses[experiment.name]
            await self.desk.stop(experiment.name, winner=decision.winner, why=decision.why)
            self._tell(experiment, decision, now)
            return
        bandit, newest = experiment.bandit, state.shares[-1]
        if bandit is not None and now >= newest.since + bandit.every_s:
            wanted = shares(experiment, analysis.rewards(), newest.weights)
            if wanted is not None:
                changed = (*state.shares, Shares(moment(now + LEAD_S), wanted))
                await self.desk.save(experiment, msgspec.structs.replace(state, shares=changed))

    def _tell(self, experiment: Experiment, decision: Decision, now: float) -> None:
        message = f"the experiment {experiment.name} has ended: {decision.why}"
        severity: Severity = "warning" if decision.harm else "info"
        _log.warning("%s", message)
        event = AlertEvent(f"experiment:{experiment.name}", "firing", severity, now, None, experiment.alpha, message)
        for listener in self._listeners:
            listener(event)

    async def _follow(self) -> None:
        while True:
            await self._clock.sleep(FOLLOW_S)
            try:
                await self.refresh()
            except StoreError as error:
                _log.error("experiments cannot be read, what is known stays in force: %s", error)

    async def _evaluate(self) -> None:
        while True:
            await self._clock.sleep(EVALUATE_S)
            try:
                await self.evaluate()
            except StoreError as error:
                _log.error("experiments are evaluated later: %s", error)
