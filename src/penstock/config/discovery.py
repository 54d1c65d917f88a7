"""Finding providers when nobody configured any."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.config import ollama
from penstock.config.kinds import ROWS, Kind
from penstock.config.provenance import Node, Origin, wrap

SIMULATED = (
    "no provider was found, so every answer is simulated; set OPENAI_API_KEY or another provider's key, start Ollama, "
    "or write penstock.yaml (`penstock config show --kinds` lists the providers)"
)


def find_providers(environ: Mapping[str, str], *, probe: bool) -> tuple[list[Node], list[str]]:
    """Look for providers in the environment, and if `probe` for Ollama on this machine.

    Returns:
        The providers, in the order of `ROWS`, and warnings. With nothing found it is the simulated one.
    """
    found = []
    for row in ROWS:
        evidence = _evidence(row, environ, probe=probe)
        if evidence:
            found.append(wrap({"name": row.name, "kind": row.name}, Origin(f"found: {evidence}")))
    if found:
        return found, []
    return [wrap({"name": "sim", "kind": "simulated"}, Origin("found: nothing else"))], [SIMULATED]


def _evidence(row: Kind, environ: Mapping[str, str], *, probe: bool) -> str | None:
    if row.base_url is None:
        return None
    variable = row.key_env or row.url_env
    if variable and environ.get(variable, "").strip():
        return variable
    if row.dialect == "ollama" and probe and ollama.answers():
        return "Ollama answers on this machine"
    return None
