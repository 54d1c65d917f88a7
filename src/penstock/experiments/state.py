"""What became of an experiment, as the store keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from penstock.core.errors import StoreError
from penstock.core.experiment import Experiment

PREFIX = "experiment/"
"""Before the experiment's name in the store of states."""
Status = Literal["running", "stopped"]


class Shares(msgspec.Struct, frozen=True):
    """The arms' shares from a time on.

    Attributes:
        since: Seconds since the epoch.
        weights: Of each arm, of 1.
    """

    since: float
    weights: dict[str, float]


class State(msgspec.Struct, frozen=True):
    """Where an experiment stands.

    Attributes:
        status: Whether it runs.
        identity: `Experiment.identity` of what is compared.
        since: Since when its calls count, seconds since the epoch.
        configured: The shares of the configuration that `shares` follow.
        shares: The arms' shares, the newest last; each call's are those at its time.
        stopped_at: When it ended.
        winner: The arm that was found to be better; None without one.
        why: Why it ended.
        by: Who ended it; empty when its own rules did.
    """

    status: Status
    identity: str
    since: float
    configured: dict[str, float]
    shares: tuple[Shares, ...]
    stopped_at: float | None = None
    winner: str | None = None
    why: str = ""
    by: str = ""

    def weights(self, at: float) -> Mapping[str, float]:
        """Return the shares at a time."""
        for shares in reversed(self.shares):
            if shares.since <= at:
                return shares.weights
        return self.shares[0].weights


def moment(at: float) -> float:
    """Return a time in whole microseconds, as the ledger has the times of calls."""
    return int(at * 1e6) / 1e6


def begin(experiment: Experiment, at: float) -> State:
    """Return the state of an experiment that begins."""
    weights = experiment.weights
    return State("running", experiment.identity, moment(at), weights, (Shares(moment(at), weights),))


def follow(experiment: Experiment, state: State | None, at: float, lead_s: float) -> State:
    """Return the state of an experiment whose configuration was read at `at`.

    What compares something else begins anew; changed shares are in force after `lead_s`, when every process knows.
    """
    if state is None or state.identity != experiment.identity:
        return begin(experiment, at)
    if state.configured == experiment.weights or state.status == "stopped":
        return state
    shares = Shares(moment(at + lead_s), experiment.weights)
    return msgspec.structs.replace(state, configured=experiment.weights, shares=(*state.shares, shares))


def encode(state: State) -> bytes:
    """Return what is kept."""
    return msgspec.json.encode(state)


def decode(name: str, data: bytes) -> State:
    """Read what `encode` wrote.

    Raises:
        StoreError: It is something else.
    """
    try:
        return msgspec.json.decode(data, type=State)
    except msgspec.DecodeError as error:
        raise StoreError(f"the state {PREFIX}{name} in the store cannot be read: {error}") from error
