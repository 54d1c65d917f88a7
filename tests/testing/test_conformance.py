import msgspec
import pytest

from penstock.core.errors import ProviderError
from penstock.testing import (
    Reply,
    ScriptedProvider,
    check_cache_store,
    check_completion_store,
    check_ledger,
    check_provider,
)


class DictCacheStore:
    def __init__(self):
        self.rows = {}

    async def index(self):
        return [
            msgspec.structs.replace(row, data=b"") for row in sorted(self.rows.values(), key=lambda row: row.stored_at)
        ]

    async def get(self, key):
        return self.rows.get(key)

    def put(self, answer):
        self.rows[answer.key] = answer

    def delete(self, keys):
        for key in keys:
            self.rows.pop(key, None)


class ListLedger:
    def __init__(self):
        self.queued, self.kept = [], []

    def reserve(self, request, attempt, expected):
        pass

    def release(self, request, attempt):
        pass

    def record(self, request, call, *, duration_s, outcome):
        self.queued.append((request, call, duration_s, outcome))

    async def flush(self):
        self.kept += self.queued
        self.queued = []

    async def count(self):
        return len(self.kept)


class DictCompletionStore:
    def __init__(self):
        self.rows = {}

    async def create(self, tenant, completion, messages):
        numbered = [{"id": f"{completion['id']}-{number}", **message} for number, message in enumerate(messages)]
        self.rows[tenant, completion["id"]] = (dict(completion), numbered)

    async def retrieve(self, tenant, completion_id):
        return self.rows.get((tenant, completion_id), (None,))[0]

    async def messages(self, tenant, completion_id):
        return self.rows.get((tenant, completion_id), (None, None))[1]

    async def list(self, tenant, *, after, limit, order, model, metadata):
        rows = [row for (owner, _), (row, _) in self.rows.items() if owner == tenant]
        rows = sorted(rows, key=lambda row: row["created"], reverse=order == "desc")
        if after is not None:
            rows = rows[[row["id"] for row in rows].index(after) + 1 :]
        rows = [row for row in rows if model in (None, row["model"]) and metadata.items() <= row["metadata"].items()]
        return rows[:limit], len(rows) > limit

    async def update(self, tenant, completion_id, metadata):
        if (tenant, completion_id) not in self.rows:
            return None
        row, messages = self.rows[tenant, completion_id]
        self.rows[tenant, completion_id] = ({**row, "metadata": dict(metadata)}, messages)
        return self.rows[tenant, completion_id][0]

    async def delete(self, tenant, completion_id):
        return self.rows.pop((tenant, completion_id), None) is not None


async def test_correct_implementations_pass():
    await check_cache_store(DictCacheStore())
    ledger = ListLedger()
    await check_ledger(ledger, ledger.count)
    await check_completion_store(DictCompletionStore())


async def test_a_cache_store_that_loses_a_field_is_found_out(monkeypatch):
    class Forgetful(DictCacheStore):
        def put(self, answer):
            super().put(msgspec.structs.replace(answer, cost_pusd=0))

    monkeypatch.setattr("penstock.testing.conformance._PATIENCE_S", 0.1)
    with pytest.raises(AssertionError, match="cannot be read back unchanged"):
        await check_cache_store(Forgetful())


async def test_a_ledger_that_does_not_wait_is_found_out():
    class Hasty(ListLedger):
        async def flush(self):
            self.kept += self.queued[:1]

    ledger = Hasty()
    with pytest.raises(AssertionError, match=r"flush\(\) returned before"):
        await check_ledger(ledger, ledger.count)


async def test_a_completion_store_that_mixes_tenants_is_found_out():
    class Careless(DictCompletionStore):
        async def delete(self, tenant, completion_id):
            return any(self.rows.pop(key, None) for key in list(self.rows) if key[1] == completion_id)

    with pytest.raises(AssertionError, match="another tenant"):
        await check_completion_store(Careless())


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        (["One.", "Two."], "says something else"),
        (Reply(finish_reason=None), "no finish reason"),
        (Reply(body=b'{"choices":[{"index":0,"message":{"content":"Hi."},"finish_reason":"stop"}]}'), "no usage"),
        (Reply(text=""), "no content"),
    ],
)
async def test_a_provider_that_breaks_a_promise_is_found_out(script, complaint):
    with pytest.raises(AssertionError, match=complaint):
        await check_provider(ScriptedProvider("p", script), "m")


async def test_a_provider_that_fails_fails_its_check():
    with pytest.raises(ProviderError):
        await check_provider(ScriptedProvider("p", ProviderError("down")), "m")
