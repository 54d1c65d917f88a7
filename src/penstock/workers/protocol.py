"""What the supervisor and its workers say to each other; the topics all begin with ``worker.``."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

SUPERVISOR: Final = 0
"""The number of the process that starts the workers; it is on the bus, but no worker."""

BEGIN: Final = "worker.begin"
"""A worker asks what it is to do; answered with `Orders`."""
PREPARED: Final = "worker.prepared"
"""A worker could answer requests; it is told when it may."""
SERVING: Final = "worker.serving"
"""A worker answers requests."""
FAILED: Final = "worker.failed"
"""A worker cannot start; says `Failure`."""
RELOAD: Final = "worker.reload"
"""A worker is asked to put a packed configuration in force."""
PROMPTS: Final = "worker.prompts"
"""Workers are told to read the prompts again."""
METRICS: Final = "worker.metrics"
"""A worker is asked for its metrics, and asks for those of all."""
STOP: Final = "worker.stop"
"""Workers are told to stop: in order, or with `NOW` at once."""
NOW: Final = b"now"


class Orders(msgspec.Struct, array_like=True):
    """What a worker is to do.

    Attributes:
        config: The packed configuration.
        as_json: How to log.
        level: What to log.
        family: Of the address to listen on.
        address: The address, as sockets have it.
        others: Workers to connect to before anything is begun that only one of all does.
    """

    config: bytes
    as_json: bool
    level: str
    family: int
    address: list[str | int]
    others: list[int] = []


class Failure(msgspec.Struct, array_like=True):
    """Why a worker cannot start.

    Attributes:
        kind: ``config`` for a configuration that cannot be used.
        message: For a person.
    """

    kind: Literal["config", "other"]
    message: str
