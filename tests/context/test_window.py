import asyncio

import pytest

from penstock.context.window import Windows, room, stated
from penstock.core.errors import ProviderError
from penstock.core.route import Route, Target

PUBLISHED = {"small": 8000, "large": 128_000}


class Asked:
    def __init__(self, window):
        self.window = window
        self.asked = 0

    async def context_window(self, model):
        self.asked += 1
        if isinstance(self.window, Exception):
            raise self.window
        return self.window


def route(*names):
    return Route("m", tuple(Target(*name.split("/")) for name in names), b"")


def windows(**providers):
    return Windows(lambda target: PUBLISHED.get(target.model), providers)


async def test_the_smallest_window_counts():
    found = windows(own=Asked(4096))
    assert await found.of(route("a/small")) == 8000
    assert await found.of(route("a/large", "a/small")) == 8000
    assert await found.of(route("a/large", "own/x")) == 4096
    assert await found.of(route("a/large", "a/unheard-of")) == 128_000
    assert await found.of(route("a/unheard-of")) is None


async def test_a_provider_is_asked_once_unless_it_fails():
    failing, fine = Asked(ProviderError("down", code="upstream_connect")), Asked(None)
    found = windows(failing=failing, fine=fine)
    for _ in range(2):
        assert await found.of(route("failing/x")) is None
        assert await found.of(route("fine/x")) is None
    assert (failing.asked, fine.asked) == (2, 1)


async def test_a_provider_that_hangs_is_not_waited_for():
    class Hanging(Asked):
        async def context_window(self, model):
            await asyncio.Event().wait()

    assert await Windows(lambda _: None, {"own": Hanging(1)}, patience_s=0.01).of(route("own/x")) is None


def test_whether_anybody_knows():
    found = windows(own=Asked(None))
    assert found.knowable(route("a/unheard-of", "own/x"))
    assert found.knowable(route("a/small"))
    assert not found.knowable(route("a/unheard-of"))


@pytest.mark.parametrize(
    ("window", "payload", "tokens"),
    [
        (100_000, {}, (100_000 - 4096) * 0.75),
        (8000, {}, 6000 * 0.75),
        (8000, {"max_tokens": 4000}, 3000),
        (8000, {"max_completion_tokens": 1000, "max_tokens": 4000}, 7000 * 0.75),
        (8000, {"max_tokens": None}, 6000 * 0.75),
        (8000, {"max_tokens": 9000}, 1),
    ],
)
def test_the_answer_has_room(window, payload, tokens):
    assert room(window, payload) == int(tokens)


@pytest.mark.parametrize(
    ("payload", "window"),
    [
        ({}, None),
        ({"num_ctx": 8192}, 8192),
        ({"num_ctx": 8192, "options": {"num_ctx": 16384}}, 16384),
        ({"num_ctx": 8192, "options": {"seed": 1}}, 8192),
        ({"options": "large"}, None),
        ({"num_ctx": "8192"}, None),
        ({"num_ctx": 0}, None),
    ],
)
def test_a_request_may_state_the_window(payload, window):
    assert stated(payload) == window
