"""Reading LiteLLM's proxy configuration, and saying what could not be carried over."""

from __future__ import annotations

import re
from functools import partial
from typing import Any, NamedTuple

import yaml

from penstock.config.document import parse, read
from penstock.config.litellm_models import Rows
from penstock.config.problems import Problems
from penstock.config.provenance import Node, Path, dotted
from penstock.core.errors import ConfigError

_ENVIRON = re.compile(r"os\.environ/([A-Za-z_][A-Za-z0-9_]*)")
_NUMBER_SETTINGS = {
    ("router_settings", "timeout"): "timeout_s",
    ("litellm_settings", "request_timeout"): "timeout_s",
    ("router_settings", "cooldown_time"): "breaker.recovery_s",
}


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


class Lost(NamedTuple):
    """Something that could not be carried over.

    Attributes:
        key: Where it is in LiteLLM's file.
        line: Its line there, 1-based; None for something that is absent.
        reason: Why, and what to do instead.
    """

    key: str
    line: int | None
    reason: str


class Imported(NamedTuple):
    """A translated configuration.

    Attributes:
        settings: The content of a `penstock.yaml`.
        lost: What is not in it.
    """

    settings: dict[str, Any]
    lost: list[Lost]

    def yaml(self) -> str:
        """The settings as YAML."""
        return yaml.dump(self.settings, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=110)


def import_litellm(path: str) -> Imported:
    """Translate the LiteLLM configuration at `path`.

    Raises:
        ConfigError: It cannot be read, or has no model Penstock could serve.
    """
    problems = Problems(path)
    tree = parse(read(path), path, problems)
    problems.raise_any()
    work = _Translation(_referenced(tree))
    work.run()
    if not work.rows.providers:
        reasons = "".join(f"\n  {lost.key}: {lost.reason}" for lost in work.lost)
        raise ConfigError(f"there is no model in it that Penstock could serve{reasons}", file=path, key="model_list")
    return Imported(work.document(), sorted(work.lost, key=lambda lost: lost.line or 0))


def _referenced(tree: Node) -> Node:
    """Write ``os.environ/NAME`` as ``${NAME}``, and escape what only looks like a reference."""
    if isinstance(tree.value, dict):
        return Node({key: _referenced(node) for key, node in tree.value.items()}, tree.origin)
    if isinstance(tree.value, list):
        return Node([_referenced(node) for node in tree.value], tree.origin)
    if isinstance(tree.value, str):
        match = _ENVIRON.fullmatch(tree.value)
        return Node(f"${{{match[1]}}}" if match else tree.value.replace("${", "$${"), tree.origin)
    return tree


class _Translation:
    def __init__(self, tree: Node) -> None:
        self.lost: list[Lost] = []
        self.rows = Rows(self._lose)
        self._tree = tree
        self._settings: dict[str, Any] = {}

    def run(self) -> None:
        """Translate the whole file."""
        for index, row in self._tree.entries("model_list"):
            self.rows.add(row, ("model_list", index))
        for section, handlers in self._handlers().items():
            node = self._tree.value.get(section)
            for key, value in node.value.items() if node is not None and isinstance(node.value, dict) else ():
                path = (section, key)
                if key in handlers:
                    handlers[key](value, path)
                else:
                    self._lose(path, value, "Penstock has no such setting")
        for section, node in self._tree.value.items():
            if section not in ("model_list", *self._handlers()):
                self._lose((section,), node, "Penstock has no such section; set variables in the environment")
        self.rows.finish()
        if self._tree.find(("litellm_settings", "cache")) is None:
            reason = (
                "LiteLLM caches only when told to, Penstock does anyway; cache.exact.enabled: false switches it off"
            )
            self.lost.append(Lost("litellm_settings.cache", None, reason))

    def document(self) -> dict[str, Any]:
        """The result, in the order people write it."""
        server = self._settings.pop("server", {})
        head = {"server": server} if server else {}
        prices = {"prices": self.rows.prices} if self.rows.prices else {}
        return {**head, "providers": self.rows.providers, "models": self.rows.models, **prices, **self._settings}

    def _handlers(self) -> dict[str, dict[str, Any]]:
        fallbacks = {
            "fallbacks": self.rows.add_fallbacks,
            "default_fallbacks": self.rows.add_default_fallbacks,
            "context_window_fallbacks": partial(self.rows.add_fallbacks, cause="context_window"),
            "content_policy_fallbacks": partial(self.rows.add_fallbacks, cause="content_policy"),
        }
        return {
            "litellm_settings": {
                **fallbacks,
                "num_retries": self._retries,
                "request_timeout": self._number,
                "cache": self._cache,
                "cache_params": self._cache_params,
            },
            "router_settings": {
                **fallbacks,
                "num_retries": self._retries,
                "timeout": self._number,
                "cooldown_time": self._number,
                "allowed_fails": self._allowed_fails,
                "routing_strategy": self._strategy,
                "model_group_alias": self.rows.add_aliases,
            },
            "general_settings": {"master_key": self._master_key, "database_url": self._database},
        }

    def _lose(self, path: Path, node: Node, reason: str) -> None:
        self.lost.append(Lost(dotted(path), node.origin.line, reason))

    def _put(self, key: str, value: object) -> None:
        section, _, name = key.rpartition(".")
        target = self._settings
        for part in section.split(".") if section else ():
            target = target.setdefault(part, {})
        target[name] = value

    def _number(self, node: Node, path: Path) -> None:
        if isinstance(node.value, (int, float)) and node.value > 0:
            self._put(_NUMBER_SETTINGS[str(path[0]), str(path[1])], node.value)
        else:
            self._lose(path, node, "not a number of seconds")

    def _retries(self, node: Node, path: Path) -> None:
        if isinstance(node.value, int) and node.value >= 0:
            self._put("retry.attempts", node.value + 1)
        else:
            self._lose(path, node, "not a number of retries")

    def _allowed_fails(self, node: Node, path: Path) -> None:
        if isinstance(node.value, int) and node.value >= 0:
            self._put("breaker.failures", node.value + 1)
        else:
            self._lose(path, node, "not a number of failures")

    def _strategy(self, node: Node, path: Path) -> None:
        if node.value != "simple-shuffle":
            self._lose(path, node, "targets are chosen by weight instead")

    def _cache(self, node: Node, path: Path) -> None:
        if isinstance(node.value, bool):
            self._put("cache.exact.enabled", node.value)
        else:
            self._lose(path, node, "not true or false")

    def _cache_params(self, node: Node, path: Path) -> None:
        for key, value in node.value.items() if isinstance(node.value, dict) else ():
            if key == "ttl" and isinstance(value.value, (int, float)) and value.value >= 0:
                self._put("cache.exact.ttl_s", value.value)
            elif key != "type":
                self._lose((*path, key), value, "Penstock has no such setting")
            elif value.value != "local":
                self._lose((*path, key), value, "answers are kept in memory and in the store")

    def _master_key(self, node: Node, path: Path) -> None:
        if isinstance(node.value, str) and node.value:
            self._settings["server"] = {"keys": [{"key": node.value}]}
        else:
            self._lose(path, node, "not a key")

    def _database(self, node: Node, path: Path) -> None:
        if isinstance(node.value, str) and node.value.startswith("sqlite:///"):
            self._put("store.url", node.value)
        else:
            self._lose(path, node, "only SQLite is supported in this version; records go to sqlite:///penstock.db")
