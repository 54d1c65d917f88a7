"""LiteLLM's ``model_list`` and fallbacks as Penstock's providers and models."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, TypeGuard

from penstock.config.fallbacks import CAUSES
from penstock.config.kinds import KINDS, ROWS, Kind
from penstock.config.litellm_prices import KINDS as PRICES
from penstock.config.litellm_prices import read_prices
from penstock.config.provenance import Node, Path

Lose = Callable[[Path, Node, str], None]

PREFIXES = {
    **{row.name: row.name for row in ROWS if row.name not in ("simulated", "vllm", "llamacpp", "lmstudio")},
    "ollama_chat": "ollama",
    "hosted_vllm": "vllm",
    "vllm": "vllm",
    "lm_studio": "lmstudio",
    "llamafile": "llamacpp",
    "openai_like": "openai-compatible",
    "custom_openai": "openai-compatible",
    "text-completion-openai": "openai",
    "together_ai": "together",
    "fireworks_ai": "fireworks",
}
"""What comes before the slash in LiteLLM's model names, and the kind that is."""

_LIMITS = frozenset({"rpm", "tpm", "max_parallel_requests"})
_CARRIED = frozenset({
    "model", "api_base", "base_url", "api_key", "custom_llm_provider", "weight", "order", "timeout", "extra_headers",
    "organization", "api_version", *PRICES,
})  # fmt: skip


class _Target(NamedTuple):
    provider: str
    settings: dict[str, Any]
    order: int


_Named = tuple[str, Node, Path]
"""A model's name, and where it is."""


class Rows:
    """Collects rows into `providers`, `prices` and, once `finish` was called, `models`."""

    def __init__(self, lose: Lose) -> None:
        """`lose` is told what cannot be carried over."""
        self.providers: list[dict[str, Any]] = []
        self.models: list[dict[str, Any]] = []
        self.prices: list[dict[str, Any]] = []
        self._lose = lose
        self._targets: dict[str, list[_Target]] = {}
        self._fallbacks: dict[str, dict[str, list[_Named]]] = {cause: {} for cause in CAUSES}
        self._defaults: list[_Named] = []
        self._aliases: dict[str, str] = {}

    def add(self, row: Node, path: Path) -> None:
        """Add one row of ``model_list``."""
        name, params = row.text("model_name"), row.value.get("litellm_params")
        model = params.text("model") if params is not None else None
        if not name or not model:
            self._lose(path, row, "model_name or litellm_params.model is missing")
            return
        kind, rest = _kind(model, params.text("custom_llm_provider"))
        if kind is None:
            self._lose(path, row, f"Penstock does not know the provider of {model!r}")
            return
        if rest.endswith("*") and rest != "*":
            self._lose(path, row, f"a target's model is a name or *, not the pattern {rest!r}")
            return
        provider = self._provider(params, kind, path)
        if provider is None:
            return
        if name.endswith("/*"):
            if name != f"{provider}/*":  # that one Penstock resolves by itself
                self._lose((*path, "model_name"), row, f"ask for {provider}/MODEL instead of {name[:-1]}MODEL")
            return
        self._targets.setdefault(name, []).append(self._target(params, provider, rest, path))
        self._add_price(row, provider, rest, path)
        for key, node in row.value.items():
            if key not in ("model_name", "litellm_params", "model_info"):
                self._lose((*path, key), node, "Penstock has no such setting")
            elif key == "model_info" and not (isinstance(node.value, dict) and node.value.keys() <= PRICES.keys()):
                self._lose((*path, key), node, "only prices a token are carried over")

    def _add_price(self, row: Node, provider: str, model: str, path: Path) -> None:
        amounts: dict[str, float] = {}
        for section in ("litellm_params", "model_info"):
            for name, node, amount in read_prices(row.value.get(section)):
                if amount is None:
                    self._lose((*path, section, name), node, "not an amount")
                else:
                    amounts.setdefault(PRICES[name], amount)
        price = {"provider": provider, "model": model, "usd_per_million": amounts}
        if amounts and price not in self.prices:
            self.prices.append(price)

    def add_fallbacks(self, node: Node, path: Path, *, cause: str = "errors") -> None:
        """Add ``fallbacks: [{model: [other, ...]}]``, or those for another cause than errors."""
        if not isinstance(node.value, list) or not all(isinstance(entry.value, dict) for entry in node.value):
            self._lose(path, node, "not a list of mappings")
            return
        for index, entry in enumerate(node.value):
            for name, others in entry.value.items():
                self._fallbacks[cause].setdefault(name, []).extend(_names(others, (*path, index, name)))

    def add_default_fallbacks(self, node: Node, path: Path) -> None:
        """Add ``default_fallbacks: [other, ...]``, for models that have none of their own."""
        self._defaults += _names(node, path)

    def add_aliases(self, node: Node, path: Path) -> None:
        """Add ``model_group_alias: {alias: model}``."""
        if not isinstance(node.value, dict):
            self._lose(path, node, "not a mapping")
            return
        for alias, other in node.value.items():
            name = other.text("model") if isinstance(other.value, dict) else other.value
            if name in self._targets:
                self._aliases[alias] = name
            else:
                self._lose((*path, alias), other, f"there is no model {name!r}")

    def finish(self) -> None:
        """Make the models of what was added."""
        leads: dict[str, dict[str, list[str]]] = {
            cause: {name: self._others(cause, name) for name in self._targets} for cause in CAUSES
        }
        for name, own in self._targets.items():
            targets = list(own)
            for other in _close_circles(name, leads["errors"]):
                above = max(target.order for target in targets) + 1
                lowest = min(target.order for target in self._targets[other])
                targets += [each._replace(order=each.order - lowest + above) for each in self._targets[other]]
            model = _model(name, targets, spread=len(own) > 1)
            for cause in CAUSES[:2]:
                for other in _close_circles(name, leads[cause]):
                    node, path = next(named[1:] for named in self._fallbacks[cause][name] if named[0] == other)
                    self._lose(path, node, f"a circle: {other!r} falls back to {name!r} for the same cause")
            if fallbacks := {cause: leads[cause][name] for cause in CAUSES if leads[cause][name]}:
                model["fallbacks"] = fallbacks
            self.models.append(model)
        known = {model["name"]: model for model in self.models}
        self.models += [{**known[name], "name": alias} for alias, name in self._aliases.items() if alias not in known]
        for given in self._fallbacks.values():
            for name in given.keys() - self._targets.keys():
                for _, node, path in given[name][:1]:
                    self._lose(path, node, f"there is no model {name!r} to fall back from")

    def _others(self, cause: str, name: str) -> list[str]:
        """The models `name` falls back to, as far as there are such models."""
        found: list[str] = []
        for other, node, path in self._fallbacks[cause].get(name, self._defaults if cause == "errors" else []):
            if other not in self._targets or ("*" in other and other != name):
                self._lose(path, node, f"there is no model {other!r} to fall back to")
            elif other != name and other not in found:
                found.append(other)
        return found

    def _provider(self, params: Node, kind: Kind, path: Path) -> str | None:
        """Find or make the provider of a row; None when it has no address."""
        base = _address(params, kind)
        settings: dict[str, Any] = {"kind": kind.name}
        if base is None and kind.base_url is None:
            self._lose(path, params, f"api_base is missing, and kind {kind.name} has no address of its own")
            return None
        key, variable = params.text("api_key"), "AZURE_API_KEY" if kind.name == "azure" else kind.key_env
        if base and base != kind.base_url:
            settings["base_url"] = base
            if kind.name == "openai" and not key:
                settings["kind"], variable = "openai-compatible", None
        if key or variable:
            settings["api_key"] = key or f"${{{variable}}}"
        if fields := _headers(params):
            settings["headers"] = fields
        for known in self.providers:
            if {key: value for key, value in known.items() if key != "name"} == settings:
                return str(known["name"])
        name = self._free_name(settings["kind"])
        self.providers.append({"name": name, **settings})
        return name

    def _free_name(self, kind: str) -> str:
        taken = {provider["name"] for provider in self.providers}
        number = 1
        name = kind
        while name in taken:
            number += 1
            name = f"{kind}-{number}"
        return name

    def _target(self, params: Node, provider: str, model: str, path: Path) -> _Target:
        settings: dict[str, Any] = {"provider": provider, "model": model}
        weight = next((node for key in ("weight", "rpm", "tpm") if (node := params.value.get(key)) is not None), None)
        if _is_number(weight):
            settings["weight"] = weight.value
        timeout = params.value.get("timeout")
        if _is_number(timeout):
            settings["timeout_s"] = timeout.value
        for key, node in params.value.items():
            where = (*path, "litellm_params", key)
            if key in _LIMITS:
                used = " here; used as the target's weight" if node is weight else ""
                self._lose(where, node, f"rates are not limited{used}")
            elif key == "api_version":
                self._lose(where, node, "Azure's v1 API takes no version; otherwise set it in the provider's query")
            elif key not in _CARRIED or (key in ("weight", "timeout") and not _is_number(node)):
                self._lose(where, node, "Penstock has no such setting")
        order = params.value.get("order")
        return _Target(provider, settings, order.value if order is not None and isinstance(order.value, int) else 0)


def _kind(model: str, provider: str | None) -> tuple[Kind | None, str]:
    """The kind of provider LiteLLM would ask for `model`, and the provider's own name of the model."""
    prefix, slash, rest = model.partition("/")
    if provider:
        name = PREFIXES.get(provider)
        return (KINDS[name] if name else None), rest if slash and prefix == provider else model
    if slash:
        name = PREFIXES.get(prefix)
        return (KINDS[name] if name else None), rest
    for row in ROWS:
        if (model == "*" and row.name == "openai") or any(fnmatchcase(model, pattern) for pattern in row.models):
            return row, model
    return None, model


def _address(params: Node, kind: Kind) -> str | None:
    """The base URL of a row, as Penstock wants it; Azure's is that of its v1 API, which speaks OpenAI's dialect."""
    base = (params.text("api_base") or params.text("base_url") or "").rstrip("/")
    if kind.name == "azure":
        base = base or "${AZURE_API_BASE}"
        return base if "/openai" in base else f"{base}/openai/v1"
    if kind.dialect == "anthropic":
        base = base.removesuffix("/messages").removesuffix("/v1")
    return base or None


def _headers(params: Node) -> dict[str, str]:
    headers = params.value.get("extra_headers")
    plain = headers.plain() if headers is not None else None
    fields = {name: str(value) for name, value in plain.items()} if isinstance(plain, dict) else {}
    if organization := params.text("organization"):
        fields["OpenAI-Organization"] = organization
    return fields


def _model(name: str, targets: list[_Target], *, spread: bool) -> dict[str, Any]:
    rows = [{**target.settings, **({"order": target.order} if target.order else {})} for target in targets]
    model: dict[str, Any] = {"name": name, "targets": rows}
    if spread:
        model["strategy"] = "weighted"
    else:
        rows[0].pop("weight", None)
    return model


def _close_circles(name: str, leads: dict[str, list[str]]) -> list[str]:
    """Take from the models `name` leads to, and return, those that lead back to it."""
    closing = []
    for other in leads[name]:
        reached, pending = {other}, [other]
        while pending:
            new = [each for each in leads.get(pending.pop(), ()) if each not in reached]
            reached.update(new)
            pending += new
        if name in reached:
            closing.append(other)
    leads[name] = [other for other in leads[name] if other not in closing]
    return closing


def _names(node: Node, path: Path) -> list[_Named]:
    items = node.value if isinstance(node.value, list) else [node]
    return [(item.value, item, (*path, index)) for index, item in enumerate(items) if isinstance(item.value, str)]


def _is_number(node: Node | None) -> TypeGuard[Node]:
    return node is not None and type(node.value) in (int, float) and node.value > 0
