"""Prompts from files, with what was decided about their labels: usable alone, by the library and by the gateway."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from penstock.abc import StateStore
from penstock.config.prompt_sources import PromptSource, stands_in
from penstock.config.prompts import PromptDocument, PromptSettings
from penstock.config.watch import FileStamp
from penstock.core.clock import Clock, SystemClock
from penstock.core.errors import ConfigError, InvalidRequest, PenstockError, StoreError
from penstock.core.prompt import PRODUCTION, PromptDefinition
from penstock.prompts.collection import EMPTY, Prompt, PromptSet, build
from penstock.prompts.compiling import Rendered
from penstock.prompts.difference import difference
from penstock.prompts.labels import UNMOVED, LabelState, Move, move, observe, previous

STATES = "prompt/"
"""Before a prompt's name in the names of states."""

_log = logging.getLogger("penstock.prompts")


class Reloaded(msgspec.Struct, frozen=True):
    """What reading the files again changed.

    Attributes:
        added: Names of new prompts.
        changed: Names of prompts that are not what they were.
        removed: Names of prompts that are gone.
        prompts: How many there are now.
    """

    added: list[str] = []
    changed: list[str] = []
    removed: list[str] = []
    prompts: int = 0


class PromptLibrary:
    """Prompts by name.

    Attributes:
        current: The prompts in force, all of one reading; whoever took it keeps it over a reload.
        warnings: What is not as it should be: files in whose place built-in prompts are used.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        built_in: Mapping[str, Mapping[str, Any] | PromptDocument] | None = None,
        states: Mapping[str, LabelState] | None = None,
        store: StateStore | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Read the files.

        Args:
            directory: Where they are; None for built-in prompts only.
            built_in: Prompts by name, as a file would have them, for when there is no such file, or it is broken.
            states: What is remembered of labels, by the prompts' names.
            store: Where that is kept; see `open`.
            clock: Says when labels were moved; by default the machine's.

        Raises:
            ConfigError: A prompt cannot be used and none is built in, or Jinja2 is not installed.
        """
        self.current: PromptSet = EMPTY
        self.warnings: tuple[str, ...] = ()
        self._clock = clock or SystemClock()
        self._store = store
        self._changing = asyncio.Lock()
        self._seen: dict[str, FileStamp] | None = None
        self._tried: dict[str, FileStamp] | None = None
        self._unsaved: dict[str, LabelState] = {}
        self._source = PromptSource(None if directory is None else os.fspath(directory), built_in or {})
        self._load(states or {}, first=True)

    @classmethod
    async def open(cls, settings: PromptSettings, store: StateStore, clock: Clock) -> PromptLibrary:
        """Read the files and what was decided about labels.

        Raises:
            ConfigError: As the constructor.
            StoreError: What was decided cannot be read.
        """
        if settings.directory is None and not settings.built_in:
            return cls(store=store, clock=clock)
        states = await _states(store)
        library = await asyncio.to_thread(
            cls, settings.directory, built_in=settings.built_in, states=states, store=store, clock=clock
        )
        await library._save()
        return library

    def list(self) -> list[str]:
        """Return the names of all prompts, sorted."""
        return sorted(self.current.prompts)

    def changed(self) -> dict[str, FileStamp] | None:
        """Return the files' stamps if they are not those of the last reading; None if they are."""
        return self._source.changed()

    def render(self, name: str, variables: Mapping[str, Any] | None = None, version: str | None = None) -> Rendered:
        """Return what a prompt says.

        Args:
            name: Which prompt.
            variables: Values of its variables.
            version: A version or a label; by default ``production``, or else the newest version.

        Raises:
            InvalidRequest: There is none, a variable is wrong, or the template fails.
        """
        return self.current.find(name).find(version).render(variables or {})

    def difference(self, name: str, before: str, after: str | None = None) -> Sequence[str]:
        """Return the lines of a unified diff of two versions of a prompt, by default up to the one in production.

        Raises:
            InvalidRequest: There is no such prompt or version.
        """
        prompt = self.current.find(name)
        return difference(prompt.find(before).definition, prompt.find(after).definition)

    def reload(self) -> Reloaded:
        """Read the files again; all of them are in force afterwards, or none.

        Raises:
            ConfigError: One cannot be used; what was in force stays, all problems are named.
        """
        return self._load({name: prompt.state for name, prompt in self.current.prompts.items()})

    async def refresh(self) -> Reloaded:
        """As `reload`, beside the event loop, and read what was decided about labels again.

        Raises:
            ConfigError: As `reload`.
            StoreError: What was decided cannot be read.
        """
        async with self._changing:
            states = None if self._store is None else await _states(self._store)
            done = await (asyncio.to_thread(self.reload) if states is None else asyncio.to_thread(self._load, states))
            await self._save()
            return done

    async def renew(self) -> None:
        """As `refresh`; what came of it is logged."""
        try:
            done = await self.refresh()
        except PenstockError as error:
            _log.error("the new prompts are not used, the old ones stay: %s", error)
            return
        if done.added or done.changed or done.removed:
            counts = len(done.added), len(done.changed), len(done.removed)
            _log.info("prompts reloaded: %d new, %d changed, %d gone", *counts)

    async def keep_up(self) -> None:
        """As `renew`, if files have changed since they were read, and not since the last call: many may change at once.

        To be called every second or so; what cannot be used is tried once.
        """
        now = await asyncio.to_thread(self.changed) if self._source.directory is not None else None
        if now is not None and now == self._seen and now != self._tried:
            self._tried = now
            await self.renew()
        self._seen = now

    async def rollback(self, name: str, label: str = PRODUCTION, to: str | None = None, *, by: str = "") -> Move:
        """Let a label stand for another version: by default for the one before; it is kept before it is in force.

        Args:
            name: Which prompt.
            label: Which label; a new one needs `to`.
            to: The version; by default the last older one that the label stood for, else the next older one.
            by: Who decides it, for the record.

        Raises:
            InvalidRequest: There is no such prompt or version, or none to go back to.
            StoreError: The decision cannot be kept.
        """
        async with self._changing:
            prompt = self.current.find(name)
            before = prompt.labels.get(label)
            after = self._target(prompt, label, to)
            state = move(prompt.state, label, before, after, self._clock.wall(), by)
            if self._store is not None:
                await self._store.save(STATES + name, msgspec.json.encode(state))
            self.current = self.current.with_state(name, state)
            return state.moves[-1]

    async def relabel(self) -> None:
        """Let labels stand for what was decided elsewhere; the files are not read.

        Raises:
            StoreError: What was decided cannot be read.
        """
        if self._store is None:
            return
        async with self._changing:
            for name, state in (await _states(self._store)).items():
                known = self.current.prompts.get(name)
                if known is not None and known.state != state:
                    self.current = self.current.with_state(name, state)

    def _target(self, prompt: Prompt, label: str, to: str | None) -> str:
        if to is not None:
            return prompt.find(to).definition.version
        name = prompt.definition.name
        if label not in prompt.labels:
            known = ", ".join(prompt.labels)
            raise InvalidRequest(
                f"The prompt '{name}' has no label '{label[:100]}': say which version it stands for; it has {known}.",
                param="label",
                code="prompt_version_not_found",
                status_code=404,
            )
        found = previous(prompt.definition, prompt.state, label)
        if found is None:
            raise InvalidRequest(
                f"The prompt '{name}' has no version before {prompt.labels[label]}, which '{label[:100]}' stands for.",
                param="to",
                code="prompt_version_not_found",
                status_code=404,
            )
        return found

    def _load(self, states: Mapping[str, LabelState], *, first: bool = False) -> Reloaded:
        source = self._source
        files, definitions, warnings, wrong = source.read(first=first)
        noted = self._noted(definitions, {**states, **self._unsaved})
        new, problems = build(definitions, files.partials, noted, self.current)
        if first and problems and all(name in files.prompts and name in source.built_in for name in problems):
            warnings += [stands_in(name, found[0]) for name, found in problems.items()]
            definitions |= {name: source.built_in[name] for name in problems}
            new, problems = build(definitions, files.partials, noted, new)
        _raise([*wrong, *(problem for found in problems.values() for problem in found)], source.directory)
        self._unsaved = {name: state for name, state in noted.items() if state != states.get(name, UNMOVED)}
        source.accept(files)
        for warning in warnings:
            if warning not in self.warnings:
                _log.warning("%s", warning)
        self.warnings = tuple(warnings)
        old, self.current = self.current, new
        return _difference(old, new)

    def _noted(
        self, definitions: Mapping[str, PromptDefinition], known: Mapping[str, LabelState]
    ) -> dict[str, LabelState]:
        """Return what is remembered of labels; what stands in for a file says nothing new of them."""
        now = self._clock.wall()
        return {
            name: known.get(name, UNMOVED) if made.built_in else observe(made, known.get(name, UNMOVED), now)
            for name, made in definitions.items()
        }

    async def _save(self) -> None:
        """Keep what was noted; failing that, it is noted again with the next reading."""
        if self._store is None:
            return
        for name, state in list(self._unsaved.items()):
            try:
                await self._store.save(STATES + name, msgspec.json.encode(state))
            except StoreError as error:
                _log.warning("labels of prompt %s could not be kept: %s", name, error)
                return
            del self._unsaved[name]


async def _states(store: StateStore) -> dict[str, LabelState]:
    found = await store.load(STATES)
    try:
        return {name.removeprefix(STATES): msgspec.json.decode(state, type=LabelState) for name, state in found.items()}
    except msgspec.DecodeError as error:
        raise StoreError(
            f"what was decided about prompts' labels cannot be read: {error}", code="store_corrupt"
        ) from error


def _difference(old: PromptSet, new: PromptSet) -> Reloaded:
    before, now = old.prompts, new.prompts
    both = [name for name in now if name in before]
    return Reloaded(
        [name for name in now if name not in before],
        [name for name in both if old.partials != new.partials or not _same(now[name], before[name])],
        [name for name in before if name not in now],
        len(now),
    )


def _same(one: Prompt, other: Prompt) -> bool:
    return one.definition == other.definition and one.labels == other.labels


def _raise(problems: Sequence[ConfigError], directory: str | None) -> None:
    if len(problems) == 1:
        raise problems[0]
    if problems:
        lines = "".join(f"\n  {problem}" for problem in problems)
        raise ConfigError(f"{len(problems)} problems{lines}", file=directory, problems=problems)
