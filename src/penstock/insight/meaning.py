"""What answering by meaning would have saved, where matching has looked on; and what it does save, where it is on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from penstock.config.settings import Settings
from penstock.core.errors import InvalidRequest
from penstock.core.money import to_usd
from penstock.core.route import SemanticMode
from penstock.insight.caching import saving
from penstock.insight.facts import AUDIT, PURPOSE, Fact, Question
from penstock.insight.replay import CachePolicy, Outcome, replay
from penstock.insight.suggestion import Suggestion
from penstock.routing.table import RouteTable, Rule

ENOUGH = 1000
"""Calls that were paid for, before it is worth looking whether some of them meant the same."""
_MATCHED = ("chat", "completions")

_replace = msgspec.structs.replace


class Modes(NamedTuple):
    """How questions to the models of the past are answered now.

    Attributes:
        default: The mode of a model for which nothing else is said.
        of: For each model, under which name it is configured, and the mode said there, if there is any.
    """

    default: SemanticMode
    of: dict[str, tuple[str, SemanticMode | None]]

    def on(self) -> Iterator[str]:
        """Name the models that are answered by meaning."""
        return (model for model, (_, mode) in self.of.items() if (mode or self.default) == "on")


def modes_of(settings: Settings, facts: Sequence[Fact]) -> Modes:
    """Look up the models that were asked for; one that is not configured any more is left out."""
    table = RouteTable(
        [Rule(model.name, (), semantic=model.semantic) for model in settings.models],
        {provider.name: b"" for provider in settings.providers},
    )
    found: dict[str, tuple[str, SemanticMode | None]] = {}
    for model in {fact.model for fact in facts}:
        try:
            rule = table.rule(model)
        except InvalidRequest:
            continue
        found[model] = rule.name, rule.semantic
    return Modes(settings.cache.semantic.mode, found)


def suggest_meaning(
    facts: Sequence[Fact],
    asked: Sequence[Question],
    settings: Settings,
    modes: Modes,
    policy: CachePolicy,
    base: Outcome,
    said: Callable[[str], None],
) -> Iterator[Suggestion]:
    """Yield what answering by meaning would save, model by model, and where it is on what it saves.

    Args:
        facts: The calls.
        asked: The questions among them.
        settings: What is in force.
        modes: What that means for the models.
        policy: The same for replaying.
        base: What comes out of replaying under it.
        said: Told of each replay before it begins.
    """
    looked_up = {fact.model for fact in facts if fact.semantic}
    on = set(modes.on())
    for name in sorted({modes.of[model][0] for model in looked_up | on if model in modes.of}):
        mine = {model for model, (configured, _) in modes.of.items() if configured == name}
        if mine & on:
            said(f"with {name} not answered by meaning")
            without = replay(asked, _replace(policy, by_meaning=policy.by_meaning - mine))
            yield from _worth_keeping(name, asked, base, without, facts)
        else:
            said(f"with {name} answered by meaning")
            yield from _worth_having(name, asked, base, _replace(policy, by_meaning=policy.by_meaning | mine), settings)
    yield from _worth_looking(facts, settings, modes)


def _worth_having(
    name: str, asked: Sequence[Question], base: Outcome, policy: CachePolicy, settings: Settings
) -> Iterator[Suggestion]:
    at, outcome = [question.at for question in asked], replay(asked, policy)
    meant, audits = outcome.meant - base.meant, outcome.audits - base.audits
    wrong = settings.cache.semantic.max_error
    yield from saving(
        at,
        base,
        outcome,
        "semantic",
        f"Answer questions to {name} by meaning: {meant} would have been",
        {f"models.{name}.semantic": "on"},
        f"up to {wrong:.1%} of these answers may be wrong (cache.semantic.max_error); to check {audits} of them "
        "is paid for",
    )


def _worth_keeping(
    name: str, asked: Sequence[Question], base: Outcome, without: Outcome, facts: Sequence[Fact]
) -> Iterator[Suggestion]:
    """Say what would be lost without it; or, if nothing would, that it should go."""
    at = [question.at for question in asked]
    matching = sum(fact.cost_pusd or 0 for fact in facts if fact.name.startswith(PURPOSE) and fact.name != AUDIT)
    but = f"what judges and embeds took ${to_usd(matching):.4f}, for all models" if matching else ""
    kept = list(saving(
        at, without, base, "semantic",
        f"Go on answering questions to {name} by meaning, which is what saves this already", {}, but,
    ))  # fmt: skip
    yield from kept or saving(
        at, base, without, "semantic",
        f"Do not answer questions to {name} by meaning: to check the answers takes more than they save",
        {f"models.{name}.semantic": "off"}, but,
    )  # fmt: skip


def _worth_looking(facts: Sequence[Fact], settings: Settings, modes: Modes) -> Iterator[Suggestion]:
    """Where nothing was ever looked up, no replay can say; that much was paid for is reason enough to look."""
    if modes.default != "off" or not settings.cache.exact.enabled:
        return
    paid = [
        fact for fact in facts
        if fact.operation in _MATCHED and fact.cache == "miss" and fact.cost_pusd and fact.outcome == "ok"
        and not fact.name.startswith(PURPOSE) and modes.of.get(fact.model, ("", "off"))[1] is None
    ]  # fmt: skip
    if len(paid) < ENOUGH or any(fact.semantic for fact in paid):
        return
    cost = to_usd(sum(fact.cost_pusd or 0 for fact in paid))
    yield Suggestion(
        "semantic",
        f"Let matching by meaning look on, to learn what it would save: {len(paid)} questions that the exact cache "
        f"could not answer cost ${cost:.2f}, and how many of them meant the same is not known",
        {"cache.semantic.mode": "shadow"},
        "rule",
        but="nothing is answered by meaning in this mode; look here again after some days",
    )
