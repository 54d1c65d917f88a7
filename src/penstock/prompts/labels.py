"""What labels stand for: what the files say, until somebody decides otherwise, until the files say something new."""

from __future__ import annotations

import msgspec

from penstock.core.prompt import PRODUCTION, PromptDefinition
from penstock.prompts.versions import age_of, in_order

MOST_MOVES = 50
"""Moves of a prompt's labels that are remembered."""
FILES = "files"
"""Who moved a label, if the files did."""

_replace = msgspec.structs.replace


class Move(msgspec.Struct, frozen=True):
    """A label that came to stand for another version.

    Attributes:
        label: Which.
        before: The version it stood for; None if it stood for none.
        after: The version it stands for; None if it is gone.
        at: When, in seconds since the epoch.
        by: Who did it.
    """

    label: str
    before: str | None
    after: str | None
    at: float
    by: str = ""


class LabelState(msgspec.Struct, frozen=True):
    """What is remembered of a prompt's labels.

    Attributes:
        declared: What the files said last.
        chosen: What was decided since, by label.
        moves: What changed, oldest first.
    """

    declared: dict[str, str] = {}
    chosen: dict[str, str] = {}
    moves: tuple[Move, ...] = ()


UNMOVED = LabelState()


def labels_of(definition: PromptDefinition, state: LabelState) -> dict[str, str]:
    """Return the version each label stands for; `production` is the newest version when nothing else is said."""
    chosen = {label: version for label, version in state.chosen.items() if version in definition.versions}
    return {PRODUCTION: in_order(definition.versions)[-1], **definition.labels, **chosen}


def observe(definition: PromptDefinition, state: LabelState, at: float) -> LabelState:
    """Take note of what the files say now: where that is new, it counts, and what was decided before does not."""
    declared, before = definition.labels, state.declared
    new = [label for label in {**before, **declared} if before.get(label) != declared.get(label)]
    if not new:
        return state
    stood = {**before, **state.chosen}
    moves = [
        Move(label, stood.get(label), declared.get(label), at, FILES)
        for label in new
        if stood.get(label) not in (None, declared.get(label))
    ]
    chosen = {label: version for label, version in state.chosen.items() if label not in new}
    return LabelState(dict(declared), chosen, (*state.moves, *moves)[-MOST_MOVES:])


def move(state: LabelState, label: str, before: str | None, to: str, at: float, by: str) -> LabelState:
    """Return the state after somebody decided that `label` stands for the version `to`."""
    moves = (*state.moves, Move(label, before, to, at, by))[-MOST_MOVES:]
    return _replace(state, chosen={**state.chosen, label: to}, moves=moves)


def previous(definition: PromptDefinition, state: LabelState, label: str) -> str | None:
    """Return the version to go back to: the last older one the label stood for, else the next older one.

    None when there is no older one.
    """
    now = age_of(labels_of(definition, state)[label])
    stood = [version for each in reversed(state.moves) if each.label == label for version in (each.after, each.before)]
    for version in [*stood, *reversed(in_order(definition.versions))]:
        if version in definition.versions and version is not None and age_of(version) < now:
            return version
    return None
