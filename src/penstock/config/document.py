"""Reading YAML strictly: line numbers kept, nothing constructed but plain values, nothing said twice.

Scalars are read by the core schema of YAML 1.2.2 (section 10.3), so that ``no`` and ``2024-01-01`` are strings.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from penstock.config.problems import Problems
from penstock.config.provenance import Missing, Node, Origin, Path
from penstock.core.errors import ConfigError

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 40
MAX_NODES = 50_000
"""Aliases count each time they are used, so a few lines cannot stand for billions of values."""

_TAG = "tag:yaml.org,2002:"
_CORE = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
)
_PATTERNS = {name: re.compile(pattern) for name, pattern, _ in _CORE}


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own attribute, filled below

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, "nested too deeply", self.get_mark())
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


for _name, _pattern, _first in _CORE:
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), list(_first))


def read(path: str) -> str:
    """Read a configuration file.

    Raises:
        ConfigError: It is missing, unreadable, too large or not UTF-8.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError("there is no such file", file=path) from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror or error}", file=path) from None
    if len(data) > MAX_BYTES:
        raise ConfigError("the file is too large", file=path, expected=f"at most {MAX_BYTES} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError("the file is not UTF-8", file=path, line=line, expected="UTF-8 text") from None


def parse(text: str, file: str, problems: Problems) -> Node:
    """Parse a file of settings, as `compose`; an empty document is an empty mapping.

    Raises:
        ConfigError: It is not YAML at all.
    """
    node = compose(text, file, problems)
    if not isinstance(node.value, dict):
        if node.value is not None:
            problems.add("the file is not a mapping of settings", node.origin, expected="`key: value` lines")
        node.value = {}
    return node


def compose(text: str, file: str, problems: Problems) -> Node:
    """Parse YAML into nodes.

    Args:
        text: The document.
        file: What to call it in messages.
        problems: Collects duplicate keys, forbidden tags and the like.

    Raises:
        ConfigError: It is not YAML at all.
    """
    try:
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError(f"not valid YAML: {what}", file=file, line=mark.line + 1 if mark else None) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError("not valid YAML: a control character", file=file, line=line) from None
    if root is None:
        return Node(None, Origin(f"{file}:1", file, 1))
    return _Builder(file, problems).build(root, (), 0)


class _Builder:
    def __init__(self, file: str, problems: Problems) -> None:
        self._file = file
        self._problems = problems
        self._nodes = 0

    def build(self, node: yaml.Node, path: Path, depth: int) -> Node:
        self._nodes += 1
        origin = self._origin(node)
        if self._nodes > MAX_NODES or depth > MAX_DEPTH:
            raise ConfigError("too many values, or an alias inside its own anchor", file=self._file, line=origin.line)
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return Node(self._mapping(node, path, depth), origin)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            items = [self.build(item, (*path, index), depth + 1) for index, item in enumerate(node.value)]
            return Node(items, origin)
        if isinstance(node, yaml.ScalarNode):
            return Node(self._scalar(node, path, origin), origin)
        return Node(self._forbidden(node, path, origin), origin)

    def _mapping(self, node: yaml.MappingNode, path: Path, depth: int) -> dict[str, Node]:
        own: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        for key, item in node.value:
            origin = self._origin(key)
            if not isinstance(key, yaml.ScalarNode):
                self._problems.add("a key cannot be a list or mapping", origin, path)
            elif key.tag == _TAG + "merge":
                for name, value in self._merge(item, path, depth).items():
                    merged.setdefault(name, value)
            elif key.value in own:
                first = own[key.value].origin.line
                self._problems.add(f"the key {key.value!r} is there twice, first in line {first}", origin, path)
            else:
                own[key.value] = Node(self.build(item, (*path, key.value), depth + 1).value, origin)
        return {**merged, **own}

    def _merge(self, node: yaml.Node, path: Path, depth: int) -> dict[str, Node]:
        value = self.build(node, path, depth + 1)
        found: dict[str, Node] = {}
        for part in value.value if isinstance(value.value, list) else [value]:
            if isinstance(part.value, dict):
                found = {**part.value, **found}
            else:
                self._problems.add("`<<` takes a mapping or a list of mappings", value.origin, path)
        return found

    def _scalar(self, node: yaml.ScalarNode, path: Path, origin: Origin) -> object:
        kind = node.tag.removeprefix(_TAG)
        text: str = node.value
        if kind == "str":
            return text
        pattern = _PATTERNS.get(kind)
        if pattern is None or kind == "merge":
            return self._forbidden(node, path, origin)
        if not pattern.fullmatch(text):
            self._problems.add(f"this is not of type {kind}", origin, path)
            return Missing()
        if kind == "bool":
            return text.lower() == "true"
        if kind == "float":
            return float(text.replace(".inf", "inf").replace(".nan", "nan"))
        return self._int(text, path, origin) if kind == "int" else None

    def _int(self, text: str, path: Path, origin: Origin) -> int | Missing:
        try:
            return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        except ValueError:
            self._problems.add("the number has too many digits", origin, path)
            return Missing()

    def _forbidden(self, node: yaml.Node, path: Path, origin: Origin) -> Missing:
        tag = node.tag.replace(_TAG, "!!")
        self._problems.add(f"the tag {tag} is not allowed here", origin, path, expected="plain values")
        return Missing()

    def _origin(self, node: yaml.Node) -> Origin:
        line = node.start_mark.line + 1
        return Origin(f"{self._file}:{line}", self._file, line)
