"""What is known of an experiment."""

from __future__ import annotations

import msgspec

from penstock.core.experiment import Direction


class Effect(msgspec.Struct, frozen=True):
    """An arm's mean minus the control's.

    Attributes:
        arm: The arm.
        effect: The difference, estimated.
        low: The least it may be; None when that is not known yet.
        high: The most it may be.
        p: Probability of as much evidence, at any time up to now, if there were no difference; for all arms together.
        better: None while it is not certain which is.
    """

    arm: str
    effect: float
    low: float | None
    high: float | None
    p: float
    better: bool | None


class Mean(msgspec.Struct, frozen=True):
    """An arm's units.

    Attributes:
        arm: The arm.
        units: Units that have a value.
        mean: Mean of their values; None without any.
        deviation: Their standard deviation; None of fewer than two.
    """

    arm: str
    units: int
    mean: float | None
    deviation: float | None


class Measured(msgspec.Struct, frozen=True):
    """One metric.

    Attributes:
        metric: Its name.
        direction: Which way is better.
        role: ``primary``, ``guard`` or empty.
        bounds: Between which values count, if that is set.
        means: Of each arm, the control first.
        effects: Of each arm but the control.
    """

    metric: str
    direction: Direction
    role: str
    bounds: tuple[float, float] | None
    means: tuple[Mean, ...]
    effects: tuple[Effect, ...]


class Point(msgspec.Struct, frozen=True):
    """What was known of the primary metric at a time.

    Attributes:
        at: The time of the newest unit, seconds since the epoch.
        units: Units so far.
        arm: The arm.
        effect: As `Effect.effect`.
        low: As `Effect.low`.
        high: As `Effect.high`.
    """

    at: float
    units: int
    arm: str
    effect: float
    low: float
    high: float


class Decision(msgspec.Struct, frozen=True):
    """It may end.

    Attributes:
        why: For people.
        winner: The better arm; None without one.
        harm: It ends because something became worse.
        at: When the unit began that settled it, seconds since the epoch.
    """

    why: str
    winner: str | None
    harm: bool
    at: float


class Report(msgspec.Struct, frozen=True):
    """All of it.

    Attributes:
        name: The experiment.
        units: Units whose window is over.
        open: Units whose window is not.
        calls: Calls of those that are counted.
        left_out: Calls that do not count: of another arm than the unit's first, or after its window.
        alpha: Probability of a wrong winner; intervals hold for all arms of a metric together with 1 - alpha.
        imbalance_p: Probability of as uneven numbers of units, if the shares are kept; None with shares that change.
        measured: The metrics, the primary one first.
        points: The primary metric over time.
        decision: What the stop rules say; None to go on.
    """

    name: str
    units: int
    open: int
    calls: int
    left_out: int
    alpha: float
    imbalance_p: float | None
    measured: tuple[Measured, ...]
    points: tuple[Point, ...]
    decision: Decision | None
