"""Suggestions by rule, for what no replay can say: a measure is beyond what is usual, and this much is lost by it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from penstock.config.settings import Settings
from penstock.insight.facts import Fact
from penstock.insight.interval import interval
from penstock.insight.suggestion import Suggestion, money

ERROR_RATE = 0.05
RATE_LIMITED = 0.01
HIT_RATE = 0.30
COST_USD = 0.01
SECONDS = 2.0
"""The measures beyond which something should be done: shares of all calls, dollars and seconds of the mean call."""
_ENOUGH = 100
"""Calls a share is taken of."""
_FINE = frozenset({"ok", "client_closed"})
_LIMITED = "rate_limit_exceeded"


def suggest_by_rule(facts: Sequence[Fact], settings: Settings) -> Iterator[Suggestion]:
    """Yield what the figures of the period call for."""
    if len(facts) < _ENOUGH:
        return
    yield from _errors(facts, settings)
    yield from _limits(facts)
    yield from _hits(facts)
    yield from _slow_and_dear(facts)


def _errors(facts: Sequence[Fact], settings: Settings) -> Iterator[Suggestion]:
    failed = [fact for fact in facts if fact.outcome not in _FINE and fact.outcome != _LIMITED]
    if len(failed) <= ERROR_RATE * len(facts):
        return
    patterns = Counter((fact.outcome, fact.provider or "no provider") for fact in failed)
    common = ", ".join(f"{count} {outcome} at {provider}" for (outcome, provider), count in patterns.most_common(3))
    single = {model.name for model in settings.models if len(model.targets) == 1}
    alone = sum(fact.model in single for fact in failed)
    advice = "Give models that have one target a second one" if alone else "Look at what fails"
    at = [fact.at for fact in failed]
    yield Suggestion(
        "errors",
        f"{advice}: {len(failed) / len(facts):.1%} of the calls failed ({common})",
        {},
        "rule",
        usd=money(at, [fact.cost_pusd or 0 for fact in failed]),
        calls=interval(at, [fact.attempts for fact in failed]),
        seconds=interval(at, [fact.seconds for fact in failed]),
        but="the saving is what the failed calls took, if none of them failed",
    )


def _limits(facts: Sequence[Fact]) -> Iterator[Suggestion]:
    limited = [fact for fact in facts if fact.outcome == _LIMITED]
    if len(limited) <= RATE_LIMITED * len(facts):
        return
    at = [fact.at for fact in limited]
    yield Suggestion(
        "rate_limits",
        f"Set providers[].limits to the provider's requests and tokens a minute: {len(limited) / len(facts):.1%} of "
        "the calls were refused for a limit, where they could have waited their turn",
        {},
        "rule",
        calls=interval(at, [fact.attempts for fact in limited]),
        seconds=interval(at, [fact.seconds for fact in limited]),
        but="calls wait instead of failing",
    )


def _hits(facts: Sequence[Fact]) -> Iterator[Suggestion]:
    rate = sum(fact.from_cache for fact in facts) / len(facts)
    keyed = [fact for fact in facts if fact.key]
    if rate >= HIT_RATE or not keyed:
        return
    again = 1 - len({fact.key for fact in keyed}) / len(keyed)
    if again < HIT_RATE:
        yield Suggestion(
            "hit_rate",
            f"Look at what makes requests differ: only {again:.0%} of them were asked before word for word, so no "
            f"setting of the exact cache can answer more than that; {rate:.0%} were answered from it. Times, request "
            "numbers and user names in prompts are the usual reasons",
            {},
            "rule",
        )


def _slow_and_dear(facts: Sequence[Fact]) -> Iterator[Suggestion]:
    asked = [fact for fact in facts if fact.attempts]
    if not asked:
        return
    mean_s = sum(fact.seconds for fact in facts) / len(facts)
    mean_usd = sum(fact.cost_pusd or 0 for fact in facts) / len(facts) / 1e12
    if mean_usd > COST_USD:
        dear = Counter[str]()
        for fact in asked:
            dear[fact.model] += fact.cost_pusd or 0
        model, cost = dear.most_common(1)[0]
        share = cost / max(sum(dear.values()), 1)
        yield Suggestion(
            "cost",
            f"Try a smaller model for {model}, which makes {share:.0%} of the cost: a call costs "
            f"${mean_usd:.4f} on average",
            {},
            "rule",
            but="whether its answers are good enough only a comparison can say",
        )
    if mean_s > SECONDS and not any(fact.stream for fact in asked):
        yield Suggestion(
            "latency",
            f"Stream answers: a call takes {mean_s:.1f} s on average and none was a stream, whose first words come "
            "much sooner",
            {},
            "rule",
        )
