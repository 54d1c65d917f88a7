"""A gateway's pipeline before an upstream that says what it is told to."""

import pytest
from tests.lane.asking import config, warm

from penstock.client import AsyncClient
from penstock.testing import UpstreamServer, answer, json_reply

WHOLE = json_reply(answer("Hello there."))


@pytest.fixture
async def upstream():
    async with UpstreamServer(lambda request: server.says()) as server:
        server.says = lambda: WHOLE
        yield server


@pytest.fixture
async def cold(upstream):
    """A client that has asked nothing yet."""
    async with AsyncClient(config(upstream.origin)) as opened:
        yield opened


@pytest.fixture
async def client(cold):
    await warm(cold)
    return cold
