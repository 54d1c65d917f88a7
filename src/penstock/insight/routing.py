"""What the same calls would have cost elsewhere: another target of the model first, or the provider's batches."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from penstock.config.models import ModelSettings, TargetSettings
from penstock.config.settings import Settings
from penstock.core.money import to_picodollars
from penstock.core.usage import Usage
from penstock.insight.facts import Fact
from penstock.insight.interval import Range, interval
from penstock.insight.suggestion import Price, Suggestion, money

BATCHES: Mapping[str, float] = {"openai": 0.5, "azure": 0.5, "anthropic": 0.5, "gemini": 0.5, "mistral": 0.5}
"""Provider kinds that sell batches, answered within 24 hours, at this share of the price; their price lists, 2026."""

_SEEN = 30
"""Answers of a target that tell how long it takes."""
_BATCH = 100
"""Calls a period has to have of one sort before batches are worth the trouble."""


def suggest_routing(facts: Sequence[Fact], settings: Settings, price: Price) -> Iterator[Suggestion]:
    """Yield, for each model with several targets, the cheapest of them if it is not the first already."""
    for model in settings.models:
        if len(model.targets) < 2:
            continue
        mine = [fact for fact in facts if fact.model == model.name and fact.provider and fact.cost_pusd is not None]
        found = [
            suggestion
            for target in model.targets
            if target.model != "*" and (suggestion := _first(model, target, mine, price)) is not None
        ]
        if found:
            yield max(found, key=lambda suggestion: suggestion.rank)


def suggest_batches(facts: Sequence[Fact], settings: Settings) -> Iterator[Suggestion]:
    """Yield, for each sort of calls that nobody watches being answered, what a provider's batches would save."""
    kinds = {provider.name: provider.kind for provider in settings.providers}
    sorts: dict[tuple[str, str], list[Fact]] = defaultdict(list)
    for fact in facts:
        if not fact.stream and fact.cost_pusd and kinds.get(fact.provider) in BATCHES and (fact.name or fact.tags):
            sorts[fact.model, fact.name or ", ".join(fact.tags)].append(fact)
    for (model, name), mine in sorts.items():
        if len(mine) < _BATCH:
            continue
        at = [fact.at for fact in mine]
        shares = [1 - BATCHES[kinds[fact.provider]] for fact in mine]
        yield Suggestion(
            "batch",
            f"Send {name} calls to {model} as the provider's batches",
            {},
            "prices",
            usd=money(at, [round((fact.cost_pusd or 0) * share) for fact, share in zip(mine, shares, strict=True)]),
            but="answers may take up to 24 hours",
        )


def _first(model: ModelSettings, target: TargetSettings, facts: Sequence[Fact], price: Price) -> Suggestion | None:
    saved: list[int] = []
    at: list[float] = []
    for fact in facts:
        usage = Usage(fact.input_tokens, fact.output_tokens)
        same = (fact.provider, fact.provider_model) == (target.provider, target.model)
        cost, _ = price(target.provider, target.model, usage)
        if cost is None:
            return None
        saved.append(0 if same else (fact.cost_pusd or 0) - to_picodollars(cost))
        at.append(fact.at)
    if sum(saved) <= 0:
        return None
    name = f"{target.provider}/{target.model}"
    seconds, but = _time(target, facts)
    return Suggestion(
        "routing",
        f"Send calls for {model.name} to {name} first",
        {f"models.{model.name}.targets": [_ordered(each, first=each is target) for each in model.targets]},
        "prices",
        usd=money(at, saved),
        seconds=seconds,
        but=but,
    )


def _ordered(target: TargetSettings, *, first: bool) -> dict[str, object]:
    return {"provider": target.provider, "model": target.model, "order": 0 if first else target.order + 1}


def _time(target: TargetSettings, facts: Sequence[Fact]) -> tuple[Range | None, str]:
    """How much less time the calls would have taken, by what each target's answers take a token."""
    pace: dict[tuple[str, str], list[float]] = defaultdict(list)
    for fact in facts:
        if fact.outcome == "ok" and fact.attempts == 1:
            pace[fact.provider, fact.provider_model].append(fact.seconds / max(fact.output_tokens, 1))
    wanted = pace.get((target.provider, target.model), ())
    if len(wanted) < _SEEN:
        return None, "its answers may differ; how long it takes is not known, since it answered too few calls"
    own = statistics.median(wanted)
    saved = [
        fact.seconds - own * max(fact.output_tokens, 1)
        for fact in facts
        if (fact.provider, fact.provider_model) != (target.provider, target.model)
    ]
    at = [fact.at for fact in facts if (fact.provider, fact.provider_model) != (target.provider, target.model)]
    return interval(at, saved), "its answers may differ"
