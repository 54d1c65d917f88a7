"""Which prompts are meant: those of a directory, and built-in ones where it has none."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from penstock.config.problems import Problems
from penstock.config.prompt_files import NOTHING, Known, PromptFiles, read_prompts
from penstock.config.prompts import PromptDocument
from penstock.config.provenance import MAPPING, wrap
from penstock.config.validation import validate_as
from penstock.config.watch import FileStamp, stamps
from penstock.core.errors import ConfigError
from penstock.core.prompt import BUILT_IN, PromptDefinition

_NO_FILES = PromptFiles({}, {}, (), {}, NOTHING)


class Meant(NamedTuple):
    """What the files and what is built in come to, before it is compiled.

    Attributes:
        files: What was read.
        definitions: The prompts, by name.
        warnings: Where built-in ones are used.
        problems: What is wrong with files for which none is.
    """

    files: PromptFiles
    definitions: dict[str, PromptDefinition]
    warnings: list[str]
    problems: list[ConfigError]


class PromptSource:
    """A directory, and prompts that stand in for its files.

    Attributes:
        directory: Where the files are; None if there are only built-in prompts.
        built_in: These, by name.
    """

    def __init__(self, directory: str | None, built_in: Mapping[str, Mapping[str, Any] | PromptDocument]) -> None:
        """Nothing is read yet; `built_in` has prompts as a file would have them.

        Raises:
            ConfigError: One of these cannot be used.
        """
        self.directory = directory
        self.built_in = {name: self._define(name, said) for name, said in built_in.items()}
        self._stamps: dict[str, FileStamp] = {}
        self._known: Known = NOTHING

    def read(self, *, first: bool) -> Meant:
        """Read all files; only the first time built-in prompts stand in for broken ones.

        Raises:
            ConfigError: There is no directory.
        """
        if self.directory is None:
            return Meant(_NO_FILES, dict(self.built_in), [], [])
        try:
            files = read_prompts(self.directory, self._known)
        except ConfigError as error:
            if not first or not self.built_in:
                raise
            return Meant(_NO_FILES, dict(self.built_in), [f"built-in prompts are used: {error}"], [])
        named = [(self._name_of(problem) if first else None, problem) for problem in files.problems]
        broken = {name: problem for name, problem in named if name is not None}
        missing = [name for name in self.built_in if name not in files.prompts and name not in broken]
        warnings = [stands_in(name, problem) for name, problem in broken.items()]
        warnings += [f"prompt {name} has no file in {self.directory}: the built-in one is used" for name in missing]
        found = {name: made for name, made in files.prompts.items() if name not in broken}
        return Meant(
            files, {**self.built_in, **found}, warnings, [problem for name, problem in named if name is None]
        )  # fmt: skip

    def accept(self, files: PromptFiles) -> None:
        """Take note that these files are in force."""
        self._stamps, self._known = files.stamps, files.read

    def changed(self) -> dict[str, FileStamp] | None:
        """Return the files' stamps if they are not those in force; None if they are."""
        if self.directory is None:
            return None
        now = stamps(os.path.realpath(os.path.expanduser(self.directory)))
        return None if now == self._stamps else now

    def _name_of(self, problem: ConfigError) -> str | None:
        """Return the name of the built-in prompt that can stand in for a broken file, if there is one."""
        name = os.path.basename(problem.file or "").partition(".")[0]
        return name if name in self.built_in else None

    def _define(self, name: str, said: Mapping[str, Any] | PromptDocument) -> PromptDefinition:
        problems = Problems()
        document = said if isinstance(said, PromptDocument) else validate_as(
            PromptDocument, wrap(said, MAPPING), problems
        )  # fmt: skip
        problems.raise_any()
        if document is None:
            raise RuntimeError("the prompt is not valid, but no problem was reported")
        made = document.define(name, version=BUILT_IN, built_in=self.directory is not None)
        return msgspec.structs.replace(made, name=name)


def stands_in(name: str, problem: ConfigError) -> str:
    """Return the warning that a built-in prompt is used."""
    return f"prompt {name} is broken, the built-in one is used: {problem}"
