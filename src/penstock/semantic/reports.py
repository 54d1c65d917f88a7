"""What is said of the caches to those who operate them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal

import msgspec

from penstock.caching.stats import CacheStats
from penstock.semantic.stats import SemanticStats


class ModelReport(msgspec.Struct):
    """One tenant's use of one model.

    Attributes:
        tenant: The tenant.
        model: The model name as clients write it.
        answers: Answers in the cache.
        questions: Questions in memory that are matched by meaning.
        certificate: What can be said of the answers given by meaning, as `penstock.matching.policy.Certificate` has it;
            None while none were asked for.
    """

    tenant: str
    model: str
    answers: int = 0
    questions: int = 0
    certificate: dict[str, Any] | None = None


class CacheReport(msgspec.Struct):
    """The state of the caches.

    Attributes:
        answers: Answers in the cache.
        memory_bytes: Bytes of those that are in memory.
        questions: Questions in memory that are matched by meaning.
        models: The same by tenant and model.
        exact: What the exact cache has done since the start; None where only some tenants are asked about.
        semantic: What matching by meaning has done since the start; None as above, and while it is off.
    """

    answers: int
    memory_bytes: int
    questions: int
    models: list[ModelReport]
    exact: CacheStats | None = None
    semantic: SemanticStats | None = None


class QuestionReport(msgspec.Struct):
    """A question that is matched by meaning. Times are seconds since the epoch.

    Attributes:
        text: The question.
        asked_at: When it was asked.
        right: How often its answer was found right for another question.
        wrong: How often it was not.
        tags: Labels of the request that asked it.
    """

    text: str
    asked_at: float
    right: float
    wrong: float
    tags: Sequence[str]


class AnswerReport(msgspec.Struct):
    """An answer in the cache. Times are seconds since the epoch.

    Attributes:
        key: The cache key in hexadecimal.
        tenant: Whose it is.
        model: The model name it was asked of.
        stored_at: When it was stored.
        fresh_until: Until when it is given without asking again.
        input_tokens: Tokens that were sent for it; None when unknown.
        output_tokens: Tokens it has; None when unknown.
        saved_usd: What every use of it saves; None when unknown.
        bytes: Its size, if it is in memory.
        tags: Labels of the request it answered.
        questions: Those it answers that are matched by meaning.
    """

    key: str
    tenant: str
    model: str
    stored_at: float
    fresh_until: float
    input_tokens: int | None
    output_tokens: int | None
    saved_usd: Decimal | None
    bytes: int | None
    tags: Sequence[str]
    questions: list[QuestionReport]


class Neighbour(msgspec.Struct):
    """A question near another one.

    Attributes:
        text: The question.
        key: The cache key of its answer in hexadecimal.
        fresh: Whether that may be given now.
        features: What the probability is computed from, by name.
        veto: The difference that forbids its answer, if there is one.
        probability: That its answer is right for the other question.
    """

    text: str
    key: str
    fresh: bool
    features: dict[str, float]
    veto: str | None
    probability: float


class Explanation(msgspec.Struct):
    """What the caches would do with a request.

    Attributes:
        tenant: Whose request.
        model: The model name.
        key: The request's cache key in hexadecimal.
        exact: What the exact cache has: ``hit``, ``miss``, ``stale``, or ``bypass``.
        mode: What is done by meaning: ``off``, ``shadow`` or ``on``.
        serves: Whether an answer would be given by meaning.
        reason: Why, or why not.
        question: What is matched; None when nothing can be.
        partition: Digest of all else that must be the same, in hexadecimal.
        nearest: The nearest questions, nearest first; the decision is about the first that is fresh.
        certificate: As in `ModelReport`.
    """

    tenant: str
    model: str
    key: str
    exact: str
    mode: str
    serves: bool
    reason: str
    question: str | None = None
    partition: str | None = None
    nearest: list[Neighbour] = []
    certificate: dict[str, Any] | None = None


class Removed(msgspec.Struct):
    """What was removed.

    Attributes:
        answers: Answers.
        questions: Questions; those that left with their answers are not counted.
        learnt: Models that what was learnt of them was forgotten of.
    """

    answers: int = 0
    questions: int = 0
    learnt: int = 0


class Optimized(msgspec.Struct):
    """What was put in order.

    Attributes:
        partitions: Partitions whose index is built anew when they are asked of next.
        free_bytes: Bytes of the store's file that are free for what comes next; None when it keeps no file.
    """

    partitions: int
    free_bytes: int | None


class Warmed(msgspec.Struct, omit_defaults=True):
    """What came of one question.

    Attributes:
        line: Its place in the list, from 1.
        outcome: ``asked`` (of a provider), ``known`` (answered from the cache), ``seeded`` (its answer was given), or
            ``failed``.
        code: Which error, if it failed.
        message: What was wrong.
    """

    line: int
    outcome: Literal["asked", "known", "seeded", "failed"]
    code: str | None = None
    message: str | None = None


class Imported(msgspec.Struct):
    """What was taken in.

    Attributes:
        answers: Answers that are new here.
        questions: Questions that are new here.
        skipped: Answers that are here already, or too old.
    """

    answers: int = 0
    questions: int = 0
    skipped: int = 0
