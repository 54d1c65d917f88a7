"""Connections that the upstream closes just when they are used again."""

import contextlib
import sqlite3

import pytest

from penstock.client import AsyncClient
from penstock.core.errors import ProviderError
from penstock.testing import UpstreamReply, UpstreamServer, answer, json_reply


@pytest.fixture
async def ask_through(tmp_path):
    """Ask three times, with the given reply to what comes second on a connection; return texts, lines and rows."""

    async def ask(second, **settings):
        def reply(request):
            return json_reply(answer("Shut.")) if request.connection.requests == 1 else second

        async with UpstreamServer(reply) as upstream:
            config = {
                "providers": [{"name": "up", "kind": "openai-compatible", "base_url": f"{upstream.origin}/v1"}],
                "models": [{"name": "fast", "targets": [{"provider": "up", "model": "m"}]}],
                "store": {"url": f"sqlite:///{tmp_path}/penstock.db"},
                **settings,
            }
            async with AsyncClient(config) as client:
                texts = []
                for number in range(3):
                    try:
                        texts.append((await client.chat(f"Question {number}", model="fast")).text)
                    except ProviderError as error:
                        texts.append(error.code)
                available = client.shared.metrics.exposition()[0].decode()
            assert 'penstock_target_available{model="m",provider="up"} 1.0' in available
            lines = len(upstream.invoice)
        with contextlib.closing(sqlite3.connect(tmp_path / "penstock.db")) as database:
            rows = database.execute("select outcome from attempts order by call_id, position").fetchall()
            calls = database.execute("select outcome, attempts from calls order by id").fetchall()
        return texts, lines, [row[0] for row in rows], calls

    return ask


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_what_was_sent_twice_is_two_attempts(ask_through, how):
    broken = UpstreamReply(cut=how)
    settings = {"retry": {"attempts": 1, "budget": 0}, "breaker": {"failures": 1}}
    texts, lines, rows, calls = await ask_through(broken, **settings)
    assert texts == ["Shut."] * 3
    assert rows == ["ok", "upstream_incomplete", "ok", "upstream_incomplete", "ok"]
    assert lines == len(rows)
    assert calls == [("ok", 1), ("ok", 2), ("ok", 2)]
