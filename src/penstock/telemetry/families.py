"""Metrics of several processes as those of one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

import msgspec

COUNTED = frozenset({"counter", "histogram"})
"""Kinds whose values only grow."""
EACH = "worker"
"""Label of the values that are shown for each process."""

_LEAST: Callable[[Iterable[float]], float] = min
_MOST: Callable[[Iterable[float]], float] = max

TOGETHER: Mapping[str, Callable[[Iterable[float]], float] | None] = MappingProxyType({
    # Of one machine or version, so the same in all.
    "python_info": _MOST,
    "process_start_time_seconds": _LEAST,
    # The worst says more than the sum.
    "penstock_event_loop_lag_seconds": _MOST,
    "penstock_health_checks": _MOST,
    "penstock_limit_limit": _MOST,
    "penstock_health_score": _LEAST,
    "penstock_target_available": _LEAST,
    "penstock_cascade_certified": _LEAST,
    # Each process has its own idea, and their sum is nothing.
    "penstock_replica_queue_seconds": None,
    "penstock_replica_slowness": None,
    "penstock_replica_blocks": None,
})  # fmt: skip
"""What the gauges of several processes come to, by name; None shows each. All others are added up."""


class Sample(msgspec.Struct, array_like=True, frozen=True):
    """One value of a family, with its own name, and labels by name."""

    name: str
    labels: dict[str, str]
    value: float


class Family(msgspec.Struct, array_like=True):
    """A metric: its name, its kind as Prometheus has it, what it means, and its values."""

    name: str
    kind: str
    text: str
    samples: list[Sample]


_decoder = msgspec.msgpack.Decoder(list[Family])


def encode(families: Sequence[Family]) -> bytes:
    """Return bytes for another process."""
    return msgspec.msgpack.encode(families)


def decode(data: bytes) -> list[Family]:
    """Return what was encoded."""
    return _decoder.decode(data)


_Key = tuple[str, tuple[tuple[str, str], ...]]


class Sums:
    """What several processes count, as if one did: sums do not fall when a process ends.

    They would if what an ended one had counted were left out, and whoever reads them would take that for a new
    beginning. What it counted after it was read last is known to nobody, and so missing.
    """

    def __init__(self) -> None:
        self._last: dict[int, Sequence[Family]] = {}
        self._ended: dict[str, tuple[Family, dict[_Key, float]]] = {}

    def take(self, number: int, families: Sequence[Family]) -> None:
        """Remember what a process shows now."""
        self._last[number] = families

    def end(self, number: int) -> None:
        """The process has ended; keep what it had counted."""
        for family in self._last.pop(number, ()):
            if family.kind in COUNTED:
                _, ended = self._ended.setdefault(family.name, (family, {}))
                for sample in family.samples:
                    key = _key(sample)
                    ended[key] = ended.get(key, 0.0) + sample.value

    def read(self) -> list[Family]:
        """Return the families of all, in the order in which the first process has them."""
        found: dict[str, tuple[Family, dict[_Key, list[float]]]] = {}
        for number, families in sorted(self._last.items()):
            for family in families:
                _, values = found.setdefault(family.name, (family, {}))
                each = family.kind not in COUNTED and TOGETHER.get(family.name, sum) is None
                for sample in family.samples:
                    name, labels = _key(sample)
                    key = (name, (*labels, (EACH, str(number)))) if each else (name, labels)
                    values.setdefault(key, []).append(sample.value)
        for name, (family, ended) in self._ended.items():
            _, values = found.setdefault(name, (family, {}))
            for key, value in ended.items():
                values.setdefault(key, []).append(value)
        return [_merged(family, values) for family, values in found.values()]


def _merged(family: Family, values: Mapping[_Key, Sequence[float]]) -> Family:
    how = None if family.kind in COUNTED else TOGETHER.get(family.name)
    samples = [Sample(name, dict(labels), float((how or sum)(each))) for (name, labels), each in values.items()]
    return Family(family.name, family.kind, family.text, samples)


def _key(sample: Sample) -> _Key:
    return sample.name, tuple(sample.labels.items())
