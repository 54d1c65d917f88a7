"""What users may implement themselves. Every interface has a conformance test in `penstock.testing`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec

from penstock.core.alert import AlertEvent
from penstock.core.budget import Ask, Budget, BudgetEvent, BudgetState, Granted, Move
from penstock.core.call import Attempt, Call
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import Target
from penstock.core.usage import Usage


class ModelInfo(msgspec.Struct, frozen=True):
    """A model a provider offers: its id and, if known, when it was made (Unix seconds) and by whom."""

    id: str
    created: int = 0
    owned_by: str = ""


class Provider(Protocol):
    """Something that answers requests with a model."""

    name: str
    """The provider's name in the configuration."""

    async def send(self, request: Request, target: Target) -> Response:
        """Make one attempt at `request` on `target`, without retries.

        A live stream is returned only when its first event is there, so that failures before it can still be answered
        by another target. A stream that ends without a finish reason raises `upstream_incomplete` from the iteration.

        Raises:
            ProviderError: The attempt failed.
        """

    async def models(self) -> list[ModelInfo]:
        """List the models on offer.

        Raises:
            ProviderError: The provider cannot be asked.
        """

    async def aclose(self) -> None:
        """Close connections."""


class HttpRequest(msgspec.Struct, frozen=True):
    """One HTTP request to an upstream.

    Attributes:
        method: ``GET`` or ``POST``.
        path: Path and query below the transport's origin, with a leading slash.
        headers: Lower-case names; `host`, `content-length`, `connection` and `accept-encoding` are the transport's.
        body: The body, empty for none.
        deadline: Event loop time at which the whole exchange is over; None for no limit beyond the phases'.
    """

    method: str
    path: str
    headers: Sequence[tuple[str, str]]
    body: bytes = b""
    deadline: float | None = None


class HttpReply(Protocol):
    """An upstream's answer whose headers have arrived."""

    status: int
    headers: Mapping[str, str]
    """Lower-case names; of repeated fields the values joined with a comma."""

    async def read(self) -> bytes:
        """Return the whole body, decoded.

        Raises:
            ProviderError: As the iteration.
        """

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate the decoded body as it arrives.

        Raises:
            ProviderError: ``upstream_timeout``, ``upstream_incomplete`` or ``upstream_invalid`` (framing, size).
        """

    async def aclose(self) -> None:
        """Done with it: an unfinished exchange closes its connection, a finished one gives it back to the pool."""


class Transport(Protocol):
    """A pool of connections to one origin."""

    async def send(self, request: HttpRequest) -> HttpReply:
        """Send `request` and wait for the answer's headers.

        Raises:
            ProviderError: ``upstream_connect``, ``upstream_dns``, ``upstream_tls``, ``upstream_timeout``,
                ``upstream_incomplete`` or ``upstream_invalid``.
        """

    async def aclose(self) -> None:
        """Close all connections."""


@runtime_checkable
class Connected(Protocol):
    """A transport or a provider that can say how many connections it has."""

    @property
    def connections(self) -> tuple[int, int]:
        """How many are in use, counting those being made, and how many idle."""


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


class Ledger(Protocol):
    """Where every answer and every attempt is recorded."""

    def reserve(self, request: Request, attempt: Attempt, expected: Usage) -> None:
        """Write down that `attempt` is about to be sent, so that it is known whatever happens. Never waits.

        Args:
            request: What is asked; its call's attempts are those made before.
            attempt: The new one.
            expected: Tokens that will be sent; of the output nothing is known.

        Raises:
            StoreError: ``ledger_unavailable``: it cannot be written down, so it must not be sent.
        """

    def release(self, request: Request, attempt: Attempt) -> None:
        """Nothing was sent for `attempt`, of which `reserve` was told. Never waits, never raises."""

    def record(self, request: Request, call: Call, *, duration_s: float, outcome: str) -> None:
        """Take the rows of one finished call: one for the answer, one an attempt. Never waits, never raises.

        When it returns, a call with attempts survives the end of the process.
        """

    async def flush(self) -> None:
        """Wait until everything queued so far is on disk."""


class CompletionStore(Protocol):
    """Stored completions (``store: true``), always inside one tenant."""

    async def create(self, tenant: str, completion: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> None:
        """Keep `completion` (a ``chat.completion`` object with `metadata`) and the messages it answered."""

    async def retrieve(self, tenant: str, completion_id: str) -> dict[str, Any] | None:
        """Return the completion, or None."""

    async def messages(self, tenant: str, completion_id: str) -> list[dict[str, Any]] | None:
        """Return the messages it answered, each with an ``id``, oldest first; None when there is no such completion."""

    async def list(
        self, tenant: str, *, after: str | None, limit: int, order: str, model: str | None, metadata: Mapping[str, str]
    ) -> tuple[Sequence[dict[str, Any]], bool]:
        """Return a page, and whether there is more; `order` is ``asc`` or ``desc`` by creation."""

    async def update(self, tenant: str, completion_id: str, metadata: Mapping[str, str]) -> dict[str, Any] | None:
        """Replace the metadata; return the completion, or None."""

    async def delete(self, tenant: str, completion_id: str) -> bool:
        """Remove it; False when there is none."""


class KeyRecord(msgspec.Struct, frozen=True):
    """A key at rest. Times are seconds since the epoch.

    Attributes:
        id: Its name in records and in the API; no secret.
        digest: A keyed hash of it (32 bytes).
        hint: Its last characters.
        name: What people call it.
        tenant: Whose requests it makes.
        role: ``viewer``, ``user`` or ``admin``.
        models: Names and patterns of the models it may ask for; None is all.
        requests_per_minute: None is no limit.
        tokens_per_minute: None is no limit.
        created_at: When it was made.
        created_by: The key that made it, ``root``, or ``cli``.
        expires_at: When it ends; None is never.
        revoked_at: When it was ended.
        replaces: The key it was rotated from.
        seal: A keyed hash of `id`, which shows whether the secret is that of when it was made; None if nobody knows.
    """

    id: str
    digest: bytes
    hint: str
    name: str
    tenant: str
    role: str
    models: list[str] | None
    requests_per_minute: int | None
    tokens_per_minute: int | None
    created_at: float
    created_by: str | None = None
    expires_at: float | None = None
    revoked_at: float | None = None
    replaces: str | None = None
    seal: bytes | None = None


class TeamRecord(msgspec.Struct, frozen=True):
    """A team, or an organisation. Times are seconds since the epoch.

    Attributes:
        tenant: ``organisation/team``, or ``organisation`` for what holds for all its teams together.
        name: What people call it.
        models: Names and patterns of the models its keys may ask for; None is all.
        requests_per_minute: Of all its keys together; None is no limit.
        tokens_per_minute: Of all its keys together; None is no limit.
        created_at: When it was made.
        archived_at: Since when its keys are not valid.
    """

    tenant: str
    name: str
    models: list[str] | None
    requests_per_minute: int | None
    tokens_per_minute: int | None
    created_at: float
    archived_at: float | None = None


class Directory(msgspec.Struct, frozen=True):
    """All keys and teams, oldest first, and the version they are of."""

    version: int
    keys: Sequence[KeyRecord] = ()
    teams: Sequence[TeamRecord] = ()


class KeyStore(Protocol):
    """Where keys and teams are kept. Changes return when they are at rest; all methods may raise `StoreError`."""

    async def secret(self, *, create: bool) -> bytes | None:
        """Return what keys are hashed with, kept apart from them; None when there is none yet and `create` is false."""

    async def version(self) -> int:
        """Return a number that every change by any process raises; asked every second."""

    async def directory(self) -> Directory:
        """Return everything."""

    async def add_key(self, key: KeyRecord, *, retire: tuple[str, float] | None = None) -> bool:
        """Add a key and, in one step with it, let another one expire.

        Args:
            key: The new key.
            retire: Another key's id, and when it ends.

        Returns:
            False, and nothing is changed, when the one to retire is not there or was revoked.
        """

    async def change_key(self, key_id: str, changes: Mapping[str, Any]) -> bool:
        """Change only the named fields; False when there is no such key."""

    async def delete_key(self, key_id: str) -> bool:
        """Remove it; False when there is none."""

    async def add_team(self, team: TeamRecord) -> bool:
        """Add a team; False when it exists."""

    async def change_team(self, tenant: str, changes: Mapping[str, Any]) -> bool:
        """Change only the named fields; False when there is no such team."""


class AlertStore(Protocol):
    """The history of alerts."""

    def record(self, event: AlertEvent) -> None:
        """Queue an event. Never waits, never raises."""

    async def events(self, limit: int) -> Sequence[AlertEvent]:
        """Return the newest events, newest first.

        Raises:
            StoreError: They could not be read.
        """


class BudgetStore(Protocol):
    """Where budgets are kept, and what is spent and held of them; all `async` methods may raise `StoreError`.

    What calls cost is added to what is spent with their rows in the ledger, whoever wrote them.
    """

    shared: bool
    """Other processes may use and change the same budgets."""

    on_event: Callable[[BudgetEvent], None]
    """Called, on the event loop, when a share in `Budget.soft` is spent: once a period, in one process."""

    def configure(self, budgets: Sequence[Budget]) -> None:
        """Count for these budgets too, besides those that are kept here."""

    async def version(self) -> int:
        """Return a number that every change by any process raises; asked every second."""

    async def load(self) -> Sequence[Budget]:
        """Return the budgets that are kept here, oldest first."""

    async def put(self, budget: Budget) -> None:
        """Add a budget, or replace the one of the same id, which keeps what was spent."""

    async def delete(self, budget_id: str) -> bool:
        """Remove a budget and what is known of it; False when there is none."""

    async def state(self, budget_id: str, start: int) -> BudgetState:
        """Return one period of a budget."""

    async def take(self, asks: Sequence[Ask]) -> Sequence[Granted]:
        """Hold for this process what `asks` want, as far as there is something; `penstock.budgeting.bill.grant`."""

    def give(self, budget_id: str, start: int, amount: int) -> None:
        """Give back what this process holds; a negative amount is held in addition, whatever is left. Never waits."""

    def settle(self, ledger_id: int, moves: Sequence[Move]) -> None:
        """When the call of that number is written, let go of what it has spent, in one step with that. Never waits."""

    async def recover(self) -> None:
        """Put what processes that died have left behind into the ledger, and free what they held."""
