"""Configuration values that remember where they come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Path = tuple[str | int, ...]


class Origin(NamedTuple):
    """Where a value comes from.

    Attributes:
        label: For people, e.g. ``penstock.yaml:12``, ``environment PENSTOCK_SERVER__PORT``, ``level high``.
        file: The file, if it was one.
        line: 1-based line in it.
    """

    label: str
    file: str | None = None
    line: int | None = None


MAPPING = Origin("mapping")
"""Of values a program gave in place of a file."""
DEFAULT = Origin("default")


class Node:
    """A value before validation: a mapping or list of nodes, or a scalar."""

    __slots__ = ("origin", "value")

    def __init__(self, value: Any, origin: Origin) -> None:  # noqa: ANN401 - whatever a user wrote
        self.value = value
        self.origin = origin

    def plain(self) -> Any:  # noqa: ANN401 - whatever a user wrote
        """The value without origins; what is missing is None."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return None if isinstance(self.value, Missing) else self.value

    def find(self, path: Path) -> Node | None:
        """The node at `path`, or None."""
        node = self
        for step in path:
            try:
                node = node.value[step]
            except (KeyError, IndexError, TypeError):
                return None
        return node

    def nearest(self, path: Path) -> Node:
        """The node at the longest part of `path` that exists."""
        while (node := self.find(path)) is None:
            path = path[:-1]
        return node

    def put(self, path: Path, value: Node) -> None:
        """Set the node at `path` of mapping keys, making mappings on the way; a scalar in the way is replaced."""
        node = self
        for step in path[:-1]:
            if step not in node.value or not isinstance(node.value[step].value, dict):
                node.value[step] = Node({}, value.origin)
            node = node.value[step]
        node.value[path[-1]] = value

    def over(self, below: Node) -> Node:
        """These values on top of those `below`: mappings are merged, everything else replaces."""
        if not isinstance(self.value, dict) or not isinstance(below.value, dict):
            return self
        merged = dict(below.value)
        for key, node in self.value.items():
            merged[key] = node.over(merged[key]) if key in merged else node
        return Node(merged, self.origin)

    def text(self, key: str) -> str | None:
        """The string at `key`, or None when it is something else."""
        node = self.value.get(key) if isinstance(self.value, dict) else None
        return node.value if node is not None and isinstance(node.value, str) else None

    def entries(self, key: str) -> list[tuple[int, Node]]:
        """The mappings in the list at `key`, with their positions; empty when there is no such list."""
        node = self.value.get(key) if isinstance(self.value, dict) else None
        if node is None or not isinstance(node.value, list):
            return []
        return [(index, entry) for index, entry in enumerate(node.value) if isinstance(entry.value, dict)]


class Missing(NamedTuple):
    """Stands for a value that could not be had, for a reason that was noted.

    Attributes:
        variable: The environment variable that is not set, if that is the reason.
    """

    variable: str = ""


def wrap(value: object, origin: Origin) -> Node:
    """Make nodes of plain values, all with the same origin."""
    if isinstance(value, Mapping):
        return Node({str(key): wrap(item, origin) for key, item in value.items()}, origin)
    if isinstance(value, (list, tuple)):
        return Node([wrap(item, origin) for item in value], origin)
    return Node(value, origin)


def dotted(path: Path) -> str:
    """Write a path as people do: ``models[0].targets``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def leaves(value: object, path: Path = ()) -> Iterator[tuple[Path, object]]:
    """All scalars and empty containers in plain `value`, with their paths."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path, value
