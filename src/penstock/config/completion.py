"""What a configuration may leave out about its providers and models, and whether they fit together.

It works on nodes, before validation, so that one run finds the problems of both; wrongly shaped parts are left alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase

from penstock.config.cascades import check_cascades, stage_models
from penstock.config.environment import address_in, key_in
from penstock.config.fallbacks import check_fallbacks
from penstock.config.kinds import CREDENTIALS, KINDS, Kind
from penstock.config.problems import Problems, suggestion
from penstock.config.provenance import Missing, Node, Origin, Path, wrap

_SIMULATED_ONLY = ("latency", "faults")
_NEVER_SIMULATED = ("base_url", "api_key", "headers", "query", "ca_file", "proxy")


def complete(tree: Node, environ: Mapping[str, str], problems: Problems) -> list[str]:
    """Add implied providers, addresses, keys and models to `tree`; drop targets whose provider has no key.

    Returns:
        Warnings.
    """
    _imply_providers(tree)
    work = _Providers(environ, problems)
    for index, entry in tree.entries("providers"):
        work.fill(entry, ("providers", index))
    _check_unique(tree, "providers", problems)
    _check_unique(tree, "models", problems)
    _check_unique(tree, "sinks", problems)
    _check_unique(tree, "reports", problems)
    _check_sinks(tree, problems)
    if _absent(tree, "models"):
        _derive_models(tree, work, problems)
    for index, entry in tree.entries("models"):
        _check_targets(entry, ("models", index), work, problems)
    check_fallbacks(tree, work.kinds, problems)
    check_cascades(tree, work.kinds, problems)
    _check_prices(tree, work.kinds, problems)
    return work.warnings


class _Providers:
    """Fills providers in, and remembers which there are and which cannot be used."""

    def __init__(self, environ: Mapping[str, str], problems: Problems) -> None:
        self.kinds: dict[str, Kind | None] = {}
        self.unusable: dict[str, str] = {}
        self.warnings: list[str] = []
        self._environ = environ
        self._problems = problems

    def fill(self, entry: Node, path: Path) -> None:
        name, kind = entry.text("name"), entry.text("kind")
        row = KINDS.get(kind) if kind is not None else None
        if name is not None:
            self.kinds.setdefault(name, row)
        if row is None:
            if kind is not None:
                message = f"unknown kind {kind!r}{suggestion(kind, KINDS)}"
                self._problems.add(message, entry.value["kind"].origin, (*path, "kind"))
            return
        for key in _SIMULATED_ONLY if row.dialect != "simulated" else _NEVER_SIMULATED:
            if key in entry.value and entry.value[key].plain() not in (None, [], {}):
                self._problems.add(f"does not apply to kind {row.name}", entry.value[key].origin, (*path, key))
        if row.dialect != "simulated":
            self._fill_key(entry, row, name or row.name)
            if _absent(entry, "base_url"):
                self._fill_address(entry, row, path)

    def _fill_address(self, entry: Node, row: Kind, path: Path) -> None:
        value, origin = row.base_url, Origin(f"kind {row.name}")
        variable = Origin(f"environment {row.url_env}")
        try:
            if chosen := address_in(self._environ, row):
                value, origin = chosen, variable
        except ValueError:
            self._problems.add("not an address", variable, (*path, "base_url"), "host:port or a URL")
        if value is None:
            self._problems.add(f"base_url is missing: kind {row.name} has no address of its own", entry.origin, path)
        entry.value["base_url"] = Node(value, origin)

    def _fill_key(self, entry: Node, row: Kind, name: str) -> None:
        node = entry.value.get("api_key")
        if node is not None and isinstance(node.value, Missing):
            self._lacks_key(name, node.value.variable, node.origin)
        elif node is not None and node.value not in (None, ""):
            return
        elif row.key_env is not None and not self._brings_credentials(entry):
            if value := key_in(self._environ, row):
                entry.value["api_key"] = Node(value, Origin(f"environment {row.key_env}"))
                self._mention_foreign_address(entry, row, name)
                return
            self._lacks_key(name, row.key_env, entry.origin)
        entry.value["api_key"] = Node(None, node.origin if node is not None else entry.origin)

    def _mention_foreign_address(self, entry: Node, row: Kind, name: str) -> None:
        """A vendor's key that goes elsewhere without anybody having said so is worth a word."""
        address = (entry.text("base_url") or "").rstrip("/")
        if address and row.base_url is not None and address != row.base_url:
            self.warnings.append(
                f"provider {name} sends {row.key_env} to an address that is not the vendor's ({entry.origin.label}); "
                f"if that is meant, set api_key: ${{{row.key_env}}}, and if it needs no key, kind: openai-compatible"
            )

    def _lacks_key(self, name: str, variable: str, origin: Origin) -> None:
        self.unusable[name] = f"{variable} is not set"
        self.warnings.append(
            f"provider {name} has no key: {variable} is not set ({origin.label}); its targets are skipped"
        )

    def _brings_credentials(self, entry: Node) -> bool:
        headers = entry.value.get("headers")
        names = headers.value if headers is not None and isinstance(headers.value, dict) else ()
        return any(name.lower() in CREDENTIALS for name in names)


def _absent(tree: Node, key: str) -> bool:
    node = tree.value.get(key)
    return node is None or node.value is None or node.value == []


def _imply_providers(tree: Node) -> None:
    """A target may name a kind instead of a provider, if no provider is of that kind."""
    if _absent(tree, "providers"):
        tree.value["providers"] = Node([], tree.origin)
    providers = tree.value["providers"].value
    if not isinstance(providers, list):
        return
    taken = {entry.text(key) for _, entry in tree.entries("providers") for key in ("name", "kind")}
    for _, model in tree.entries("models"):
        for _, target in model.entries("targets"):
            name = target.text("provider")
            if name in KINDS and name not in taken:
                taken.add(name)
                providers.append(wrap({"name": name, "kind": name}, target.value["provider"].origin))
        for stage, node, _ in stage_models(model):
            name = stage.partition("/")[0]
            if "/" in stage and name in KINDS and name not in taken:
                taken.add(name)
                providers.append(wrap({"name": name, "kind": name}, node.origin))


def _check_unique(tree: Node, key: str, problems: Problems) -> None:
    seen: dict[str, Origin] = {}
    for index, entry in tree.entries(key):
        name = entry.text("name")
        if name is None:
            continue
        if name in seen:
            message = f"there is another {key.removesuffix('s')} named {name!r} ({seen[name].label})"
            problems.add(message, entry.value["name"].origin, (key, index, "name"))
        seen.setdefault(name, entry.value["name"].origin)


def _check_prices(tree: Node, providers: Collection[str], problems: Problems) -> None:
    for index, entry in tree.entries("prices"):
        name = entry.text("provider")
        if name is not None and not any(fnmatchcase(each, name) for each in providers):
            message = f"there is no provider named {name!r}{suggestion(name, providers)}"
            problems.add(message, entry.value["provider"].origin, ("prices", index, "provider"))


def _check_sinks(tree: Node, problems: Problems) -> None:
    """Whoever is to be told must be there."""
    known = {name for _, entry in tree.entries("sinks") if (name := entry.text("name")) is not None}
    alerts = tree.value.get("alerts") if isinstance(tree.value, dict) else None
    places: list[tuple[Node, Path]] = [(report, ("reports", index)) for index, report in tree.entries("reports")]
    if alerts is not None:
        places.append((alerts, ("alerts",)))
        places += [(rule, ("alerts", "rules", index)) for index, rule in alerts.entries("rules")]
    for node, path in places:
        listed = node.value.get("sinks") if isinstance(node.value, dict) else None
        for index, sink in enumerate(listed.value if listed is not None and isinstance(listed.value, list) else ()):
            if isinstance(sink.value, str) and sink.value not in known:
                message = f"there is no sink named {sink.value!r}{suggestion(sink.value, known)}"
                problems.add(message, sink.origin, (*path, "sinks", index))


def _check_targets(model: Node, path: Path, work: _Providers, problems: Problems) -> None:
    targets = model.entries("targets")
    for index, target in targets:
        name = target.text("provider")
        if name is not None and name not in work.kinds:
            message = f"there is no provider named {name!r}{suggestion(name, work.kinds)}"
            where = (*path, "targets", index, "provider")
            problems.add(message, target.value["provider"].origin, where)
    skipped = [target for _, target in targets if target.text("provider") in work.unusable]
    if skipped and len(skipped) == len(targets):
        names = dict.fromkeys(target.text("provider") or "" for target in skipped)
        reasons = ", ".join(f"{name}: {work.unusable[name]}" for name in names)
        problems.add(f"model {model.text('name')!r} has no usable target ({reasons})", model.origin, path)
    elif skipped:
        kept = [target for target in model.value["targets"].value if target not in skipped]
        model.value["targets"] = Node(kept, model.value["targets"].origin)


def _derive_models(tree: Node, work: _Providers, problems: Problems) -> None:
    """Without models, each provider answers the names its kind is known for, and the first one all others."""
    usable = {name: row for name, row in work.kinds.items() if row is not None and name not in work.unusable}
    models: dict[str, Node] = {}
    for name, row in usable.items():
        target = {"provider": name, "model": "sim" if row.dialect == "simulated" else "*"}
        origin = Origin(f"provider {name}")
        for pattern in row.models:
            models.setdefault(pattern, wrap({"name": pattern, "targets": [target]}, origin))
        models.setdefault("*", wrap({"name": "*", "targets": [target]}, origin))
    if not models and work.kinds:
        reasons = ", ".join(f"{name}: {reason}" for name, reason in work.unusable.items())
        if reasons:
            problems.add(f"no provider is usable ({reasons})", tree.value["providers"].origin, ("providers",))
    tree.value["models"] = Node(list(models.values()), tree.origin)
