"""Caches at rest, and what finds a question in other words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from penstock.core.request import Request


class StoredAnswer(msgspec.Struct, frozen=True, gc=False):
    """An answer at rest in a cache.

    Attributes:
        key: SHA-256 of what was asked (32 bytes).
        tenant: Whose it is.
        form: ``json`` for a whole answer, ``events`` for a stream's chunks, one JSON document a line.
        data: The answer, as `form` says.
        stored_at: Seconds since the epoch.
        fresh_until: Seconds since the epoch.
        cost_pusd: What getting it cost, in picodollars (1e-12 USD); 0 when unknown.
        input_tokens: Tokens asking it again would send.
        output_tokens: Tokens asking it again would generate.
        finish_reason: Why the answer ended.
        model: The model name it was asked of.
        tags: Labels of the request it answered, by which it can be cleared.
    """

    key: bytes
    tenant: str
    form: str
    data: bytes
    stored_at: float
    fresh_until: float
    cost_pusd: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    finish_reason: str | None = None
    model: str = ""
    tags: tuple[str, ...] = ()


class CacheStore(Protocol):
    """Where cached answers survive a restart. Writes are queued and never wait; reads may."""

    async def index(self) -> Sequence[StoredAnswer]:
        """All entries with empty `data`, oldest first; called once at start."""

    async def get(self, key: bytes) -> StoredAnswer | None:
        """Return one entry; None when it is gone.

        Raises:
            StoreError: It could not be read.
        """

    def put(self, answer: StoredAnswer) -> None:
        """Queue `answer` for writing; replaces an entry of the same key."""

    def delete(self, keys: Iterable[bytes]) -> None:
        """Queue the removal of `keys`; unknown ones are ignored."""


Vector = Mapping[int, float] | bytes
"""Where a text lies, at length 1: sparse as weights by feature, or dense as float32, little-endian."""


class Embedder(Protocol):
    """Turns texts into vectors that lie close together when the texts mean the same."""

    name: str
    """Names the space, model and version included: vectors of different names are never compared."""

    dimensions: int
    """Numbers in a dense vector; 0 for sparse vectors; -1 until the first dense vector has come."""

    async def embed(self, texts: Sequence[str], behalf: Request | None = None) -> Sequence[Vector]:
        """Return a vector for each text; an empty one where there is nothing to embed.

        Args:
            texts: Any number of texts.
            behalf: The request they are embedded for; what it costs is its tenant's.

        Raises:
            PenstockError: It cannot be done now.
        """

    async def aclose(self) -> None:
        """Free the model."""


class VectorIndex(Protocol):
    """The vectors of one partition."""

    def __len__(self) -> int:
        """How many there are."""

    def add(self, entry: int, vector: Vector) -> None:
        """Add or replace `entry`'s."""

    def remove(self, entry: int) -> None:
        """Forget `entry`, if it is there."""

    def nearest(self, vector: Vector, count: int = 8) -> Sequence[tuple[int, float]]:
        """Return up to `count` entries with their cosines, nearest first; an approximate index may miss some."""


class Question(msgspec.Struct, frozen=True):
    """A question at rest whose answer is in the cache. Times are seconds since the epoch.

    Attributes:
        id: Its number in the store.
        tenant: Whose it is.
        partition: Digest of everything but the question that its answer depends on (32 bytes).
        text: The question.
        key: The cache key of its answer (32 bytes).
        group: Shared by questions whose answers are the same, and by no others (32 bytes).
        model: The model name it was asked of.
        embedder: The name of the space of `vector`.
        vector: Dense; empty where the embedder makes it anew faster than it is read.
        asked_at: When it was asked.
        right: How often its answer was found right for another question.
        wrong: How often it was not.
        tags: Labels it can be cleared by.
    """

    id: int
    tenant: str
    partition: bytes
    text: str
    key: bytes
    group: bytes
    model: str
    embedder: str
    vector: bytes
    asked_at: float
    right: float = 0.0
    wrong: float = 0.0
    tags: Sequence[str] = ()


class QuestionStore(Protocol):
    """Where questions and what was learnt of their answers survive a restart. Writes are queued and never wait."""

    async def partitions(self) -> Mapping[bytes, int]:
        """Return the number of questions of each partition; called once at start.

        Raises:
            StoreError: They could not be read.
        """

    async def load(self, partition: bytes) -> Sequence[Question]:
        """Return one partition's questions, oldest first.

        Raises:
            StoreError: They could not be read.
        """

    async def page(self, tenant: str | None = None, *, after: int = 0, limit: int = 1000) -> Sequence[Question]:
        """Return the next questions by number, oldest first and without their vectors.

        Args:
            tenant: Whose; those of a whole organisation by its name; None for everybody's.
            after: The number of the last one that is known.
            limit: How many at most; fewer are the last.

        Raises:
            StoreError: They could not be read.
        """

    def put(self, question: Question) -> None:
        """Queue `question` for writing; replaces the one of the same number."""

    def judge(self, question_id: int, right: float, wrong: float) -> None:
        """Queue writing how often a question's answer was found right and wrong; an unknown one is ignored."""

    def delete(self, ids: Iterable[int]) -> None:
        """Queue the removal of questions; unknown ones are ignored."""

    async def learnt(self) -> Mapping[str, bytes]:
        """Return what was kept with `keep`, by name.

        Raises:
            StoreError: It could not be read.
        """

    def keep(self, name: str, state: bytes) -> None:
        """Queue `state` for writing under `name`; replaces what was there."""
