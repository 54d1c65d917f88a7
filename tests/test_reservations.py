"""Whatever becomes of a call, what was reserved for it in the ledger is settled: nothing of it is left in the spool."""

import asyncio
import sqlite3

import pytest

from penstock.client import AsyncClient
from penstock.core.errors import InvalidRequest, ProviderError, StoreError
from penstock.testing import Reply, ScriptedProvider

TARGETS = [{"provider": "near", "model": "m"}, {"provider": "far", "model": "m", "order": 1}]
FAILED = ProviderError("broken", status_code=500, retryable=True)


@pytest.fixture
def make(tmp_path):
    def make(near, far="Far.", **model):
        kind = {"kind": "openai-compatible", "base_url": "http://127.0.0.1:9/v1"}
        config = {
            "providers": [{"name": "near", **kind}, {"name": "far", **kind}],
            "models": [{"name": "fast", "targets": TARGETS, **model}],
            "retry": {"backoff_s": 0.001},
            "store": {"url": f"sqlite:///{tmp_path}/p.db"},
        }
        providers = {"near": near, "far": ScriptedProvider("far", far)}
        return AsyncClient(config, providers=providers)

    return make


@pytest.fixture
def books(tmp_path):
    """What is in the database; nothing may be left in the spool."""

    def books():
        assert list((tmp_path / "p.db-spool").iterdir()) == []
        connection = sqlite3.connect(tmp_path / "p.db")
        found = connection.execute(
            "SELECT c.outcome, group_concat(a.outcome) FROM calls c LEFT JOIN attempts a ON call_id = id GROUP BY id"
        ).fetchall()
        connection.close()
        return found

    return books


def question(client, text="Hello?", **fields):
    return client.request("chat", "fast", {"messages": [{"role": "user", "content": text}]}, **fields)


async def test_retries_and_another_target_are_one_call(make, books):
    async with make(ScriptedProvider("near", [FAILED, FAILED])) as client:
        await client.chat("Hello?", model="fast")
    assert books() == [("ok", "upstream_error,upstream_error,ok")]


class Wordless(ScriptedProvider):
    async def send(self, request, target):
        raise InvalidRequest("there are no words for it")


async def test_what_a_provider_has_no_words_for_was_not_sent(make, books):
    async with make(Wordless("near")) as client:
        await client.chat("Hello?", model="fast")
    assert books() == [("ok", "ok")]


async def test_when_no_provider_has_words_nothing_was_sent(make, books):
    async with make(Wordless("near"), targets=TARGETS[:1]) as client:
        with pytest.raises(InvalidRequest):
            await client.chat("Hello?", model="fast")
    assert books() == [("invalid_request", None)]


async def test_attempts_go_to_whoever_pays_when_the_first_of_a_shared_call_leaves(make, books):
    gate = asyncio.Event()
    near = ScriptedProvider("near", Reply(text="Near.", gate=gate))
    async with make(near) as client:
        first = asyncio.ensure_future(client.handle(question(client)))
        second = asyncio.ensure_future(client.handle(question(client)))
        await near.wait_for_calls(1)
        first.cancel()
        await asyncio.wait([first])
        gate.set()
        assert b"Near." in await (await second).read()
    assert sorted(books()) == [("client_closed", None), ("ok", "ok")]


async def test_a_stream_that_is_closed_early_is_settled(make, books):
    stuck = Reply(text="One two three.", gates={2: asyncio.Event()})
    async with make(ScriptedProvider("near", stuck)) as client:
        response = await client.handle(question(client, stream=True))
        await anext(aiter(response))
        await response.aclose()
    assert books() == [("client_closed", "client_closed")]


async def test_when_nothing_can_be_written_down_no_target_is_asked(make, books, monkeypatch):
    near = ScriptedProvider("near")
    async with make(near) as client:
        client.shared.stores._backend.writer.limit = 0
        with pytest.raises(StoreError) as refused:
            await client.chat("Hello?", model="fast")
        assert refused.value.code == "ledger_unavailable"
        assert near.calls == client.pipeline.providers["far"].calls == 0
        client.shared.stores._backend.writer.limit = 100
        await client.chat("Hello?", model="fast")
    assert books() == [("ok", "ok")]
