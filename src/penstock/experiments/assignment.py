"""Which arm a request gets, and what that changes in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from penstock.core.experiment import Arm, Experiment
from penstock.core.request import PromptReference, Request
from penstock.experiments.hashing import Lot, unit_of
from penstock.experiments.state import State

_OWN = "penstock-"
"""How the operations of requests begin that Penstock makes itself; they are nobody's."""
_replace = msgspec.structs.replace


class Assigner:
    """Applies what runs to requests.

    Args:
        experiments: What is configured, in this order.
        states: Where each stands, by name.
    """

    def __init__(self, experiments: Sequence[Experiment], states: Mapping[str, State]) -> None:
        layers: dict[str, dict[str, float]] = {}
        for experiment in experiments:
            layers.setdefault(_layer(experiment), {})[experiment.name] = experiment.share
        # The empty name takes those who do not take part.
        entries = {
            layer: Lot(f"layer\0{layer}", {**shares, "": max(0.0, 1 - sum(shares.values()))})
            for layer, shares in layers.items()
        }
        self._running = [
            _Running(experiment, states[experiment.name], entries[_layer(experiment)])
            for experiment in experiments
            if experiment.name in states and states[experiment.name].status == "running"
        ]
        self._won = [
            (experiment, arm)
            for experiment in experiments
            if (arm := _winner(experiment, states.get(experiment.name))) is not None
        ]

    @property
    def idle(self) -> bool:
        """Nothing would be changed in any request."""
        return not self._running and not self._won

    def apply(self, request: Request) -> Request:
        """Return `request` as its arms want it; the arms are on its call."""
        if request.operation == "embeddings" or (request.metadata or {}).get("operation", "").startswith(_OWN):
            return request
        changed = request
        for experiment, arm in self._won:
            if experiment.audience.fits(request):
                changed = change(changed, arm)
        unit = ""
        arms: dict[str, str] = {}
        for running in self._running:
            if running.experiment.audience.fits(request):
                unit = unit or unit_of(request)
                drawn = running.draw(unit, request.call.started_at)
                if drawn is not None:
                    arms[running.experiment.name] = drawn.name
                    changed = running.change(changed, drawn)
        if arms:
            request.call.arms, request.call.unit = arms, unit
        return changed


class _Running:
    def __init__(self, experiment: Experiment, state: State, entry: Lot) -> None:
        self.experiment = experiment
        self._entry = entry
        self._arms = {arm.name: arm for arm in experiment.arms}
        self._lots = [(shares.since, lot_of(experiment, shares.weights)) for shares in reversed(state.shares)]
        self._apart = any(arm.change.caches for arm in experiment.arms)

    def draw(self, unit: str, at: float) -> Arm | None:
        """Return the arm of `unit`; None when it does not take part."""
        if self._entry.draw(unit) != self.experiment.name:
            return None
        lot = next((lot for since, lot in self._lots if since <= at), self._lots[-1][1])
        return self._arms[lot.draw(unit)]

    def change(self, request: Request, arm: Arm) -> Request:
        changed = change(request, arm)
        if not self._apart:
            return changed
        space = f"{changed.cache.namespace}\x1f{self.experiment.name}/{arm.name}"
        return _replace(changed, cache=_replace(changed.cache, namespace=space))


def lot_of(experiment: Experiment, weights: Mapping[str, float]) -> Lot:
    """Return what decides between the arms."""
    return Lot(f"arm\0{experiment.name}", weights)


def change(request: Request, arm: Arm) -> Request:
    """Return `request` as `arm` wants it."""
    what = arm.change
    changes: dict[str, Any] = {
        name: value
        for name, value in (
            ("model", what.model), ("semantic", what.semantic), ("context", what.context),
            ("context_tokens", what.context_tokens),
        )
        if value is not None
    }  # fmt: skip
    if what.parameters:
        payload = {**request.payload, **what.parameters}
        changes["payload"] = {name: value for name, value in payload.items()
                              if value is not None or name not in what.parameters}  # fmt: skip
    if what.cache_ttl_s is not None and request.cache.ttl is None:
        changes["cache"] = _replace(request.cache, ttl=what.cache_ttl_s)
    if what.prompt_id is not None or what.prompt_version is not None:
        changes["prompt"] = _prompt(request.prompt, what.prompt_id, what.prompt_version)
    return _replace(request, **changes) if changes else request


def _prompt(asked: PromptReference | None, name: str | None, version: str | None) -> PromptReference | None:
    if asked is None:
        return None if name is None else PromptReference(name, version)
    kept = asked.version if name in (None, asked.id) else None
    return PromptReference(name or asked.id, version or kept, asked.variables)


def _layer(experiment: Experiment) -> str:
    return f"layer {experiment.layer}" if experiment.layer else f"experiment {experiment.name}"


def _winner(experiment: Experiment, state: State | None) -> Arm | None:
    if state is None or state.status == "running" or state.winner is None or experiment.then != "winner":
        return None
    return next((arm for arm in experiment.arms if arm.name == state.winner), None)
