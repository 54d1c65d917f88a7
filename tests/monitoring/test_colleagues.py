"""Several workers are watched as one, by one."""

import asyncio
import contextlib

import pytest

from penstock.client import AsyncClient
from penstock.core.errors import ProviderError
from penstock.testing import FakeClock, ScriptedProvider
from penstock.workers.bus import WorkerBus

CONFIG = {
    "providers": [{"name": "p", "kind": "simulated"}],
    "models": [{"name": "m", "targets": [{"provider": "p", "model": "x"}]}],
    "retry": {"attempts": 1},
    "breaker": {"failures": 1000},
    "alerts": {
        "built_in": False,
        "rules": [
            {"name": "failing", "metric": "error_rate", "threshold": 0.5, "window_s": 60, "actions": ["serve_stale"]}
        ],
    },
}


class Failing(ScriptedProvider):
    async def send(self, request, target):
        raise ProviderError("no", code="upstream_error", status_code=500)


@pytest.fixture
async def two(tmp_path):
    folder = tmp_path / "bus"
    folder.mkdir(mode=0o700)
    buses = [WorkerBus(str(folder), number, 2) for number in (1, 2)]
    clocks = [FakeClock(), FakeClock()]
    config = {**CONFIG, "store": {"url": f"sqlite:///{tmp_path}/penstock.db"}}
    async with contextlib.AsyncExitStack() as opened:
        for bus in buses:
            opened.push_async_callback(bus.aclose)
            await bus.open()
        assert all(await asyncio.gather(*(bus.meet() for bus in buses)))
        clients = []
        for bus, clock in zip(buses, clocks, strict=True):
            client = AsyncClient(config, clock=clock, providers={"p": Failing("p", "")})
            client.bus = bus
            clients.append(await opened.enter_async_context(client))
        yield clients, clocks, buses


async def fail(client, count: int) -> None:
    for number in range(count):
        with pytest.raises(ProviderError):
            await client.chat(f"question {number}", model="m")


async def told(client) -> list[str]:
    await client.shared.stores.flush()
    return [event.rule for event in await client.monitor.history(100)]


async def passes(clocks, check) -> None:
    """Let time pass on the workers' clocks, and the sockets between them be read, until `check`."""
    async with asyncio.timeout(20):
        while not await check():
            for clock in clocks:
                await clock.run(5.0)
            await asyncio.sleep(0.01)


async def test_what_happens_in_one_worker_is_told_by_the_elected_one_once(two):
    clients, clocks, _ = two
    before = clients[1].settings.cache.exact.stale_if_error_s
    await passes(clocks, lambda: ready(clients[0]))
    await fail(clients[1], 20)

    async def alerted() -> bool:
        return bool(await told(clients[0]))

    await passes(clocks, alerted)
    assert clients[0].monitor.measure("error_rate") == 1.0
    assert clients[1].monitor.measure("error_rate") is None
    assert [alert.state for alert in clients[0].monitor.alerts()] == ["firing"]
    for _ in range(3):
        for clock in clocks:
            await clock.run(5.0)
        await asyncio.sleep(0.01)
    assert await told(clients[0]) == await told(clients[1]) == ["failing"]

    async def adapted() -> bool:
        return all(client.settings.cache.exact.stale_if_error_s > before for client in clients)

    await passes(clocks, adapted)


async def ready(client) -> bool:
    return client.monitor.measure("active_requests") is not None


async def test_another_one_takes_over_and_counts_from_then_on(two):
    clients, clocks, buses = two
    await passes(clocks, lambda: ready(clients[0]))
    await buses[0].aclose()
    await passes(clocks[1:], lambda: ready(clients[1]))
    await fail(clients[1], 20)

    async def alerted() -> bool:
        return bool(await told(clients[1]))

    await passes(clocks[1:], alerted)
    assert await told(clients[1]) == ["failing"]
