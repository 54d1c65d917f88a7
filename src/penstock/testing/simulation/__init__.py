"""Simulations that a seed decides: order, time, cancellations, faults. A failure is found once and replayed at will.

`SimulatedLoop` is an event loop of one thread with virtual time, and `SimulatedClock` its clock. `FaultyProvider` fails
in all the ways providers do. `simulate` puts Penstock's own pipeline between such providers and clients that come, wait
and leave, and checks what must always be true. ``python -m penstock.testing.simulation`` runs many seeds.
"""

from penstock.testing.simulation.loop import SimulatedClock, SimulatedLoop, Stuck
from penstock.testing.simulation.provider import FaultyProvider, Sent
from penstock.testing.simulation.running import Outcome, simulate, simulate_many
from penstock.testing.simulation.weather import FAIR, Weather

__all__ = [
    "FAIR",
    "FaultyProvider",
    "Outcome",
    "Sent",
    "SimulatedClock",
    "SimulatedLoop",
    "Stuck",
    "Weather",
    "simulate",
    "simulate_many",
]
