"""Loading settings: argument, then environment, then file, then level preset, then default."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from penstock.config.completion import complete
from penstock.config.discovery import find_providers
from penstock.config.document import parse, read
from penstock.config.environment import FILE, cautions, settings_from
from penstock.config.interpolation import interpolate
from penstock.config.presets import preset
from penstock.config.problems import Problems
from penstock.config.provenance import DEFAULT, MAPPING, Node, Origin, dotted, leaves, wrap
from penstock.config.settings import Settings
from penstock.config.validation import validate

DEFAULT_PATH = "penstock.yaml"
NO_ARGUMENTS: Mapping[str, object] = MappingProxyType({})
_ARGUMENT = Origin("argument")


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and where they come from.

    Attributes:
        settings: The settings, complete: providers have their address and key, models only targets that can be used.
        sources: Where each value comes from, by dotted key, e.g. ``server.port``, ``models[0].targets[0].provider``.
        warnings: What the user should know, one sentence each.
        path: The file, or None without one.
    """

    settings: Settings
    sources: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    path: str | None = None


def find_file(path: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None) -> str | None:
    """The file `load` would read: `path`, else ``PENSTOCK_CONFIG``, else `penstock.yaml` in the working directory."""
    environ = os.environ if environ is None else environ
    if path is not None:
        return os.fspath(path)
    return environ.get(FILE) or (DEFAULT_PATH if os.path.exists(DEFAULT_PATH) else None)


def load(
    path: str | os.PathLike[str] | None = None,
    *,
    arguments: Mapping[str, object] = NO_ARGUMENTS,
    environ: Mapping[str, str] | None = None,
    probe: bool = True,
) -> Loaded:
    """Load the configuration file, or find out what the environment offers when there is none.

    Args:
        path: The file; by default see `find_file`.
        arguments: Settings that win over all others, by dotted key; None values are passed over.
        environ: Environment variables; the process's by default.
        probe: Whether to look for Ollama on this machine when no provider is configured.

    Raises:
        ConfigError: The configuration cannot be used; all its problems are named.
    """
    environ = os.environ if environ is None else environ
    file = find_file(path, environ)
    problems = Problems(file)
    tree = parse(read(file), file, problems) if file else Node({}, DEFAULT)
    return _finish(tree, arguments, environ, problems, probe=probe)


def load_mapping(
    values: Mapping[str, object],
    *,
    arguments: Mapping[str, object] = NO_ARGUMENTS,
    environ: Mapping[str, str] | None = None,
    probe: bool = True,
) -> Loaded:
    """Load settings from a mapping with the file's keys, as strictly as a file; otherwise as `load`.

    Raises:
        ConfigError: The configuration cannot be used; all its problems are named.
    """
    environ = os.environ if environ is None else environ
    return _finish(wrap(values, MAPPING), arguments, environ, Problems(), probe=probe)


def discover(environ: Mapping[str, str] | None = None, *, probe: bool = True) -> Loaded:
    """Settings from what the environment offers, without a file; the simulated provider when it offers nothing.

    Raises:
        ConfigError: An environment variable cannot be used.
    """
    return load_mapping({}, environ=environ, probe=probe)


def _finish(
    tree: Node, arguments: Mapping[str, object], environ: Mapping[str, str], problems: Problems, *, probe: bool
) -> Loaded:
    referred = interpolate(tree, environ, problems)
    given = Node({}, _ARGUMENT)
    for key, value in arguments.items():
        if value is not None:
            given.put(tuple(key.split(".")), wrap(value, _ARGUMENT))
    tree = given.over(settings_from(environ, problems).over(tree))
    tree = tree.over(preset(tree.text("level")))
    chosen = tree.find(("store", "url"))
    warnings = cautions(environ, referred, store_chosen=chosen is not None)
    if not tree.plain().get("providers") and not tree.plain().get("models"):
        found, more = find_providers(environ, probe=probe)
        tree.value["providers"] = Node(found, DEFAULT)
        warnings += more
    warnings += complete(tree, environ, problems)
    settings = validate(tree, problems)
    problems.raise_any()
    if settings is None:
        raise RuntimeError("the settings are not valid, but no problem was reported")
    sources = {}
    for path, _ in leaves(settings.document()):
        node = tree.find(path)
        sources[dotted(path)] = node.origin.label if node is not None else DEFAULT.label
    return Loaded(settings, sources, warnings, problems.file)
