"""What is known of the targets' health, shared by the layers that choose a target and those that learn about it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from penstock.core.clock import Clock
from penstock.core.route import Target
from penstock.routing.breaker import Circuit, State

_REMEMBERED = 1024
"""Targets kept, the least recently used forgotten first: with ``model: "*"`` their names come from clients."""


class Limits(Protocol):
    """When a circuit opens and for how long; `penstock.config.settings.BreakerSettings` is one."""

    @property
    def failures(self) -> int:
        """Consecutive failures that open it."""

    @property
    def recovery_s(self) -> float:
        """Seconds until a request probes."""


class TargetState(NamedTuple):
    """A target's health as metrics and readiness report it.

    Attributes:
        provider: Name of the provider in the configuration.
        model: The provider's model.
        state: ``closed`` is healthy.
        recovers_in_s: Seconds until a request may go there; 0 when it may now.
    """

    provider: str
    model: str
    state: State
    recovers_in_s: float


class Health:
    """A circuit for each target that was used lately."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self.clock = clock
        self._limits = limits
        self._circuits: OrderedDict[tuple[str, str], Circuit] = OrderedDict()

    def circuit(self, target: Target) -> Circuit:
        """Return the circuit of `target`, a closed one if it is new."""
        key = (target.provider, target.model)
        circuit = self._circuits.get(key)
        if circuit is not None:
            self._circuits.move_to_end(key)
            return circuit
        circuit = self._circuits[key] = Circuit(self._limits.failures, self._limits.recovery_s)
        if len(self._circuits) > _REMEMBERED:
            self._circuits.popitem(last=False)
        return circuit

    def recovers_in(self, target: Target) -> float:
        """Seconds until `target` may be used; 0 when it may be now."""
        circuit = self._circuits.get((target.provider, target.model))
        return 0.0 if circuit is None else circuit.recovers_in(self.clock.monotonic())

    def fit(self, target: Target) -> bool:
        """Whether `target` may be given work that could be left undone: nothing speaks against it, nor did lately."""
        circuit = self._circuits.get((target.provider, target.model))
        return circuit is None or circuit.steady(self.clock.monotonic())

    def troubled(self, provider: str) -> bool:
        """Whether a target of `provider` is left alone because it failed."""
        return any(circuit.opened for (name, _), circuit in self._circuits.items() if name == provider)

    def checked(self, provider: str, targets: Iterable[Target], failed: int, cause: str) -> None:
        """`provider` was checked: it is reachable, or the last `failed` checks failed, now with a code `cause`.

        Args:
            provider: Its name.
            targets: Its targets that are known though they may not have been used yet.
            failed: 0 when it is reachable.
            cause: Code of the error.
        """
        now = self.clock.monotonic()
        if failed >= self._limits.failures:
            for target in targets:
                self.circuit(target)
        for (name, _), circuit in self._circuits.items():
            if name != provider:
                continue
            if not failed:
                circuit.hasten(now)
            elif circuit.opened or failed >= self._limits.failures:
                circuit.unreachable(now, cause)

    def hasten(self, targets: Iterable[Target]) -> Target | None:
        """Of `targets`, none of which may be used, let the one that recovers soonest be probed now.

        Returns:
            The target to try; None when all are cooling down or being probed, so that nothing is left to try.
        """
        now = self.clock.monotonic()
        for target in sorted(targets, key=self.recovers_in):
            if self.circuit(target).hasten(now):
                return target
        return None

    def states(self) -> list[TargetState]:
        """List the targets used lately and how they are."""
        now = self.clock.monotonic()
        return [
            TargetState(provider, model, circuit.state(now), circuit.recovers_in(now))
            for (provider, model), circuit in self._circuits.items()
        ]
