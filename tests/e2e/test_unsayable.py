"""Requests that some providers have no words for."""

import contextlib
import sqlite3

import pytest

from penstock.client import AsyncClient
from penstock.core.errors import InvalidRequest, ProviderError
from penstock.testing import UpstreamServer, answer, json_reply

UNSAYABLE = {"response_format": {"type": "json_object"}}
"""Anthropic has it with a schema only."""


def reply(request):
    if "Fail" in request.json()["messages"][0]["content"]:
        return json_reply({"error": {"message": "broken"}}, status=500)
    return json_reply(answer("All gates are shut."))


@pytest.fixture
async def upstream():
    async with UpstreamServer(reply) as running:
        yield running


@pytest.fixture
async def open_client(upstream, tmp_path):
    async with contextlib.AsyncExitStack() as clients:

        async def make(*targets):
            config = {
                "providers": [
                    {"name": "claude", "kind": "anthropic", "base_url": upstream.origin, "api_key": "k"},
                    {"name": "claude2", "kind": "anthropic", "base_url": upstream.origin, "api_key": "k"},
                    {"name": "other", "kind": "openai-compatible", "base_url": f"{upstream.origin}/v1"},
                ],
                "models": [{"name": "fast", "targets": [{"provider": name, "model": "m"} for name in targets]}],
                "retry": {"attempts": 1},
                "store": {"url": f"sqlite:///{tmp_path}/penstock.db"},
            }
            return await clients.enter_async_context(AsyncClient(config))

        yield make


async def asked(client, path):
    """Who was asked, as the record has it."""
    await client.shared.stores.flush()
    with contextlib.closing(sqlite3.connect(path / "penstock.db")) as database:
        calls = database.execute("select outcome, provider, attempts from calls").fetchall()
        return calls, database.execute("select provider, outcome from attempts order by position").fetchall()


@pytest.mark.parametrize("order", [("claude", "other"), ("claude", "claude2", "other"), ("other", "claude")])
async def test_goes_to_a_target_that_has_them(open_client, upstream, tmp_path, order):
    client = await open_client(*order)
    said = await client.chat("Are the gates shut?", model="fast", **UNSAYABLE)
    assert said.text == "All gates are shut."
    assert [line.request.path for line in upstream.invoice] == ["/v1/chat/completions"]
    assert await asked(client, tmp_path) == ([("ok", "other", 1)], [("other", "ok")])


async def test_is_refused_with_the_first_reason_when_no_target_has_them(open_client, upstream, tmp_path):
    client = await open_client("claude", "claude2")
    with pytest.raises(InvalidRequest, match="Anthropic has no response_format") as raised:
        await client.chat("Are the gates shut?", model="fast", **UNSAYABLE)
    assert (raised.value.status_code, raised.value.param) == (400, "response_format")
    assert not upstream.invoice
    assert await asked(client, tmp_path) == ([("invalid_request", None, 0)], [])


@pytest.mark.parametrize("order", [("claude", "other"), ("other", "claude")])
async def test_fails_as_the_target_did_that_has_them(open_client, upstream, order):
    client = await open_client(*order)
    with pytest.raises(ProviderError, match="broken"):
        await client.chat("Fail.", model="fast", **UNSAYABLE)
    assert len(upstream.invoice) == 1
