"""What operating the caches is done with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from penstock.caching.answer_cache import AnswerCache
from penstock.config.semantic import SemanticCacheSettings
from penstock.core.clock import Clock
from penstock.core.handler import Handler
from penstock.core.request import Request
from penstock.semantic.learner import Learner
from penstock.semantic.memory import Memory
from penstock.semantic.warming import Make


class Tools(NamedTuple):
    """What operating the caches needs of the pipeline in force.

    Attributes:
        settings: Of matching by meaning.
        answers: The answers; None while the exact cache is off.
        memory: The questions; None while matching by meaning is off for all.
        learner: What is told labels; None likewise.
        route: Returns a request with where it leads.
        ask: Answers a request through the whole pipeline.
        make: Makes requests.
        compact: Puts the store's file in order; returns how many bytes of it are free, or None.
        clock: Where time comes from.
    """

    settings: SemanticCacheSettings
    answers: AnswerCache | None
    memory: Memory | None
    learner: Learner | None
    route: Callable[[Request], Request]
    ask: Handler
    make: Make
    compact: Callable[[], Awaitable[int | None]]
    clock: Clock
