import asyncio

import pytest

from penstock.core.call import Call
from penstock.core.clock import SystemClock
from penstock.core.errors import DeadlineExceeded, ProviderError
from penstock.core.events import Event
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import Route, Target
from penstock.layers.deadline import Deadline

ANSWER = Response(body=b"{}")
ROUTE = Route("fast", (Target("a", "m"),), b"")


def ask(*, timeout_s=None, route_timeout_s=None, age=0.0):
    clock = SystemClock()
    call = Call("req-1", started=clock.monotonic() - age)
    route = Route("fast", (Target("a", "m"),), b"", timeout_s=route_timeout_s)
    return Request("chat", "fast", {}, call, route=route, timeout_s=timeout_s)


async def within(default_s, request, inner):
    return await Deadline(default_s, SystemClock())(request, inner)


@pytest.mark.parametrize(
    ("default", "model", "client", "expected"),
    [
        (60, None, None, 60),
        (60, 900, None, 900),
        (60, 5, None, 5),
        (60, None, 3, 3),
        (60, None, 90, 60),
        (60, 900, 700, 700),
        (60, 5, 30, 5),
    ],
)
async def test_the_model_overrides_the_default_and_the_client_may_only_shorten(default, model, client, expected):
    seen = []

    async def inner(request):
        seen.append(request)
        return ANSWER

    request = ask(timeout_s=client, route_timeout_s=model)
    assert await within(default, request, inner) is ANSWER
    assert seen[0].deadline == request.call.started + expected


async def test_time_spent_before_counts():
    async def inner(request):
        raise AssertionError("must not be asked")

    with pytest.raises(DeadlineExceeded) as refused:
        await within(1.0, ask(age=2.0), inner)
    assert refused.value.code == "upstream_timeout"


async def test_silence_ends_at_the_deadline_and_the_work_is_cancelled():
    ended = []

    async def inner(request):
        try:
            await asyncio.sleep(30)
        finally:
            ended.append(asyncio.get_running_loop().time())

    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(DeadlineExceeded):
        await within(0.05, ask(), inner)
    assert 0.04 < ended[0] - began < 1.0
    await asyncio.sleep(0)
    assert asyncio.current_task().cancelling() == 0


async def test_work_that_waits_and_answers_in_time_passes():
    async def inner(request):
        for _ in range(3):
            await asyncio.sleep(0.001)
        return ANSWER

    assert await within(5.0, ask(), inner) is ANSWER


@pytest.mark.parametrize("waits", [False, True])
async def test_errors_pass_unchanged(waits):
    error = ProviderError("no", code="upstream_connect")

    async def inner(request):
        if waits:
            await asyncio.sleep(0)
        raise error

    with pytest.raises(ProviderError) as raised:
        await within(5.0, ask(), inner)
    assert raised.value is error


async def test_a_client_that_hangs_up_is_no_deadline():
    cleaned = []

    async def inner(request):
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.001)
            cleaned.append(True)

    async with asyncio.timeout(5):
        task = asyncio.get_running_loop().create_task(within(10.0, ask(), inner))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert cleaned == [True]


async def test_an_inner_timeout_of_its_own_is_left_to_the_inner_layer():
    async def inner(request):
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(30)
        except TimeoutError:
            return ANSWER

    assert await within(5.0, ask(), inner) is ANSWER


async def test_an_answer_that_wins_the_race_against_the_alarm_leaves_the_task_clean():
    async def inner(request):
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            return ANSWER

    assert await within(0.02, ask(), inner) is ANSWER
    await asyncio.sleep(0)
    assert asyncio.current_task().cancelling() == 0


async def test_a_stream_that_stalls_ends_at_the_same_deadline():
    closed = []

    async def source():
        try:
            yield [Event(b"{}")]
            await asyncio.sleep(30)
        finally:
            closed.append(True)

    async def inner(request):
        return Response(source=source())

    response = await within(0.05, ask(), inner)
    with pytest.raises(DeadlineExceeded):
        async for _ in response:
            pass
    assert closed == [True]


async def test_an_attempts_sooner_deadline_stays():
    async def source():
        yield [Event(b"{}")]

    async def inner(request):
        response = Response(source=source())
        response.expire_at(12.0)
        return response

    assert (await within(5.0, ask(), inner)).deadline == 12.0


async def test_who_answers_in_time_for_a_call_within_another_does_not_save_the_other():
    async def late(request):
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return ANSWER

    async def asks_another(request):
        await within(10.0, ask(), late)
        await asyncio.sleep(3600)

    with pytest.raises(DeadlineExceeded):
        await asyncio.wait_for(within(0.05, ask(), asks_another), 10)


async def test_a_stale_answer_is_given_in_time():
    async def late(request):
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return ANSWER

    assert await within(0.05, ask(), late) is ANSWER
    assert asyncio.current_task().cancelling() == 0
