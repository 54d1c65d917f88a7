"""From the calls of a period to suggestions, best first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

import msgspec

from penstock.config.settings import Settings
from penstock.core.money import to_usd
from penstock.insight.caching import policy_of, suggest_caching
from penstock.insight.facts import Fact, questions
from penstock.insight.meaning import modes_of, suggest_meaning
from penstock.insight.replay import replay
from penstock.insight.routing import suggest_batches, suggest_routing
from penstock.insight.rules import suggest_by_rule
from penstock.insight.suggestion import Price, Suggestion

_DAY_S = 86_400.0


class Fidelity(msgspec.Struct, frozen=True):
    """How well replaying the settings in force tells what happened under them.

    Attributes:
        asked: Calls the cache took part in, which were replayed.
        hits: Answers from the cache, or of another's call, on the ledger.
        replayed_hits: The same in the replay.
    """

    asked: int
    hits: int
    replayed_hits: int


class Suggestions(msgspec.Struct, frozen=True):
    """What would have been better in a period.

    Attributes:
        since: When the first call began, seconds since the epoch.
        until: When the last one began.
        calls: Calls that were looked at.
        cost_usd: What they cost, as far as that is known.
        unpriced: Calls whose cost is not known; nothing is saved on them in dollars.
        fidelity: How far to trust replays.
        suggestions: Best first.
        unlisted: Hits of the period that were only added up (`store.hit_rows_per_s`), so nothing is said of them.
    """

    since: float
    until: float
    calls: int
    cost_usd: Decimal
    unpriced: int
    fidelity: Fidelity
    suggestions: list[Suggestion]
    unlisted: int = 0

    @property
    def days(self) -> float:
        """Length of the period."""
        return (self.until - self.since) / _DAY_S


def suggest(
    facts: Sequence[Fact], settings: Settings, price: Price, said: Callable[[str], None] = lambda _: None
) -> Suggestions:
    """Look for settings under which the calls of the past would have taken less.

    Args:
        facts: The calls, in any order.
        settings: What is in force; the calls are taken to have been made under it.
        price: Prices tokens at any configured target.
        said: Told of each replay before it begins.
    """
    facts = sorted(facts, key=lambda fact: fact.at)
    asked, modes = questions(facts), modes_of(settings, facts)
    policy = policy_of(settings, modes.on())
    said("under the settings in force")
    base = replay(asked, policy)
    found = [
        *suggest_caching(asked, policy, base, said),
        *suggest_meaning(facts, asked, settings, modes, policy, base, said),
        *suggest_routing(facts, settings, price),
        *suggest_batches(facts, settings),
        *suggest_by_rule(facts, settings),
    ]
    return Suggestions(
        since=facts[0].at if facts else 0.0,
        until=facts[-1].at if facts else 0.0,
        calls=len(facts),
        cost_usd=to_usd(sum(fact.cost_pusd or 0 for fact in facts)),
        unpriced=sum(fact.cost_pusd is None for fact in facts),
        fidelity=Fidelity(
            asked=len(asked),
            hits=sum(fact.from_cache or fact.cache == "collapsed" for fact in facts),
            replayed_hits=base.hits + base.joined + base.meant,
        ),
        suggestions=sorted(found, key=lambda suggestion: suggestion.rank, reverse=True),
    )
