"""What people may ask of experiments and do with them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

import msgspec

from penstock.abc import ScoreStore, StateStore
from penstock.core.clock import Clock
from penstock.core.errors import InvalidRequest
from penstock.core.experiment import Experiment
from penstock.experiments.analysis import Analysis
from penstock.experiments.report import Report
from penstock.experiments.state import PREFIX, State, Status, begin, decode, encode

PAGE = 2000
"""Calls that are read at a time."""
LATE_S = 60.0
"""How much longer than its time limit a call may take to be in the ledger."""


class Standing(msgspec.Struct, frozen=True):
    """Where an experiment stands.

    Attributes:
        name: Its name.
        status: ``running``, ``stopped``, or ``waiting`` until a server has begun it.
        arms: The arms' shares now, the control first.
        primary: The metric that decides.
        since: Since when its calls count, seconds since the epoch; None before it began.
        stopped_at: When it ended.
        winner: The better arm; None without one.
        why: Why it ended.
        by: Who ended it; empty when its own rules did.
    """

    name: str
    status: str
    arms: dict[str, float]
    primary: str
    since: float | None = None
    stopped_at: float | None = None
    winner: str | None = None
    why: str = ""
    by: str = ""


class Desk:
    """The configured experiments, and what the store knows of them.

    Args:
        experiments: What is configured.
        states: Where each stands.
        scores: What came of their calls.
        clock: Where time comes from.
        timeout_s: How long a call may take.
    """

    def __init__(
        self, experiments: Sequence[Experiment], states: StateStore, scores: ScoreStore, clock: Clock, timeout_s: float
    ) -> None:
        self.experiments = {experiment.name: experiment for experiment in experiments}
        self._states = states
        self._scores = scores
        self._clock = clock
        self._timeout_s = timeout_s

    async def states(self) -> Mapping[str, State]:
        """Return where the configured experiments stand, those that compare what is configured now.

        Raises:
            StoreError: The states cannot be read.
        """
        found = {}
        for key, data in (await self._states.load(PREFIX)).items():
            name = key.removeprefix(PREFIX)
            if name in self.experiments:
                state = decode(name, data)
                if state.identity == self.experiments[name].identity:
                    found[name] = state
        return found

    async def list(self) -> list[Standing]:
        """Return where each experiment stands, as configured.

        Raises:
            StoreError: The states cannot be read.
        """
        states = await self.states()
        return [self._standing(experiment, states.get(experiment.name)) for experiment in self.experiments.values()]

    async def get(self, name: str) -> Standing:
        """Return where one stands.

        Raises:
            InvalidRequest: There is none of that name (404).
            StoreError: The states cannot be read.
        """
        return self._standing(self._named(name), (await self.states()).get(name))

    async def report(self, name: str) -> Report:
        """Return what is known of one.

        Raises:
            InvalidRequest: There is none of that name, or it has not begun (404).
            StoreError: The store cannot be read.
        """
        experiment = self._named(name)
        state = (await self.states()).get(name)
        if state is None:
            raise InvalidRequest(f"The experiment {name} has not begun: no server has run with it.",
                                 code="experiment_not_begun", status_code=404)  # fmt: skip
        analysis = Analysis(experiment, state)
        await self.catch_up(analysis)
        return await asyncio.to_thread(analysis.report)

    async def catch_up(self, analysis: Analysis) -> None:
        """Feed `analysis` all that is certain by now.

        A call's row has the time of its beginning but is written at its end, and scores come later still; so calls are
        read when their window and their time limit are over.

        Raises:
            StoreError: The store cannot be read.
        """
        state = analysis.state
        until = self._clock.wall() - max(analysis.experiment.window_s, self._timeout_s + LATE_S)
        if state.stopped_at is not None:
            until = min(until, state.stopped_at)
        while True:
            page = await self._scores.outcomes(after=analysis.after, since=state.since, until=until, limit=PAGE)
            await asyncio.to_thread(analysis.feed, page)
            if len(page) < PAGE:
                break
        await asyncio.to_thread(partial(analysis.close, until))

    async def stop(self, name: str, *, winner: str | None = None, why: str = "", by: str = "") -> Standing:
        """End an experiment; with a winner, everybody gets it if the configuration says so.

        Raises:
            InvalidRequest: There is none of that name, it does not run, or has no such arm.
            StoreError: The store cannot be read or written.
        """
        experiment = self._named(name)
        arms = [arm.name for arm in experiment.arms]
        if winner is not None and winner not in arms:
            raise InvalidRequest(f"The experiment {name} has no arm {winner[:100]!r}, only {', '.join(arms)}.",
                                 param="winner", code="invalid_value")  # fmt: skip
        state = (await self.states()).get(name)
        if state is None or state.status == "stopped":
            raise InvalidRequest(f"The experiment {name} does not run.", code="experiment_not_running", status_code=409)
        ended: Status = "stopped"
        return await self.save(
            experiment,
            msgspec.structs.replace(
                state, status=ended, stopped_at=self._clock.wall(), winner=winner, why=why or "it was stopped", by=by
            ),
        )

    async def start(self, name: str) -> Standing:
        """Let an experiment run; one that has ended begins anew, and its earlier calls do not count.

        Raises:
            InvalidRequest: There is none of that name (404).
            StoreError: The store cannot be read or written.
        """
        experiment = self._named(name)
        state = (await self.states()).get(name)
        if state is not None and state.status == "running":
            return self._standing(experiment, state)
        return await self.save(experiment, begin(experiment, self._clock.wall()))

    async def save(self, experiment: Experiment, state: State) -> Standing:
        """Keep a state.

        Raises:
            StoreError: It cannot be written.
        """
        await self._states.save(PREFIX + experiment.name, encode(state))
        return self._standing(experiment, state)

    def _named(self, name: str) -> Experiment:
        experiment = self.experiments.get(name)
        if experiment is None:
            raise InvalidRequest(
                f"There is no experiment {name[:100]!r}, only {', '.join(self.experiments) or 'none at all'}.",
                code="experiment_not_found", status_code=404,
            )  # fmt: skip
        return experiment

    def _standing(self, experiment: Experiment, state: State | None) -> Standing:
        if state is None:
            return Standing(experiment.name, "waiting", experiment.weights, experiment.primary.name)
        shares = dict(state.weights(self._clock.wall()))
        arms = {arm.name: shares.get(arm.name, 0.0) for arm in experiment.arms}
        return Standing(
            experiment.name, state.status, arms, experiment.primary.name, state.since, state.stopped_at, state.winner,
            state.why, state.by,
        )  # fmt: skip
