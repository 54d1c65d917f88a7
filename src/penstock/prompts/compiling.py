"""From definitions to prompts that can be rendered; everything that can be wrong with a template is found here."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from penstock.core.errors import ConfigError, InvalidRequest
from penstock.core.prompt import PromptDefinition, PromptText, PromptVersion
from penstock.prompts.mistakes import Mistake
from penstock.prompts.values import fill_in, hint

if TYPE_CHECKING:
    from penstock.prompts.sandbox import Compiled, Sandbox


class Rendered(msgspec.Struct, frozen=True):
    """What a prompt says with given values.

    Attributes:
        name: The prompt's name.
        version: The version's name.
        messages: Its messages; None for a text to complete.
        text: The text to complete; None for messages.
        model: Who is asked when the request does not say.
        parameters: Fields of the request, where it does not have them.
    """

    name: str
    version: str
    messages: list[dict[str, Any]] | None = None
    text: str | None = None
    model: str | None = None
    parameters: dict[str, Any] = {}

    @property
    def tag(self) -> str:
        """``NAME@VERSION``."""
        return f"{self.name}@{self.version}"


class Ready:
    """A version that was compiled."""

    def __init__(self, name: str, definition: PromptVersion, texts: tuple[Compiled, ...]) -> None:
        self.name = name
        self.definition = definition
        self._texts = texts

    @property
    def tag(self) -> str:
        """``NAME@VERSION``."""
        return f"{self.name}@{self.definition.version}"

    def render(self, values: Mapping[str, Any]) -> Rendered:
        """Return what it says; values come to be in the contents of messages and nowhere else.

        Raises:
            InvalidRequest: A variable is wrong, as `fill_in`, or the template fails with these values
                (``prompt_template_error``).
        """
        definition = self.definition
        filled = fill_in(definition.variables, values, self.tag)
        contents = [
            self._render(text, compiled, filled)
            for text, compiled in zip(definition.texts, self._texts, strict=True)
        ]  # fmt: skip
        parameters = definition.parameters
        if not definition.texts[0].role:
            return Rendered(self.name, definition.version, None, contents[0], definition.model, parameters)
        messages: list[dict[str, Any]] = [
            {"role": text.role, "content": content} for text, content in zip(definition.texts, contents, strict=True)
        ]
        return Rendered(self.name, definition.version, messages, None, definition.model, parameters)

    def _render(self, text: PromptText, compiled: Compiled, values: Mapping[str, Any]) -> str:
        try:
            return compiled.render(values)
        except Mistake as mistake:
            raise InvalidRequest(
                f"The prompt {self.tag} cannot be rendered with these variables: {place_of(text, mistake)}"
                f"{mistake.message}.",
                param="prompt",
                code="prompt_template_error",
            ) from mistake


class Compiler:
    """Compiles versions that may include `partials`."""

    def __init__(self, partials: Mapping[str, str]) -> None:
        self.partials = partials
        self._sandbox: Sandbox | None = None

    def compile(self, prompt: PromptDefinition, version: PromptVersion) -> Ready:
        """Compile a version.

        Raises:
            ConfigError: A template is wrong, or uses a variable that is not declared; or Jinja2 is not installed.
        """
        sandbox = self._sandbox = self._sandbox or make_sandbox(self.partials)
        return Ready(prompt.name, version, tuple(self._text(sandbox, prompt, version, text) for text in version.texts))

    def _text(self, sandbox: Sandbox, prompt: PromptDefinition, version: PromptVersion, text: PromptText) -> Compiled:
        try:
            compiled = sandbox.compile(text.source, text.file)
        except Mistake as mistake:
            raise _error(prompt, version, text, mistake) from mistake
        for name, line in compiled.names.items():
            if name not in version.variables:
                known = hint(name, version.variables).replace("it has", "declared:")
                raise _error(prompt, version, text, Mistake(f"the variable {name!r} is not declared{known}", line))
        return compiled


def make_sandbox(partials: Mapping[str, str]) -> Sandbox:
    """Make what compiles templates.

    Raises:
        ConfigError: Jinja2 is not installed.
    """
    try:
        made: Sandbox = importlib.import_module("penstock.prompts.sandbox").Sandbox(partials)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"prompts need {error.name}, which is not installed: pip install 'penstock[prompts]'", key="prompts"
        ) from error
    return made


def place_of(text: PromptText, mistake: Mistake) -> str:
    """Return where a mistake is, as the beginning of a message: the file and its line."""
    if mistake.file is not None and mistake.file != text.file and mistake.file != "<prompt>":
        return f"{mistake.file}:{mistake.line}: "
    line, file = _line_of(text, mistake), text.file.rpartition("/")[2]  # where the directory is, is nobody's business
    return f"{file}:{line}: " if text.file and line else f"line {line}: " if line else ""


def _line_of(text: PromptText, mistake: Mistake) -> int | None:
    if not text.file:
        return mistake.line
    return None if text.line is None else text.line + (mistake.line or 1) - 1


def _error(prompt: PromptDefinition, version: PromptVersion, text: PromptText, mistake: Mistake) -> ConfigError:
    which = f"version {version.version} of prompt {prompt.name}"
    if mistake.file is not None:
        return ConfigError(mistake.message, file=mistake.file, line=mistake.line, key=which)
    return ConfigError(mistake.message, file=text.file or None, line=_line_of(text, mistake), key=which)
