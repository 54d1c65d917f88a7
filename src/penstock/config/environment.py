"""Settings from environment variables: `PENSTOCK_SECTION__KEY`, and names other software uses for the same thing."""

from __future__ import annotations

from collections.abc import Mapping, Set

from pydantic import ValidationError

from penstock.config import ollama
from penstock.config.document import compose
from penstock.config.fields import PREFIX, variables
from penstock.config.kinds import CREDENTIALS, KINDS, ROWS, Kind
from penstock.config.problems import Problems, closest
from penstock.config.provenance import Missing, Node, Origin, wrap
from penstock.config.providers import ProviderSettings
from penstock.config.settings import Settings
from penstock.core.errors import ConfigError

FILE = "PENSTOCK_CONFIG"
LEVEL = "AI_OPTIMIZATION_LEVEL"
DATABASE = "DATABASE_URL"
ADMIN_KEY = "PENSTOCK_ADMIN_KEY"
SECRET = "PENSTOCK_SECRET"
FAILPOINT = "PENSTOCK_FAILPOINT"
"""Read by `penstock.stores.failpoints`, for tests."""

_OTHERS = {FILE, ADMIN_KEY, SECRET, FAILPOINT, *(row.url_env for row in ROWS if row.url_env)}


def settings_from(environ: Mapping[str, str], problems: Problems) -> Node:
    """The settings that `environ` has. Empty variables count as unset; Penstock's own names win over others'."""
    tree = Node({}, Origin("environment"))
    if level := environ.get(LEVEL):
        tree.put(("level",), Node(level.strip().lower(), Origin(f"environment {LEVEL}")))
    database = environ.get(DATABASE, "")
    if database.startswith("sqlite:///"):
        tree.put(("store", "url"), Node(database, Origin(f"environment {DATABASE}")))
    for name, path in {ADMIN_KEY: ("server", "admin_key"), SECRET: ("store", "secret")}.items():
        if text := environ.get(name):
            tree.put(path, Node(text, Origin(f"environment {name}")))
    for name, variable in variables().items():  # sections come before their fields, so fields win
        if text := environ.get(name):
            origin = Origin(f"environment {name}")
            tree.put(variable.path, _structured(text, origin, problems) if variable.structured else Node(text, origin))
    return tree


def cautions(environ: Mapping[str, str], referred: Set[str], *, store_chosen: bool) -> list[str]:
    """What in `environ` was probably meant to have an effect, but has none.

    Args:
        environ: The environment.
        referred: Variables the file refers to, which may have any name.
        store_chosen: The store is set elsewhere, so that `DATABASE_URL` does not matter.
    """
    known = set(variables()) | _OTHERS
    found = []
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known and name not in referred:
            match = closest(name, known)
            hint = f", did you mean {match}?" if match else ""
            found.append(f"the environment variable {name} sets nothing{hint}")
    database = environ.get(DATABASE, "")
    if database and not database.startswith("sqlite:///") and not store_chosen and DATABASE not in referred:
        found.append(f"{DATABASE} is not used: only sqlite:///FILE and memory: are supported in this version")
    return found


def address_in(environ: Mapping[str, str], row: Kind) -> str | None:
    """The address that `environ` has for providers of a kind, if any.

    Raises:
        ValueError: It is none.
    """
    value = environ.get(row.url_env) if row.url_env else None
    if not value:
        return None
    return ollama.base_url(value) if row.dialect == "ollama" else value


def key_in(environ: Mapping[str, str], row: Kind) -> str | None:
    """The key that `environ` has for providers of a kind, if any."""
    return (environ.get(row.key_env, "").strip() if row.key_env else "") or None


def supplied(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """Settings that a program made, with the addresses and keys that they leave to `environ`, as a file does.

    Raises:
        ConfigError: What a variable has cannot be used.
    """
    return settings.model_copy(update={"providers": [_supply(each, environ) for each in settings.providers]})


def _supply(provider: ProviderSettings, environ: Mapping[str, str]) -> ProviderSettings:
    row = KINDS.get(provider.kind)
    if row is None:
        return provider
    given = dict(provider)
    try:
        if provider.base_url is None:
            given["base_url"] = address_in(environ, row)
        if provider.api_key is None and CREDENTIALS.isdisjoint(name.lower() for name in provider.headers):
            given["api_key"] = key_in(environ, row)
        return ProviderSettings.model_validate(given)
    except ValueError as error:
        at_fault = error.errors()[0]["loc"][0] if isinstance(error, ValidationError) else "base_url"
        variable = row.key_env if at_fault == "api_key" else row.url_env
        raise ConfigError(
            f"the environment variable {variable}, which provider {provider.name} uses, cannot be used",
            key=str(at_fault),
            expected="a key without spaces" if at_fault == "api_key" else "host:port or a URL",
        ) from None


def _structured(text: str, origin: Origin, problems: Problems) -> Node:
    local = Problems()
    try:
        tree = compose(text, origin.label.removeprefix("environment "), local)
        local.raise_any()
    except ConfigError as error:
        problems.add(f"not usable as YAML or JSON: {error.message}", origin)
        return Node(Missing(), origin)
    return wrap(tree.plain(), origin)
