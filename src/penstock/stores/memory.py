"""Stores that keep nothing beyond the process, for ``store.url: memory:``."""

from __future__ import annotations

import itertools
import secrets
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from penstock.abc import Directory, KeyRecord, Question, StoredAnswer, TeamRecord
from penstock.core.alert import AlertEvent
from penstock.core.call import Attempt, Call
from penstock.core.errors import InvalidRequest
from penstock.core.request import Request
from penstock.core.usage import Usage
from penstock.stores.memory_books import MemoryBooks
from penstock.stores.memory_budgets import MemoryBudgetStore

RECENT = 1000
COMPLETIONS = 1000
COMPLETION_BYTES = 64 * 1024 * 1024
"""Most bytes of stored completions and the messages they answered, as JSON without the metadata, which has limits."""


class MemoryCacheStore:
    """Stores nothing: what the cache itself holds in memory is all there is."""

    async def index(self) -> Sequence[StoredAnswer]:
        """Nothing survived."""
        return ()

    async def get(self, key: bytes) -> StoredAnswer | None:
        """Nothing is here."""
        return None

    def put(self, answer: StoredAnswer) -> None:
        """Keep nothing."""

    def delete(self, keys: Iterable[bytes]) -> None:
        """There is nothing to delete."""


class MemoryQuestionStore:
    """Stores nothing: what the semantic cache itself holds in memory is all there is."""

    async def partitions(self) -> Mapping[bytes, int]:
        """Nothing survived."""
        return {}

    async def load(self, partition: bytes) -> Sequence[Question]:
        """Nothing is here."""
        return ()

    async def page(self, tenant: str | None = None, *, after: int = 0, limit: int = 1000) -> Sequence[Question]:
        """Nothing is here."""
        return ()

    def put(self, question: Question) -> None:
        """Keep nothing."""

    def judge(self, question_id: int, right: float, wrong: float) -> None:
        """There is nothing to judge."""

    def delete(self, ids: Iterable[int]) -> None:
        """There is nothing to delete."""

    async def learnt(self) -> Mapping[str, bytes]:
        """Nothing survived."""
        return {}

    def keep(self, name: str, state: bytes) -> None:
        """Keep nothing."""


class MemoryStateStore:
    """Keeps states as long as the process lives."""

    def __init__(self) -> None:
        self._states: dict[str, bytes] = {}

    async def load(self, prefix: str = "") -> Mapping[str, bytes]:
        """Return all states whose name begins with `prefix`, by name."""
        return {name: self._states[name] for name in sorted(self._states) if name.startswith(prefix)}

    async def save(self, name: str, state: bytes) -> None:
        """Keep a state in place of the one of the same name."""
        self._states[name] = state

    async def delete(self, name: str) -> bool:
        """Remove a state; False when there is none."""
        return self._states.pop(name, None) is not None


class Recorded(NamedTuple):
    """One finished call."""

    call: Call
    tenant: str
    operation: str
    model: str
    stream: bool
    tags: tuple[str, ...]
    metadata: Mapping[str, str] | None
    duration_s: float
    outcome: str


class MemoryLedger:
    """Keeps the newest `RECENT` calls.

    Attributes:
        recent: The calls, oldest first.
    """

    def __init__(self, books: MemoryBooks | None = None, budgets: MemoryBudgetStore | None = None) -> None:
        self.recent: deque[Recorded] = deque(maxlen=RECENT)
        self._books = books
        self._budgets = budgets
        self._idents = itertools.count(1)
        self._recorded = 0

    def finished(self) -> Iterable[tuple[int, Recorded]]:
        """Return the calls, oldest first, each with its number."""
        return enumerate(self.recent, self._recorded - len(self.recent) + 1)

    def reserve(self, request: Request, attempt: Attempt, expected: Usage) -> None:
        """Number the call; nothing survives the process."""
        known = next((each.ledger_id for each in request.call.attempts if each.ledger_id), 0)
        attempt.ledger_id = known or next(self._idents)

    def release(self, request: Request, attempt: Attempt) -> None:
        """Nothing was reserved."""

    def record(self, request: Request, call: Call, *, duration_s: float, outcome: str) -> None:
        """Keep one finished call, without its body."""
        labels = request.tags, request.metadata
        kind = request.tenant, request.operation, request.model, request.stream
        self._recorded += 1
        self.recent.append(Recorded(call, *kind, *labels, duration_s, outcome))
        if self._books is not None:
            self._books.count(request, call, duration_s, outcome)
        if self._budgets is not None:
            self._budgets.count(request, call)

    async def flush(self) -> None:
        """Nothing is ever waiting."""


class _Kept(NamedTuple):
    """One completion; what may be large is JSON, whose size is known."""

    position: tuple[int, str]
    model: object
    metadata: dict[str, str]
    body: bytes
    messages: bytes

    @property
    def size(self) -> int:
        return len(self.body) + len(self.messages)

    def read(self) -> dict[str, Any]:
        return {**msgspec.json.decode(self.body), "metadata": dict(self.metadata)}


class MemoryCompletionStore:
    """Keeps the completions stored last, `COMPLETIONS` and `COMPLETION_BYTES` of all tenants together."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._size = 0

    async def create(self, tenant: str, completion: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> None:
        """Keep `completion` and the messages it answered; replaces one of the same id."""
        ident = completion["id"]
        kept = _Kept(
            position=(int(completion.get("created") or 0), ident),
            model=completion.get("model"),
            metadata=dict(completion.get("metadata") or {}),
            body=msgspec.json.encode({name: value for name, value in completion.items() if name != "metadata"}),
            messages=msgspec.json.encode([{**each, "id": f"{ident}-{index}"} for index, each in enumerate(messages)]),
        )
        self._drop((tenant, ident))
        if kept.size > COMPLETION_BYTES:
            return
        while self._kept and (len(self._kept) >= COMPLETIONS or self._size + kept.size > COMPLETION_BYTES):
            self._drop(next(iter(self._kept)))
        self._kept[tenant, ident] = kept
        self._size += kept.size

    async def retrieve(self, tenant: str, completion_id: str) -> dict[str, Any] | None:
        """Return the completion, or None."""
        kept = self._kept.get((tenant, completion_id))
        return None if kept is None else kept.read()

    async def messages(self, tenant: str, completion_id: str) -> list[dict[str, Any]] | None:
        """Return the messages it answered, each with an ``id``, oldest first; None when there is no such completion."""
        kept = self._kept.get((tenant, completion_id))
        return None if kept is None else msgspec.json.decode(kept.messages)

    async def list(
        self, tenant: str, *, after: str | None, limit: int, order: str, model: str | None, metadata: Mapping[str, str]
    ) -> tuple[Sequence[dict[str, Any]], bool]:
        """Return a page, and whether there is more; `order` is ``asc`` or ``desc`` by creation.

        Raises:
            InvalidRequest: There is no completion `after`.
        """
        down = order == "desc"
        found = [
            kept
            for (owner, _), kept in self._kept.items()
            if owner == tenant and (model is None or kept.model == model) and metadata.items() <= kept.metadata.items()
        ]
        if after is not None:
            last = self._kept.get((tenant, after))
            if last is None:
                raise InvalidRequest(f"There is no stored completion {after[:200]!r} to list after.", param="after")
            edge = last.position
            found = [kept for kept in found if (kept.position < edge if down else kept.position > edge)]
        found.sort(key=lambda kept: kept.position, reverse=down)
        return [kept.read() for kept in found[:limit]], len(found) > limit

    async def update(self, tenant: str, completion_id: str, metadata: Mapping[str, str]) -> dict[str, Any] | None:
        """Replace the metadata; return the completion, or None."""
        kept = self._kept.get((tenant, completion_id))
        if kept is None:
            return None
        kept = self._kept[tenant, completion_id] = kept._replace(metadata=dict(metadata))
        return kept.read()

    async def delete(self, tenant: str, completion_id: str) -> bool:
        """Remove it; False when there is none."""
        return self._drop((tenant, completion_id))

    def _drop(self, key: tuple[str, str]) -> bool:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._size -= kept.size
        return kept is not None


class MemoryKeyStore:
    """Keeps keys and teams while the process lives."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._version = 0
        self._keys: dict[str, KeyRecord] = {}
        self._teams: dict[str, TeamRecord] = {}

    async def secret(self, *, create: bool) -> bytes | None:
        """What keys are hashed with."""
        return self._secret

    async def version(self) -> int:
        """The number of changes."""
        return self._version

    async def directory(self) -> Directory:
        """Everything."""
        return Directory(self._version, list(self._keys.values()), list(self._teams.values()))

    async def add_key(self, key: KeyRecord, *, retire: tuple[str, float] | None = None) -> bool:
        """Add a key; let another one expire."""
        if retire is not None:
            old = self._keys.get(retire[0])
            if old is None or old.revoked_at is not None:
                return False
            self._keys[old.id] = msgspec.structs.replace(old, expires_at=retire[1])
        self._keys[key.id] = key
        self._version += 1
        return True

    async def change_key(self, key_id: str, changes: Mapping[str, Any]) -> bool:
        """Change the named fields."""
        if key_id not in self._keys:
            return False
        self._keys[key_id] = msgspec.structs.replace(self._keys[key_id], **changes)
        self._version += 1
        return True

    async def delete_key(self, key_id: str) -> bool:
        """Remove it."""
        if self._keys.pop(key_id, None) is None:
            return False
        self._version += 1
        return True

    async def add_team(self, team: TeamRecord) -> bool:
        """Add a team, once."""
        if team.tenant in self._teams:
            return False
        self._teams[team.tenant] = team
        self._version += 1
        return True

    async def change_team(self, tenant: str, changes: Mapping[str, Any]) -> bool:
        """Change the named fields."""
        if tenant not in self._teams:
            return False
        self._teams[tenant] = msgspec.structs.replace(self._teams[tenant], **changes)
        self._version += 1
        return True


class MemoryAlertStore:
    """Keeps the newest events."""

    def __init__(self) -> None:
        self._events: deque[AlertEvent] = deque(maxlen=RECENT)

    def record(self, event: AlertEvent) -> None:
        """Keep an event."""
        self._events.append(event)

    async def events(self, limit: int) -> Sequence[AlertEvent]:
        """Return the newest events, newest first."""
        return list(self._events)[::-1][:limit]
