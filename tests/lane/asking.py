"""What tests of the short way have in common."""

import asyncio

from penstock.client import AsyncClient
from penstock.core.call import Call
from penstock.core.request import Request


def config(*origins: str, limits=None, **more):
    return {
        "providers": [
            {"name": f"p{n}", "kind": "openai-compatible", "base_url": f"{origin}/v1", "limits": limits or {}}
            for n, origin in enumerate(origins)
        ],
        "models": [{"name": "m", "targets": [{"provider": f"p{n}", "model": "x"} for n in range(len(origins))]}],
        "retry": {"backoff_s": 0.001},
        "store": {"url": "memory:"},
        **more,
    }


def asking(client: AsyncClient, text: str, **fields) -> Request:
    """A request as a server has it when it begins."""
    payload = {"messages": [{"role": "user", "content": text}]}
    return client.pipeline.prepare(Request("chat", "m", payload, Call(text), **fields))


async def warm(client: AsyncClient) -> None:
    """Leave a connection behind, and the price list in memory, so that the next request need not wait."""
    await client.chat("warm", model="m")


def at_rest(client: AsyncClient) -> bool:
    return client.shared.metrics.active == 0 and client.pipeline.running == 0


async def settled(client: AsyncClient) -> None:
    async with asyncio.timeout(10):
        while not at_rest(client):  # noqa: ASYNC110 there is no event for it
            await asyncio.sleep(0.01)
