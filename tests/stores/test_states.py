"""States decided while running, on every store."""

import pytest

from penstock.core.clock import SystemClock
from penstock.stores.opening import open_store


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_states_are_kept_replaced_and_removed(kind, tmp_path):
    url = "memory:" if kind == "memory" else f"sqlite:///{tmp_path / 'states.db'}"
    stores = open_store(url, SystemClock())
    await stores.start()
    try:
        states = stores.states
        await states.save("prompt/greet", b"1")
        await states.save("Prompt/greet", b"other")
        await states.save("prompt/100%", b"2")
        await states.save("experiment/tone", b"3")
        await states.save("prompt/greet", b"4")
        assert await states.load("prompt/") == {"prompt/100%": b"2", "prompt/greet": b"4"}
        assert len(await states.load()) == 4
        assert await states.delete("prompt/greet")
        assert not await states.delete("prompt/greet")
        assert await states.load("prompt/g") == {}
    finally:
        await stores.aclose()


async def test_states_survive_a_restart(tmp_path):
    url = f"sqlite:///{tmp_path / 'states.db'}"
    for expected in ({}, {"a": b"x"}):
        stores = open_store(url, SystemClock())
        await stores.start()
        assert await stores.states.load() == expected
        await stores.states.save("a", b"x")
        await stores.aclose()
