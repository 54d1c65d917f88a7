"""The caches and the joining of identical requests, run again over old calls with any settings.

The decisions are those of the gateway: `penstock.caching.freshness.decide` and `penstock.caching.entries.Entries`.
What a client said about caching in single requests is not on the ledger, so all are taken as ordinary ones.

There is no text on the ledger to match by meaning. But there is the key of the answer that matching gave, or would have
given, so it is known which questions can have each other's answers. Such a question is answered at no cost while one of
these answers is fresh in the replayed cache, unless matching found nothing to give when it was asked. A part is asked
again, with the probability that matching would have had: it checks more while it has learnt little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from random import Random

import msgspec

from penstock.abc import StoredAnswer
from penstock.caching.entries import Entries, Entry
from penstock.caching.freshness import Verdict, decide
from penstock.core.request import NO_DIRECTIVES
from penstock.insight.facts import Question


class CachePolicy(msgspec.Struct, frozen=True):
    """What decides which calls are answered without a provider; see `penstock.config.settings.CacheSettings`.

    Attributes:
        enabled: There is an exact cache.
        ttl_s: How long an answer stays fresh.
        ttls: The same for single models, by the name clients use.
        max_entries: Answers kept.
        max_entry_bytes: Size of the largest that is kept.
        stale_while_revalidate_s: How long a stale answer is given while it is renewed.
        coalesce: Identical requests at the same time make one call.
        by_meaning: The models whose questions are answered by meaning.
        audit: Share of these answers that are asked for again, where the ledger does not say it.
    """

    enabled: bool = True
    ttl_s: float = 7200.0
    ttls: Mapping[str, float] = {}
    max_entries: int = 10_000
    max_entry_bytes: int = 4 * 1024 * 1024
    stale_while_revalidate_s: float = 0.0
    coalesce: bool = True
    by_meaning: frozenset[str] = frozenset()
    audit: float = 0.0

    def ttl_of(self, model: str) -> float:
        """Seconds an answer of `model` stays fresh."""
        return self.ttls.get(model, self.ttl_s)


class Outcome(msgspec.Struct):
    """What became of each question, in their order.

    Attributes:
        cost_pusd: What it cost, picodollars.
        asked: Calls to providers it made.
        waited_s: How long the client waited.
        hits: Questions answered from the cache.
        joined: Questions answered by another's call.
        meant: Questions answered by meaning.
        audits: How many of these were asked for again.
        ages_s: Ages of the answers from the cache.
    """

    cost_pusd: list[int]
    asked: list[int]
    waited_s: list[float]
    hits: int = 0
    joined: int = 0
    meant: int = 0
    audits: int = 0
    ages_s: list[float] = []


def replay(asked: Sequence[Question], policy: CachePolicy) -> Outcome:
    """Ask all of `asked`, which are in order of time, under `policy`."""
    run = _Run(asked, policy)
    for number, question in enumerate(asked):
        run.ask(number, question)
    return run.outcome


class _Run:
    def __init__(self, asked: Sequence[Question], policy: CachePolicy) -> None:
        self._asked = asked
        self._policy = policy
        self._entries = Entries(policy.max_entries, 0, kept_stale_s=policy.stale_while_revalidate_s)
        self._landing: list[tuple[float, int, Entry | None]] = []
        self._flights: dict[bytes, float] = {}
        self._newest: dict[bytes, bytes] = {}
        self._random = Random(0)
        size = len(asked)
        self.outcome = Outcome([0] * size, [0] * size, [0.0] * size)

    def ask(self, number: int, question: Question) -> None:
        while self._landing and self._landing[0][0] <= question.at:
            self._land(*heappop(self._landing))
        entry = self._entries.find(question.key)
        verdict = decide(entry, question.at, NO_DIRECTIVES, self._policy.stale_while_revalidate_s)
        outcome = self.outcome
        if entry is not None and (verdict is Verdict.HIT or verdict is Verdict.REFRESH):
            entry.touch()
            outcome.hits += 1
            outcome.ages_s.append(question.at - entry.stored_at)
            if verdict is Verdict.REFRESH and self._flights.get(question.key, 0.0) <= question.at:
                self._send(number, question, entry)
            return
        flying_until = self._flights.get(question.key, 0.0)
        if self._policy.coalesce and flying_until > question.at:
            outcome.joined += 1
            outcome.waited_s[number] = flying_until - question.at
            return
        if question.matched and question.alike and question.model in self._policy.by_meaning:
            same = self._entries.find(self._newest.get(question.key, b""))
            if same is not None and decide(same, question.at, NO_DIRECTIVES) is Verdict.HIT:
                same.touch()
                outcome.meant += 1
                chance = self._policy.audit if question.audit is None else question.audit
                if self._random.random() < chance:
                    outcome.audits += 1
                    self._pay(number, question, entry)
                return
        outcome.waited_s[number] = question.seconds
        self._send(number, question, entry)

    def _send(self, number: int, question: Question, seen: Entry | None) -> None:
        self._flights[question.key] = question.at + question.seconds
        self._pay(number, question, seen)

    def _pay(self, number: int, question: Question, seen: Entry | None) -> None:
        end = question.at + question.seconds
        self.outcome.cost_pusd[number] = question.cost_pusd
        self.outcome.asked[number] = 1
        heappush(self._landing, (end, number, seen))

    def _land(self, at: float, number: int, seen: Entry | None) -> None:
        question, policy = self._asked[number], self._policy
        if self._flights.get(question.key, 0.0) <= at:
            self._flights.pop(question.key, None)
        ttl = policy.ttl_of(question.model)
        if not policy.enabled or not question.storable or ttl <= 0 or question.size > policy.max_entry_bytes:
            return
        known = self._entries.find(question.key)
        if known is not None and known is not seen:
            return
        answer = StoredAnswer(
            key=question.key,
            tenant="",
            form="json",
            data=b"",
            stored_at=at,
            fresh_until=at + ttl,
            cost_pusd=question.cost_pusd,
            input_tokens=question.input_tokens,
            output_tokens=question.output_tokens,
        )
        self._entries.expire(at)
        self._entries.put(Entry.of(answer))
        for key in question.alike:
            self._newest[key] = question.key
