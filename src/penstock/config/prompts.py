"""Settings of prompts, and what a file of a prompt may say."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from penstock.config.section import Section
from penstock.core.prompt import PromptDefinition, PromptText, PromptVersion, Variable, VariableType

_RESERVED = frozenset(
    {"cache", "input", "messages", "metadata", "model", "prompt", "store", "stream", "stream_options"}
)  # fmt: skip


def _as_text(value: object) -> object:
    """Versions are often numbers; 1.10 is not, since it would be 1.1."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _as_variable(value: object) -> object:
    return {"type": value} if isinstance(value, str) else value


_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$"
PromptName = Annotated[str, StringConstraints(pattern=_NAME, max_length=100)]
VersionName = Annotated[str, BeforeValidator(_as_text), StringConstraints(pattern=_NAME, max_length=100)]
VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=100)]


class VariableSettings(Section):
    """A variable of a prompt; its type alone is enough."""

    type: VariableType = Field("string", description="What values it takes.")
    required: bool | None = Field(None, description="A request must give it; by default if there is no default.")
    default: Any = Field(None, description="Its value when a request does not give it.")
    values: list[str] = Field([], description="For `enum`: what it may be.")
    max_length: int | None = Field(
        None, ge=1, description="Most characters of a string, items of a list or keys of an object."
    )
    description: str = Field("", description="What it is for.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.type == "enum") != bool(self.values):
            raise ValueError("expected values with type enum, and only with it")
        if self.required and self.default is not None:
            raise ValueError("expected either required: true or a default")
        fault = None if self.default is None else self.made.fault(self.default)
        if fault is not None:
            raise ValueError(f"expected a default that is {fault}")
        return self

    @property
    def made(self) -> Variable:
        """The variable."""
        required = self.default is None if self.required is None else self.required
        return Variable(self.type, required, self.default, tuple(self.values), self.max_length, self.description)


class MessageSettings(Section):
    """A message of a prompt."""

    role: Literal["system", "developer", "user", "assistant"] = Field(description="Who says it.")
    content: str = Field(description="What is said: a template.")


class VersionSettings(Section):
    """A version of a prompt."""

    system: str | None = Field(None, description="A template: the content of a first message with role system.")
    user: str | None = Field(None, description="A template: the content of a message with role user.")
    messages: list[MessageSettings] = Field([], description="All messages, instead of these.")
    text: str | None = Field(None, description="A template: a text for completions, instead of messages.")
    variables: dict[VariableName, Annotated[VariableSettings, BeforeValidator(_as_variable)]] = Field(
        {}, description="What the templates may use, by name."
    )
    model: str | None = Field(None, min_length=1, description="Who is asked when a request does not say.")
    parameters: dict[str, Any] = Field({}, description="Fields of the request, where a request does not have them.")
    description: str = Field("", description="What it is for, or what is new.")

    @model_validator(mode="after")
    def _can_be_sent(self) -> Self:
        taken = _RESERVED.intersection(self.parameters)
        if taken:
            raise ValueError(f"expected fields such as temperature in parameters, not {', '.join(sorted(taken))}")
        try:
            json.dumps(self.parameters, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError("expected parameters that can be written as JSON") from None
        return self

    @property
    def kinds(self) -> int:
        """In how many of the three ways it says what is sent; one is right."""
        return sum((self.text is not None, bool(self.messages), (self.system or self.user) is not None))


class PromptDocument(VersionSettings):
    """A prompt, as in a file of `prompts.directory`: of one version, or of several in `versions`."""

    name: PromptName | None = Field(None, description="How requests name it; by default the file's name.")
    version: VersionName | None = Field(None, description="The version's name, if there is only one; by default 1.")
    versions: dict[VersionName, VersionSettings] = Field(
        {}, description="Versions by name; what is said beside them, they all share."
    )
    labels: dict[VersionName, VersionName] = Field(
        {}, description="Versions by labels; `production` is what requests get that name none."
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.versions and (self.kinds or self.version is not None):
            raise ValueError("expected templates and version in each of versions, or no versions")
        each = self.versions or {"": self}
        wrong = next((name for name, one in each.items() if one.kinds != 1), None)
        if wrong is not None:
            place = f" in version {wrong}" if wrong else ""
            raise ValueError(f"expected one of messages, text, and system with user{place}")
        return self

    def define(self, name: str, *, version: str = "1", built_in: bool = False) -> PromptDefinition:
        """Return the prompt; its templates have no place in a file yet."""
        each = self.versions or {self.version or version: self}
        return PromptDefinition(
            self.name or name,
            {one: self._version(one, said) for one, said in each.items()},
            dict(self.labels),
            self.description,
            built_in,
        )

    def _version(self, name: str, said: VersionSettings) -> PromptVersion:
        if said.text is not None:
            texts = [PromptText("", said.text)]
        elif said.messages:
            texts = [PromptText(each.role, each.content) for each in said.messages]
        else:
            pairs = (("system", said.system), ("user", said.user))
            texts = [PromptText(role, source) for role, source in pairs if source is not None]
        variables = {each: one.made for each, one in {**self.variables, **said.variables}.items()}
        return PromptVersion(
            name, tuple(texts), variables, said.model or self.model, {**self.parameters, **said.parameters},
            said.description,
        )  # fmt: skip


class PromptSettings(Section):
    """Prompts that requests name instead of bringing them along."""

    directory: str | None = Field(
        None, min_length=1, description="Where the files are: `*.yaml`, `*.yml` and `*.json`, and `*.j2` to include."
    )
    reload: bool = Field(True, description="Read them again when they change; SIGHUP always does.")
    built_in: dict[PromptName, PromptDocument] = Field(
        {}, description="Prompts for when there is no file of that name, or a broken one at the start."
    )
