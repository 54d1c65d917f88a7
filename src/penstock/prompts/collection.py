"""A set of prompts, whole and unchanging: who has one is not touched by the next."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.core.errors import ConfigError, InvalidRequest
from penstock.core.prompt import PRODUCTION, PromptDefinition
from penstock.prompts.compiling import Compiler, Ready
from penstock.prompts.labels import UNMOVED, LabelState, labels_of
from penstock.prompts.values import hint
from penstock.prompts.versions import in_order

_NONE = ": there are no prompts here; name their directory in `prompts.directory`."


class Prompt:
    """A prompt with its versions compiled.

    Attributes:
        definition: What the files say of it.
        state: What is remembered of its labels.
        labels: The version each label stands for.
    """

    def __init__(self, definition: PromptDefinition, versions: Mapping[str, Ready], state: LabelState) -> None:
        self.definition = definition
        self.state = state
        self.labels = labels_of(definition, state)
        self._versions = versions

    @property
    def versions(self) -> list[str]:
        """Names of its versions, the oldest first."""
        return in_order(self._versions)

    @property
    def model(self) -> str | None:
        """The model of the version in production, if it names one."""
        return self.find().definition.model

    def find(self, version: str | None = None) -> Ready:
        """Return a version, by its name or by a label; by default `production`.

        Raises:
            InvalidRequest: There is none (404, ``prompt_version_not_found``).
        """
        wanted = version or PRODUCTION
        found = self._versions.get(self.labels.get(wanted, wanted))
        if found is None:
            known = [*self.versions, *self.labels]
            raise InvalidRequest(
                f"The prompt '{self.definition.name}' has no version or label '{wanted[:100]}'{hint(wanted, known)}",
                param="prompt.version",
                code="prompt_version_not_found",
                status_code=404,
            )
        return found

    def moved(self, state: LabelState) -> Prompt:
        """Return the same prompt with other labels."""
        return Prompt(self.definition, self._versions, state)

    def compiled(self, version: str) -> Ready | None:
        """Return a version by its name, if there is one."""
        return self._versions.get(version)


class PromptSet:
    """Prompts by name.

    Attributes:
        prompts: Them.
        partials: Texts that their templates may include.
    """

    def __init__(self, prompts: Mapping[str, Prompt], partials: Mapping[str, str]) -> None:
        self.prompts = prompts
        self.partials = partials

    def find(self, name: str) -> Prompt:
        """Return a prompt.

        Raises:
            InvalidRequest: There is none (404, ``prompt_not_found``).
        """
        found = self.prompts.get(name)
        if found is None:
            known = hint(name, self.prompts).replace("it has", "there are") if self.prompts else _NONE
            raise InvalidRequest(
                f"There is no prompt '{name[:100]}'{known}",
                param="prompt.id",
                code="prompt_not_found",
                status_code=404,
            )
        return found

    def with_state(self, name: str, state: LabelState) -> PromptSet:
        """Return a set in which one prompt has other labels."""
        return PromptSet({**self.prompts, name: self.prompts[name].moved(state)}, self.partials)


EMPTY = PromptSet({}, {})


def build(
    definitions: Mapping[str, PromptDefinition],
    partials: Mapping[str, str],
    states: Mapping[str, LabelState],
    previous: PromptSet = EMPTY,
) -> tuple[PromptSet, dict[str, list[ConfigError]]]:
    """Compile a set.

    Args:
        definitions: What the files say, by name.
        partials: Texts that may be included, by name.
        states: What is remembered of labels, by the prompts' names.
        previous: A set whose versions are taken over where they are the same.

    Returns:
        The set of all prompts that can be used, and what is wrong with the others, by name.
    """
    compiler = Compiler(partials)
    same = previous.prompts if previous.partials == partials else {}
    prompts: dict[str, Prompt] = {}
    problems: dict[str, list[ConfigError]] = {}
    for name, definition in definitions.items():
        versions: dict[str, Ready] = {}
        for key, version in definition.versions.items():
            known = same[name].compiled(key) if name in same else None
            try:
                unchanged = known is not None and known.definition == version
                versions[key] = known if known is not None and unchanged else compiler.compile(definition, version)
            except ConfigError as error:
                problems.setdefault(name, []).append(error)
        if name not in problems:
            prompts[name] = Prompt(definition, versions, states.get(name, UNMOVED))
    return PromptSet(prompts, partials), problems
