"""Checks that an implementation of an interface in `penstock.abc` keeps that interface's promises.

Each is a coroutine to await in a test with an implementation that is open and ready; a broken promise is an
`AssertionError` that says which.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from penstock.abc import (
    BudgetStore,
    CacheStore,
    CompletionStore,
    KeyRecord,
    KeyStore,
    Ledger,
    Provider,
    StoredAnswer,
    TeamRecord,
)
from penstock.core.budget import Ask, Budget, Move
from penstock.core.call import Attempt, Call
from penstock.core.events import Event
from penstock.core.request import Request
from penstock.core.route import Target
from penstock.core.usage import Usage

_PATIENCE_S = 5.0
_decode = msgspec.json.Decoder(dict[str, Any]).decode


async def check_provider(provider: Provider, model: str, *, deterministic: bool = True) -> None:
    """Check a provider: answers to chat whole and as a stream, early close, model list, close.

    Args:
        provider: The provider; closed at the end.
        model: One of its models.
        deterministic: Equal questions get equal answers.
    """
    for row in await provider.models():
        _require(bool(row.id), "models() lists a model without an id")
    target = Target(provider.name, model)
    response = await provider.send(_question(stream=False), target)
    body = await response.read()
    await response.aclose()
    message, finish_reason = _said(body)
    _require(bool(message.get("content")), "the answer has no content")
    _require(bool(finish_reason), "the answer has no finish reason")
    _require(response.usage is not None, "the answer has no usage")
    _require(response.finish_reason == finish_reason, "Response.finish_reason is not the answer's")

    stream = await provider.send(_question(stream=True), target)
    events: list[Event] = []
    async for batch in stream:
        _require(bool(batch), "an empty batch")
        events += [single for event in batch for single in event.singles()]
    await stream.aclose()
    _require(any(event.finish_reason for event in events), "the stream ended without a finish reason")
    _require(stream.usage is not None, "the stream has no usage")
    again = await provider.send(_question(stream=True), target)
    streamed, how = _said(await again.read())
    if deterministic:
        _require(streamed.get("content") == message.get("content"), "the stream says something else than the answer")
        _require(how == finish_reason, "the stream ends for another reason than the answer")
        _require(again.usage == response.usage, "the stream counts other tokens than the answer")

    for read_first in (False, True):
        early = await provider.send(_question(stream=True), target)
        if read_first and not early.whole:
            await anext(aiter(early))
        await early.aclose()
        await early.aclose()
        if not early.whole:
            _require([batch async for batch in early] == [], "a closed stream goes on")
    await provider.aclose()
    await provider.aclose()


async def check_cache_store(store: CacheStore) -> None:
    """Check a cache store: write, read, replace, list, remove; other entries in it do not matter."""
    first, second = _stored(b"one", 1_700_000_000.0), _stored(b"two", 1_700_000_001.0)
    _require(await store.get(first.key) is None, "get() of an unknown key is not None")
    store.put(first)
    store.put(second)
    await _eventually(lambda: _reads(store, first), "an entry that was put cannot be read back unchanged")
    await _eventually(lambda: _reads(store, second), "an entry that was put cannot be read back unchanged")
    newer = msgspec.structs.replace(first, data=b"newer", stored_at=first.stored_at + 10, finish_reason=None)
    store.put(newer)
    await _eventually(lambda: _reads(store, newer), "putting a key again does not replace its entry")
    rows = [row for row in await store.index() if row.key in (first.key, second.key)]
    _require([row.key for row in rows] == [second.key, first.key], "index() does not list each once, oldest first")
    _require(rows[1] == msgspec.structs.replace(newer, data=b""), "index() does not give the entry without its data")
    store.delete([first.key, second.key, os.urandom(32)])
    await _eventually(lambda: _gone(store, first.key), "a deleted entry is still there")
    await _eventually(lambda: _gone(store, second.key), "a deleted entry is still there")


async def check_ledger(ledger: Ledger, count: Callable[[], Awaitable[int]]) -> None:
    """Check a ledger: what was recorded is there after `flush`, what was only reserved is not.

    Args:
        ledger: The ledger.
        count: Returns how many answers the ledger's storage holds.
    """
    before = await count()
    for number in range(3):
        request = _question(stream=False)
        attempts = [Attempt("p", "m", request.call.started, running=True) for _ in range(2)]
        for attempt in attempts:
            ledger.reserve(request, attempt, Usage(3, 0, source="estimate"))
            request.call.attempts.append(attempt)
        ledger.release(request, request.call.attempts.pop())
        attempts[0].outcome = "ok"
        attempts[0].end()
        ledger.record(request, request.call, duration_s=0.1 * number, outcome="ok")
    await ledger.flush()
    _require(await count() == before + 3, "flush() returned before everything recorded was kept, or twice")
    await ledger.flush()
    _require(await count() == before + 3, "flush() with nothing queued recorded something")


async def check_key_store(store: KeyStore) -> None:
    """Check a key store: add, change, retire and remove keys, add and change teams; what else is in it stays."""
    tenant = f"acme/{os.urandom(6).hex()}"
    first, second = _key(tenant, 1_700_000_000.5), _key(tenant, 1_700_000_001.25)
    secret = await store.secret(create=True)
    _require(secret is not None and len(secret) >= 32, "secret(create=True) has less than 256 bits")
    _require(await store.secret(create=False) == secret, "secret() is not the same again")

    version = await store.version()
    _require(await store.add_key(first), "add_key() of a new key is not True")
    _require(await store.add_key(second), "add_key() of a new key is not True")
    _require(await store.version() > version, "add_key() does not raise the version")
    directory = await store.directory()
    _require(directory.version == await store.version(), "directory() is of another version than version()")
    _require([key for key in directory.keys if key.tenant == tenant] == [first, second],
             "directory() does not list the keys unchanged, oldest first")  # fmt: skip

    changes = {"models": ["a*"], "revoked_at": 1_700_000_002.5, "tokens_per_minute": None}
    version = await store.version()
    _require(await store.change_key(second.id, changes), "change_key() of a key is not True")
    _require(await store.version() > version, "change_key() does not raise the version")
    _require(await _keys(store, tenant) == [first, msgspec.structs.replace(second, **changes)],
             "change_key() does not change what is named, and only that")  # fmt: skip
    _require(not await store.change_key("unknown", changes), "change_key() of an unknown key is not False")

    third = _key(tenant, 1_700_000_003.0)
    for lost in (second.id, "unknown"):
        _require(not await store.add_key(third, retire=(lost, 1.0)), "a key that is over can be retired")
    _require(len(await _keys(store, tenant)) == 2, "add_key() adds a key although there is none to retire")
    _require(await store.add_key(third, retire=(first.id, 1_800_000_000.0)), "add_key(retire=...) is not True")
    _require([key.expires_at for key in await _keys(store, tenant)] == [1_800_000_000.0, None, None],
             "add_key(retire=...) does not let the other key expire")  # fmt: skip
    _require(await store.delete_key(third.id), "delete_key() of a key is not True")
    _require(not await store.delete_key(third.id), "delete_key() of an unknown key is not False")
    _require(len(await _keys(store, tenant)) == 2, "delete_key() does not remove the key, and only that")

    team = TeamRecord(tenant, "Team", None, 10, None, 1_700_000_000.0)
    _require(await store.add_team(team), "add_team() of a new team is not True")
    _require(not await store.add_team(team), "add_team() of a known team is not False")
    changed = {"archived_at": 1_700_000_004.0, "models": ["b"]}
    _require(await store.change_team(tenant, changed), "change_team() of a team is not True")
    _require(not await store.change_team("unknown", changed), "change_team() of an unknown team is not False")
    teams = [each for each in (await store.directory()).teams if each.tenant == tenant]
    _require(teams == [msgspec.structs.replace(team, **changed)], "change_team() does not change what is named")


async def check_budget_store(store: BudgetStore, ledger: Ledger) -> None:
    """Check a budget store: budgets come and go, no more is given than there is, and what calls cost becomes spent.

    Args:
        store: What is checked.
        ledger: The ledger whose calls it counts.
    """
    tenant = f"acme/{os.urandom(6).hex()}"
    budget = Budget(f"bud_{tenant}", "team", tenant, "total", "tokens", 1000, (0.5,), created_at=1.5)
    version = await store.version()
    await store.put(budget)
    _require(await store.version() > version, "put() does not raise the version")
    _require([each for each in await store.load() if each.subject == tenant] == [budget], "load() changes a budget")

    given = 0
    for _ in range(3):
        (granted,) = await store.take([Ask(budget, 0, 600, 600, 600, 0)])
        given += granted.amount
        _require(granted.left == 1000 - given, "take() does not say what is left")
    _require(given == 1000, "take() gives more than there is, or less than it might")
    store.give(budget.id, 0, 900)
    _require((await store.take([Ask(budget, 0, 1, 1, 900, 0)]))[0].left + 100 <= 1000, "give() gives too much back")

    request = Request("chat", "model", {}, Call(os.urandom(8).hex()), tenant=tenant)
    attempt = Attempt("conformance", "model", 0.0, outcome="ok", usage=Usage(30, 40))
    ledger.reserve(request, attempt, Usage(30, 0, source="estimate"))
    request.call.attempts.append(attempt)
    request.call.usage = attempt.usage
    before = await store.state(budget.id, 0)
    store.settle(attempt.ledger_id, [Move(budget.id, 0, 70)])
    ledger.record(request, request.call, duration_s=0.1, outcome="ok")
    await ledger.flush()
    after = await store.state(budget.id, 0)
    _require(after.spent == 70, "what a call used is not spent")
    _require(after.held == before.held - 70, "what a call held is not let go of with its row")
    # Attempts that nobody waited for end after their call.
    for late in (20, 10):
        store.settle(attempt.ledger_id, [Move(budget.id, 0, late)])
    await ledger.flush()
    _require((await store.state(budget.id, 0)).held == before.held - 100, "what is settled after its row stays held")

    _require(await store.delete(budget.id), "delete() of a budget is not True")
    _require(not await store.delete(budget.id), "delete() of an unknown budget is not False")
    _require(not [each for each in await store.load() if each.subject == tenant], "delete() does not remove the budget")


async def check_completion_store(store: CompletionStore) -> None:
    """Check a completion store: keep, page, filter, update, remove, and tenants that see nothing of each other."""
    tenant, other = (f"tenant-{os.urandom(6).hex()}" for _ in range(2))
    made = [_completion(number) for number in range(5)]
    for completion in made:
        await store.create(
            tenant, completion, [{"role": "user", "content": "Hi"}, {"role": "user", "content": "there"}]
        )
    one = made[2]["id"]
    _require(await store.retrieve(tenant, one) == made[2], "retrieve() does not return what was created")
    _require(await store.retrieve(tenant, "unknown") is None, "retrieve() of an unknown id is not None")
    messages = await store.messages(tenant, one)
    _require(
        messages is not None and [row["content"] for row in messages] == ["Hi", "there"], "messages() are not those"
    )
    _require(len({row.get("id") for row in messages or ()} - {None}) == 2, "messages have no ids of their own")
    await _check_pages(store, tenant, [row["id"] for row in made])
    await _check_isolation(store, other, one)
    changed = await store.update(tenant, one, {"kept": "no"})
    _require(changed == {**made[2], "metadata": {"kept": "no"}}, "update() does not replace the metadata alone")
    _require(await store.retrieve(tenant, one) == changed, "an update is not kept")
    _require(await store.update(tenant, "unknown", {}) is None, "update() of an unknown id is not None")
    _require(await store.delete(tenant, one), "delete() says there was nothing")
    _require(await store.retrieve(tenant, one) is None, "a deleted completion is still there")
    _require(await store.messages(tenant, one) is None, "a deleted completion's messages are still there")
    _require(not await store.delete(tenant, one), "delete() of a deleted one says there was something")


async def _check_pages(store: CompletionStore, tenant: str, ids: list[str]) -> None:
    async def page(
        order: str = "asc", after: str | None = None, model: str | None = None, **metadata: str
    ) -> tuple[list[str], bool]:
        rows, more = await store.list(tenant, after=after, limit=2, order=order, model=model, metadata=metadata)
        return [row["id"] for row in rows], more

    _require(await page() == (ids[:2], True), "the first page is not the two oldest, with more to come")
    _require(await page(after=ids[1]) == (ids[2:4], True), "the second page does not follow the first")
    _require(await page(after=ids[3]) == (ids[4:], False), "the last page is not the rest")
    _require(await page("desc") == (ids[:2:-1], True), "descending order does not begin with the newest")
    _require(await page("desc", after=ids[1]) == (ids[:1], False), "descending pages do not follow each other")
    _require(await page(model="odd") == (ids[1::2], False), "filtering by model does not work")
    _require(await page(number="4") == (ids[4:], False), "filtering by metadata does not work")
    _require(await page(number="4", kept="no") == ([], False), "all of the metadata must match")


async def _check_isolation(store: CompletionStore, other: str, one: str) -> None:
    seen = (
        await store.retrieve(other, one),
        await store.messages(other, one),
        await store.update(other, one, {}),
        await store.delete(other, one) or None,
    )
    _require(seen == (None, None, None, None), "another tenant reaches the completion")
    rows, _ = await store.list(other, after=None, limit=10, order="asc", model=None, metadata={})
    _require(not rows, "another tenant lists the completion")


def _completion(number: int) -> dict[str, Any]:
    message = {"role": "assistant", "content": f"Answer {number}."}
    return {
        "id": f"chatcmpl-{os.urandom(8).hex()}",
        "object": "chat.completion",
        "created": 1_700_000_000 + number,
        "model": "odd" if number % 2 else "even",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "metadata": {"number": str(number), "kept": "yes"},
    }


def _stored(data: bytes, at: float) -> StoredAnswer:
    return StoredAnswer(
        os.urandom(32), "tenant", "json", data, at, at + 60, cost_pusd=5, input_tokens=1, output_tokens=2,
        finish_reason="stop", model="m",
    )  # fmt: skip


def _question(*, stream: bool) -> Request:
    payload = {"messages": [{"role": "user", "content": "Name three rivers."}]}
    return Request("chat", "model", payload, Call(os.urandom(8).hex()), stream=stream)


def _said(body: bytes) -> tuple[dict[str, Any], str | None]:
    choice = _decode(body)["choices"][0]
    return choice["message"], choice.get("finish_reason")


async def _reads(store: CacheStore, expected: StoredAnswer) -> bool:
    return await store.get(expected.key) == expected


async def _gone(store: CacheStore, key: bytes) -> bool:
    return await store.get(key) is None


async def _eventually(probe: Callable[[], Awaitable[bool]], otherwise: str) -> None:
    for _ in range(int(_PATIENCE_S / 0.01)):
        if await probe():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(otherwise)


def _require(kept: bool, otherwise: str) -> None:  # noqa: FBT001 - reads like an assertion
    if not kept:
        raise AssertionError(otherwise)


def _key(tenant: str, created_at: float) -> KeyRecord:
    return KeyRecord(
        f"key_{os.urandom(8).hex()}", os.urandom(32), "abcd", "Näme", tenant, "user", None, 5, 6, created_at, "root",
        seal=os.urandom(32),
    )  # fmt: skip


async def _keys(store: KeyStore, tenant: str) -> list[KeyRecord]:
    return [key for key in (await store.directory()).keys if key.tenant == tenant]
