import asyncio
from decimal import Decimal

import pytest

from penstock.core.call import HEDGE_LOST, Call
from penstock.core.clock import SystemClock
from penstock.core.handler import compose
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import Route, Target
from penstock.core.tasks import TaskGroup
from penstock.core.usage import Usage
from penstock.layers.attempt import Attempts
from penstock.layers.coalesce import Coalesce
from penstock.layers.record import Record
from penstock.telemetry.metrics import Metrics

TARGET = Target("slow-to-close", "m")


class Ledger:
    """Keeps what a row says at the moment it is written."""

    def __init__(self):
        self.rows = []

    def record(self, request, call, *, duration_s, outcome):
        self.rows.append((outcome, [(each.outcome, each.usage, each.cost_usd) for each in call.attempts]))


class SlowToClose:
    """Never answers; closing takes until `closed` is set."""

    def __init__(self):
        self.asked = asyncio.Event()
        self.closed = asyncio.Event()

    async def __call__(self, request):
        self.asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            await self.closed.wait()


@pytest.fixture
def stack():
    ledger, tasks, clock = Ledger(), TaskGroup(), SystemClock()
    provider = SlowToClose()
    attempts = Attempts({}, lambda *_: (Decimal(1), "estimate"), lambda *_: Usage(7, 0, source="estimate"), clock)
    layers = [Record(ledger, Metrics(), clock), Coalesce(clock, tasks), attempts]
    return compose(layers, provider), provider, ledger, tasks


def ask(handler, **fields):
    request = Request("chat", "m", {}, Call("id"), route=Route("m", (TARGET,), b""), target=TARGET, **fields)
    return request, asyncio.ensure_future(handler(request))


async def test_a_call_cancelled_twice_is_recorded_with_what_its_attempt_cost(stack):
    handler, provider, ledger, tasks = stack
    _, asked = ask(handler)
    await provider.asked.wait()
    asked.cancel()
    await asyncio.sleep(0)
    asked.cancel()  # while the first one waits for the upstream to be closed
    with pytest.raises(asyncio.CancelledError):
        await asked
    provider.closed.set()
    await tasks.drain()
    assert ledger.rows == [("client_closed", [("client_closed", Usage(7, 0, source="estimate"), Decimal(1))])]


async def test_a_shutdown_in_between_loses_no_row(stack):
    handler, provider, ledger, tasks = stack
    _, asked = ask(handler)
    await provider.asked.wait()
    asked.cancel()
    await asyncio.sleep(0)
    asked.cancel()
    await asyncio.wait([asked])
    await tasks.aclose()
    assert [(outcome, [each[0] for each in attempts]) for outcome, attempts in ledger.rows] == [
        ("client_closed", ["client_closed"])
    ]


async def test_what_was_lost_to_a_hedge_stays_so_and_is_no_answer_of_the_call():
    attempts = Attempts({}, lambda *_: (Decimal(1), "estimate"), lambda *_: Usage(7, 0), SystemClock())

    async def provider(request):
        return Response(source=aiter_of())

    async def aiter_of():
        yield []

    request = Request("chat", "m", {}, Call("id", finish_reason="stop"), target=TARGET, stream=True)
    response = await attempts(request, provider)
    request.call.attempts[0].outcome = HEDGE_LOST  # as `hedge` says of one that takes long to be closed
    await response.aclose()
    attempt = request.call.attempts[0]
    assert (attempt.outcome, attempt.cost_usd, request.call.finish_reason) == (HEDGE_LOST, Decimal(1), "stop")
