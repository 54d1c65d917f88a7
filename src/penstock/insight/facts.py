"""A call as replaying needs it: when, what was asked (a digest), how large, how long, how dear. No text."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from penstock.core.call import CACHED

_UNASKED = frozenset({*CACHED, "collapsed"})
PURPOSE = "penstock-"
"""How the operations of calls begin that Penstock makes on its own."""
AUDIT = PURPOSE + "audit"
"""Those that ask again what was answered by meaning."""


class Fact(msgspec.Struct, frozen=True, gc=False):
    """One call of the ledger.

    Attributes:
        at: When it began, seconds since the epoch.
        tenant: Whose it was.
        operation: chat, completions or embeddings.
        model: The model name it asked for.
        provider: The provider that answered; empty for an answer from the cache.
        provider_model: Its name for the model.
        stream: It was a stream.
        outcome: How it ended.
        cache: How a cache took part; empty when none did.
        finish_reason: Why the answer ended.
        input_tokens: Prompt tokens, 0 when unknown.
        output_tokens: Generated tokens, 0 when unknown.
        cached_tokens: Part of the input read from the provider's prompt cache.
        cost_pusd: What it cost, picodollars; None when that is unknown.
        saved_pusd: What a hit would have cost.
        seconds: How long it took.
        attempts: Number of tries.
        key: The beginning of the exact cache's key; empty when none was computed.
        answer_bytes: Size of the answer, 0 when unknown.
        semantic: What matching by meaning found, as `penstock.core.call.Call.semantic`.
        semantic_key: The beginning of the key of the answer it found; empty when it found none.
        semantic_audit: With which probability that answer is checked, or would be; None when it found none.
        tags: Its labels.
        name: What the client calls the operation.
    """

    at: float
    tenant: str = "default"
    operation: str = "chat"
    model: str = ""
    provider: str = ""
    provider_model: str = ""
    stream: bool = False
    outcome: str = "ok"
    cache: str = ""
    finish_reason: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_pusd: int | None = 0
    saved_pusd: int | None = None
    seconds: float = 0.0
    attempts: int = 0
    key: bytes = b""
    answer_bytes: int = 0
    semantic: str = ""
    semantic_key: bytes = b""
    semantic_audit: float | None = None
    tags: tuple[str, ...] = ()
    name: str = ""

    @property
    def from_cache(self) -> bool:
        """It was answered from the cache."""
        return self.cache in CACHED


class Question(msgspec.Struct, frozen=True, gc=False):
    """A call the caches can answer, with what it takes when they do not.

    Attributes:
        at: When it was asked.
        key: What was asked.
        model: The model name it asked for.
        cost_pusd: What a provider's answer costs, picodollars.
        seconds: How long a provider's answer takes.
        input_tokens: Tokens it takes.
        output_tokens: Tokens it makes.
        size: Bytes of the answer.
        storable: The answer may be kept.
        alike: Keys of other questions that were, or would have been, given this one's answer, or this one theirs.
        matched: False when matching by meaning found nothing to give; True when it found something, or was not asked.
        audit: With which probability an answer by meaning was, or would have been, checked; None is not known.
    """

    at: float
    key: bytes
    model: str
    cost_pusd: int
    seconds: float
    input_tokens: int
    output_tokens: int
    size: int
    storable: bool
    alike: tuple[bytes, ...] = ()
    matched: bool = True
    audit: float | None = None


def questions(facts: Iterable[Fact]) -> list[Question]:
    """Return the calls the exact cache takes part in, or would if it were on, in order of time; audits are left out.

    What a hit would have cost is on the ledger; how long it would have taken, and how large it is, is what the last
    provider's answer to the same question took, or else the median of its model.
    """
    taking = sorted((fact for fact in facts if fact.key and fact.cache != "bypass" and fact.name != AUDIT),
                    key=lambda fact: fact.at)  # fmt: skip
    usual, alike = _medians(taking), _alike(taking)
    known: dict[bytes, Question] = {}
    audits: dict[bytes, float] = {}
    found: list[Question] = []
    for fact in taking:
        earlier = known.get(fact.key)
        if fact.semantic_audit is not None:
            audits[fact.key] = fact.semantic_audit
        if fact.cache in _UNASKED:
            cost = fact.saved_pusd if fact.saved_pusd is not None else earlier.cost_pusd if earlier else 0
            seconds = earlier.seconds if earlier else usual.get(fact.model, fact.seconds)
            size = earlier.size if earlier else fact.answer_bytes
            storable = earlier.storable if earlier else True
        else:
            cost, seconds, size = fact.cost_pusd or 0, fact.seconds, fact.answer_bytes
            storable = fact.outcome == "ok" and fact.finish_reason in ("stop", None)
        question = Question(
            fact.at, fact.key, fact.model, cost, seconds, fact.input_tokens, fact.output_tokens, size, storable,
            alike.get(fact.key, ()), fact.semantic != "miss", audits.get(fact.key),
        )  # fmt: skip
        if fact.cache not in _UNASKED:
            known[fact.key] = question
        found.append(question)
    return found


def _medians(facts: Sequence[Fact]) -> dict[str, float]:
    """Median seconds of a provider's answer, by model."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for fact in facts:
        if fact.cache not in _UNASKED and fact.outcome == "ok":
            seconds[fact.model].append(fact.seconds)
    return {model: statistics.median(each) for model, each in seconds.items()}


def _alike(facts: Iterable[Fact]) -> dict[bytes, tuple[bytes, ...]]:
    """Name, for each question, those of which one was, or would have been, given the other's answer."""
    found: dict[bytes, dict[bytes, None]] = defaultdict(dict)
    for fact in facts:
        if fact.semantic_key and fact.semantic_key != fact.key:
            found[fact.key][fact.semantic_key] = found[fact.semantic_key][fact.key] = None
    return {key: tuple(others) for key, others in found.items()}
