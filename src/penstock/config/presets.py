"""What each level sets, unless something else does: how hard to save on polling and how long to keep answers."""

from __future__ import annotations

from types import MappingProxyType

from penstock.config.provenance import Node, Origin

DEFAULT_LEVEL = "high"

SETTINGS = ("polling.min_s", "polling.max_s", "polling.backoff", "cache.exact.ttl_s")
PRESETS = MappingProxyType({
    "ultra":  (3.0, 10.0, 2.0, 14400.0),
    "high":   (2.0,  8.0, 1.5,  7200.0),
    "medium": (1.0,  4.0, 1.3,  3600.0),
    "low":    (0.5,  2.0, 1.2,  1800.0),
})  # fmt: skip
"""The values of `SETTINGS` by level."""


def preset(level: object) -> Node:
    """The defaults of `level`; of the default level when there is no such level."""
    name = level.lower() if isinstance(level, str) and level.lower() in PRESETS else DEFAULT_LEVEL
    origin = Origin(f"level {name}")
    tree = Node({}, origin)
    for setting, value in zip(SETTINGS, PRESETS[name], strict=True):
        tree.put(tuple(setting.split(".")), Node(value, origin))
    return tree
