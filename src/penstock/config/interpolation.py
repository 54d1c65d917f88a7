"""Environment variables inside values: ``${NAME}``, ``${NAME:-default}`` and LiteLLM's ``os.environ/NAME``.

They are put in after parsing, so a variable's text cannot change the structure of the document. ``$${`` is a literal
``${``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from penstock.config.problems import Problems
from penstock.config.provenance import Missing, Node, Path

_REFERENCE = re.compile(
    r"(?P<escape>\$\$\{)|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|(?P<bad>\$\{)"
)
_LITELLM = re.compile(r"os\.environ/([A-Za-z_][A-Za-z0-9_]*)")


def interpolate(tree: Node, environ: Mapping[str, str], problems: Problems) -> set[str]:
    """Put variables into all strings of `tree`, in place. An empty variable counts as unset.

    A provider's ``api_key`` that refers to an unset variable becomes `Missing`; anywhere else that is a problem.

    Returns:
        The names of all variables that were referred to.
    """
    work = _Interpolation(environ, problems)
    work.visit(tree, ())
    return work.names


class _Interpolation:
    def __init__(self, environ: Mapping[str, str], problems: Problems) -> None:
        self.names: set[str] = set()
        self._environ = environ
        self._problems = problems

    def visit(self, node: Node, path: Path) -> None:
        if isinstance(node.value, dict):
            for key, item in node.value.items():
                self.visit(item, (*path, key))
        elif isinstance(node.value, list):
            for index, item in enumerate(node.value):
                self.visit(item, (*path, index))
        elif isinstance(node.value, str):
            node.value = self._replaced(node, path)

    def _replaced(self, node: Node, path: Path) -> object:
        missing: list[str] = []

        def value(name: str, default: str | None) -> str:
            self.names.add(name)
            found = self._environ.get(name) or default
            if found is None:
                missing.append(name)
            return found or ""

        def replace(match: re.Match[str]) -> str:
            if match["escape"]:
                return "${"
            if match["bad"]:
                self._problems.add("`${` begins no variable", node.origin, path, "${NAME}, ${NAME:-default} or $${")
                return ""
            return value(match["name"], match["default"])

        litellm = _LITELLM.fullmatch(node.value)
        text = value(litellm[1], None) if litellm else _REFERENCE.sub(replace, node.value)
        if not missing:
            return text
        if len(path) == 3 and path[0] == "providers" and path[2] == "api_key":
            return Missing(missing[0])
        for name in missing:
            message = f"the environment variable {name} is not set"
            self._problems.add(message, node.origin, path, f"a value for {name}, or a default: ${{{name}:-…}}")
        return Missing(missing[0])
