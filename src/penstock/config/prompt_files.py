"""Reading the files of prompts: all of a directory at once, with the line of each template."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from penstock.config.document import compose, read
from penstock.config.problems import Problems
from penstock.config.prompts import PromptDocument
from penstock.config.provenance import Node, Origin, Path
from penstock.config.validation import validate_as
from penstock.config.watch import FileStamp, stamps
from penstock.core.errors import ConfigError
from penstock.core.prompt import PromptDefinition, PromptVersion

PARTIAL = ".j2"
_ENDINGS = (".yaml", ".yml", ".json")
_MOST_FILES = 2_000
_TRIES = 5
_BLOCK = re.compile(r":\s*[|][-+0-9]*\s*(#.*)?$")
"""A scalar whose text begins on the next line, with its lines as they are."""

_replace = msgspec.structs.replace


Known = Mapping[str, tuple[str, PromptDefinition]]
NOTHING: Known = MappingProxyType({})


class PromptFiles(NamedTuple):
    """What a directory has.

    Attributes:
        prompts: The prompts of files that can be used, by name.
        partials: Texts that templates may include, by file name.
        problems: What is wrong with the others.
        stamps: When the files were changed, by name.
        read: The text of each file that could be used, with what it says, by name.
    """

    prompts: dict[str, PromptDefinition]
    partials: dict[str, str]
    problems: tuple[ConfigError, ...]
    stamps: dict[str, FileStamp]
    read: Known


def read_prompts(directory: str, known: Known = NOTHING) -> PromptFiles:
    """Read a directory, following a link to it once, and again if files change meanwhile.

    Args:
        directory: Which.
        known: What an earlier reading found in the files; those with the same text say the same.

    Raises:
        ConfigError: There is no such directory, or it has too many files.
    """
    for _ in range(_TRIES):
        real = os.path.realpath(os.path.expanduser(directory))
        before = stamps(real)
        found = _read(real, directory, before, known)
        if stamps(real) == before:
            break
    return found


def _read(real: str, shown: str, files: dict[str, FileStamp], known: Known) -> PromptFiles:
    if not os.path.isdir(real):
        raise ConfigError("there is no such directory", file=shown, key="prompts.directory")
    if len(files) > _MOST_FILES:
        raise ConfigError(f"there are {len(files)} files", file=shown, expected=f"at most {_MOST_FILES}")
    problems: list[ConfigError] = []
    prompts: dict[str, PromptDefinition] = {}
    partials: dict[str, str] = {}
    read: dict[str, tuple[str, PromptDefinition]] = {}
    for name in files:
        path, label = os.path.join(real, name), os.path.join(shown, name)
        try:
            if name.endswith(PARTIAL):
                partials[name] = _text(path, label)
            elif name.endswith(_ENDINGS):
                text = _text(path, label)
                before = known.get(name)
                made = before[1] if before is not None and before[0] == text else read_prompt(text, name, label)
                read[name] = text, made
                prompts[made.name] = _joined(prompts[made.name], made) if made.name in prompts else made
        except ConfigError as error:
            problems += error.problems or (error,)
    for made in list(prompts.values()):
        wrong = _wrong_labels(made)
        problems += wrong
        if wrong:
            del prompts[made.name]
    return PromptFiles(prompts, partials, tuple(problems), files, read)


def _wrong_labels(made: PromptDefinition) -> list[ConfigError]:
    wrong = []
    file = next(iter(made.versions.values())).file
    for label, version in made.labels.items():
        key, known = f"labels.{label}", f"one of {', '.join(made.versions)}"
        if version not in made.versions:
            wrong.append(ConfigError(f"there is no version {version!r}", file=file, key=key, expected=known))
        elif label in made.versions:
            wrong.append(ConfigError("a version has this name", file=file, key=key, expected="another name"))
    return wrong


def read_prompt(text: str, name: str, label: str) -> PromptDefinition:
    """Read the text of a file of this name, which is called `label` in messages.

    Raises:
        ConfigError: It cannot be used; all its problems are named.
    """
    problems = Problems(label)
    json_file = name.endswith(".json")
    if json_file:
        _check_json(text, label)
    node = compose(text.replace("\t", " ") if json_file else text, label, problems)
    if not isinstance(node.value, dict):
        problems.add("the file is not a mapping", Origin(label, label, 1), expected="`key: value` lines")
        problems.raise_any()
    if json_file:
        _join_surrogates(node)
    document = validate_as(PromptDocument, node, problems)
    problems.raise_any()
    if document is None:
        raise RuntimeError("the prompt is not valid, but no problem was reported")
    made = document.define(name.rsplit(".", 1)[0])
    lines = text.splitlines()
    versions = {name: _placed(version, node, label, lines) for name, version in made.versions.items()}
    return _replace(made, versions=versions)


def _text(path: str, label: str) -> str:
    try:
        return read(path)
    except ConfigError as error:
        raise ConfigError(error.message, file=label, line=error.line, expected=error.expected) from None


def _check_json(text: str, label: str) -> None:
    try:
        json.loads(text)
    except ValueError as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else None
        said = error.msg if isinstance(error, json.JSONDecodeError) else "a number with too many digits"
        raise ConfigError(f"not valid JSON: {said}", file=label, line=line) from None
    except RecursionError:
        raise ConfigError("nested too deeply", file=label) from None


def _join_surrogates(node: Node) -> None:
    """JSON may write a character beyond U+FFFF as two escapes, which YAML takes for two characters."""
    if isinstance(node.value, str):
        node.value = node.value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    for inner in node.value.values() if isinstance(node.value, dict) else ():
        _join_surrogates(inner)
    for inner in node.value if isinstance(node.value, list) else ():
        _join_surrogates(inner)


def _placed(version: PromptVersion, node: Node, label: str, lines: list[str]) -> PromptVersion:
    inside = node.find(("versions", version.version)) or node
    places = _places(inside, version)
    texts = tuple(
        _replace(text, file=label, line=None if line is None else line + bool(_BLOCK.search(lines[line - 1])))
        for text, line in zip(version.texts, places, strict=True)
    )
    return _replace(version, texts=texts, file=label)


def _places(node: Node, version: PromptVersion) -> Iterator[int | None]:
    """Yield the line of the key of each template."""
    paths: list[Path] = [("messages", index, "content") for index in range(len(version.texts))]
    if node.find(("messages",)) is None:
        paths = [(text.role or "text",) for text in version.texts]
    for path in paths:
        found = node.find(path)
        yield None if found is None else found.origin.line


def _joined(first: PromptDefinition, second: PromptDefinition) -> PromptDefinition:
    """Return one prompt whose versions are in two files.

    Raises:
        ConfigError: Both have a version, or a label, of the same name.
    """
    file = next(iter(second.versions.values())).file
    other = next(iter(first.versions.values())).file
    for what, one, two in (("version", first.versions, second.versions), ("label", first.labels, second.labels)):
        same: list[Any] = sorted(set(one) & set(two))
        if same:
            raise ConfigError(f"{other} has {what} {same[0]!r} of the prompt {first.name!r} too", file=file)
    return _replace(
        first,
        versions={**first.versions, **second.versions},
        labels={**first.labels, **second.labels},
        description=first.description or second.description,
    )
