"""Running simulations by their seeds."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterable, Iterator
from random import Random

import msgspec

from penstock.testing.simulation.books import FAULT
from penstock.testing.simulation.bounds import bounds
from penstock.testing.simulation.checks import check
from penstock.testing.simulation.loop import SimulatedLoop, Stuck
from penstock.testing.simulation.plan import Plan, draw
from penstock.testing.simulation.world import World

_COLLECT_EVERY = 25


class Outcome(msgspec.Struct):
    """What became of one seed.

    Attributes:
        seed: Which.
        problems: What was wrong; empty if all was well.
        steps: Callbacks that were run.
        calls: Calls that were made.
        sent: Requests that providers were sent.
        by_meaning: Calls that were answered by meaning.
        digest: Of everything that happened; empty without a trace.
        trace: The newest things that happened, as text.
        plan: What the seed decided.
    """

    seed: int
    problems: list[str]
    steps: int
    calls: int
    sent: int
    by_meaning: int
    digest: str
    trace: list[str]
    plan: Plan


def simulate(seed: int, *, trace: bool = True, tail: int = 40) -> Outcome:
    """Run the pipeline in the storm that `seed` describes, and check it.

    Args:
        seed: Any number; the same one makes the same simulation, whatever `PYTHONHASHSEED` is.
        trace: Keep a trace of every step, for the digest.
        tail: How many entries of the trace to return.
    """
    loop = SimulatedLoop(seed, keep_trace=trace)
    random = Random(f"world {seed}")
    plan = draw(random)
    world = World(loop, seed, plan, random)
    collecting = gc.isenabled()
    gc.disable()  # what the collector finds depends on what ran before
    logger, listener = logging.getLogger("penstock"), _Listener()
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(listener)
    try:
        loop.run_until_complete(world.run())
        problems = [*check(world), *bounds(world), *listener.heard]
    except Stuck as error:
        problems = [*world.problems, *listener.heard, str(error)]
    finally:
        logger.removeHandler(listener)
        logger.propagate = propagate
        if collecting:
            gc.enable()
    digest = loop.digest if trace else ""
    by_meaning = sum(asked.cache == "semantic" for asked in world.asked)
    outcome = Outcome(
        seed, problems, loop.steps, len(world.asked), len(world.journal), by_meaning, digest, loop.last(tail), plan
    )
    loop.close()
    return outcome


def simulate_many(seeds: Iterable[int], *, trace: bool = False) -> Iterator[Outcome]:
    """Run one seed after the other."""
    gc.collect()
    gc.freeze()
    try:
        for number, seed in enumerate(seeds):
            yield simulate(seed, trace=trace)
            if number % _COLLECT_EVERY == 0:
                gc.collect()
    finally:
        gc.unfreeze()


class _Listener(logging.Handler):
    """Hears of background tasks that failed, but for the faults of stores."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if FAULT not in record.getMessage():
            self.heard.append(f"logged: {record.getMessage()}")
