"""A provider without a model, for trying things out, for demonstrations, tests and measurements."""

from penstock.providers.simulated.chunks import FINGERPRINT as FINGERPRINT
from penstock.providers.simulated.provider import SimulatedProvider as SimulatedProvider
