import asyncio
import time

import pytest

from penstock.core.errors import ProviderError


class Gate:
    """A handler that answers when it is told to."""

    def __init__(self):
        self.order = []
        self.open = asyncio.Semaphore(0)

    async def __call__(self, peer):
        while request := await peer.request():
            body = request.rpartition(b"\r\n")[2]
            self.order.append(body)
            await self.open.acquire()
            await peer.reply(body)


async def ask(transport, request):
    return await (await transport.send(request)).read()


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 the conditions are facts about sockets, which set no event
            await asyncio.sleep(0.005)


async def test_more_requests_than_connections_wait_in_order(serve, connect, post):
    gate = Gate()
    transport = connect(upstream := await serve(gate), max_connections=2)
    tasks = []
    for n in range(10):
        tasks.append(asyncio.create_task(ask(transport, post(body=b"%d" % n))))
        await asyncio.sleep(0)
    await until(lambda: len(gate.order) == 2)
    for _ in range(10):
        gate.open.release()
        await asyncio.sleep(0.01)
    assert await asyncio.gather(*tasks) == [b"%d" % n for n in range(10)]
    assert gate.order[2:] == [b"%d" % n for n in range(2, 10)]
    assert len(upstream.peers) == 2


async def test_a_new_request_does_not_overtake_one_that_waits(serve, connect, post):
    gate = Gate()
    transport = connect(await serve(gate), max_connections=1)
    first = asyncio.create_task(ask(transport, post(body=b"first")))
    await until(lambda: gate.order)
    second = asyncio.create_task(ask(transport, post(body=b"second")))
    await asyncio.sleep(0)
    gate.open.release()
    await first
    third = asyncio.create_task(ask(transport, post(body=b"third")))
    gate.open.release()
    gate.open.release()
    await asyncio.gather(second, third)
    assert gate.order == [b"first", b"second", b"third"]


async def test_cancelled_while_waiting_leaves_no_trace(serve, connect, post):
    gate = Gate()
    transport = connect(upstream := await serve(gate), max_connections=1)
    waiting = []

    async def lead():
        await ask(transport, post(body=b"first"))
        # The connection has been promised to the second one, which has not run since.
        waiting[1].cancel()

    first = asyncio.create_task(lead())
    await until(lambda: gate.order)
    waiting += [asyncio.create_task(ask(transport, post(body=b"w%d" % n))) for n in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    gate.open.release()
    await first
    gate.open.release()
    assert await waiting[2] == b"w2"
    assert gate.order == [b"first", b"w2"]
    assert transport._pool._open == 1
    assert len(upstream.peers) == 1


async def test_waiting_for_a_connection_ends_at_the_deadline(serve, connect, post):
    gate = Gate()
    transport = connect(await serve(gate), max_connections=1)
    first = asyncio.create_task(ask(transport, post(body=b"first")))
    await until(lambda: gate.order)
    with pytest.raises(ProviderError) as caught:
        await transport.send(post(deadline=asyncio.get_running_loop().time() + 0.1))
    assert caught.value.code == "upstream_timeout"
    assert "max_connections" in str(caught.value)
    gate.open.release()
    assert await first == b"first"


@pytest.mark.parametrize("moment", ["headers", "body", "read"])
async def test_cancelling_closes_the_connection_and_frees_its_slot(serve, connect, post, moment):
    closed = asyncio.Event()

    async def handler(peer):
        await peer.request()
        if peer.number:
            await peer.reply(b"ok")
        elif moment != "headers":
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx")
        await peer.gone()
        closed.set()

    transport = connect(upstream := await serve(handler), max_connections=1)

    async def work():
        reply = await transport.send(post())
        if moment == "read":
            await reply.read()
        async for _ in reply:
            pass

    task = asyncio.create_task(work())
    await until(lambda: upstream.peers)
    await asyncio.sleep(0.05)
    task.cancel()
    before = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(closed.wait(), 2)
    assert time.monotonic() - before < 0.25
    assert transport._pool._open == 0
    assert await ask(transport, post()) == b"ok"


async def test_cancelled_while_connecting_frees_the_slot(serve, connect, post):
    async def handler(peer):
        await peer.request()
        await peer.reply(b"ok")

    transport = connect(await serve(handler), max_connections=1)
    for turns in range(6):
        task = asyncio.create_task(ask(transport, post()))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert await ask(transport, post()) == b"ok"
    assert transport._pool._open <= 1


async def test_random_cancellations_leak_nothing(serve, connect, post):
    async def handler(peer):
        while request := await peer.request():
            await asyncio.sleep(0.001)
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n")
            await peer.send(request[-4:])

    transport = connect(await serve(handler), max_connections=4)
    wrong = []

    async def work(n):
        body = b"%04d" % n
        try:
            async with asyncio.timeout((n * 7919 % 30) / 1000):
                if await ask(transport, post(body=body)) != body:
                    wrong.append(n)
        except TimeoutError:
            pass

    await asyncio.gather(*(work(n) for n in range(300)))
    assert not wrong
    pool = transport._pool
    await until(lambda: pool._open == len(pool._idle))
    assert pool._open <= 4
    assert not pool._waiters
    assert await asyncio.gather(*(ask(transport, post(body=b"%04d" % n)) for n in range(8))) == [
        b"%04d" % n for n in range(8)
    ]


async def test_early_aclose_closes_upstream_at_once(serve, connect, post):
    closed = asyncio.Event()

    async def handler(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n")
        await peer.gone()
        closed.set()

    transport = connect(await serve(handler))
    reply = await transport.send(post())
    assert await anext(aiter(reply)) == b"x"
    before = time.monotonic()
    await reply.aclose()
    await reply.aclose()
    await asyncio.wait_for(closed.wait(), 2)
    assert time.monotonic() - before < 0.25
    assert transport._pool._open == 0
    with pytest.raises(ProviderError) as caught:
        await reply.read()
    assert caught.value.code == "upstream_incomplete"


async def test_a_finished_exchange_gives_its_connection_back_once(serve, connect, post):
    async def handler(peer):
        while await peer.request():
            await peer.reply(b"ok")

    transport = connect(upstream := await serve(handler), max_connections=1)
    reply = await transport.send(post())
    assert await ask(transport, post()) == b"ok"
    assert await reply.read() == b"ok"
    await reply.aclose()
    assert (transport._pool._open, len(transport._pool._idle)) == (1, 1)
    assert len(upstream.peers) == 1


async def test_aclose_ends_everything(serve, connect, post):
    gate = Gate()
    transport = connect(upstream := await serve(gate), max_connections=2)
    gate.open.release()
    assert await ask(transport, post(body=b"idle")) == b"idle"
    tasks = [asyncio.create_task(ask(transport, post(body=b"x"))) for _ in range(4)]
    await until(lambda: len(upstream.peers) == 2 and len(gate.order) == 3)
    await transport.aclose()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(outcome, ProviderError)
    with pytest.raises(ProviderError):
        await transport.send(post())
    for peer in upstream.peers:
        await asyncio.wait_for(peer.gone(), 2)


async def test_idle_connections_expire(serve, connect, post, monkeypatch):
    monkeypatch.setattr("penstock.providers.transport.connection.KEEP_ALIVE_S", 0.1)

    async def handler(peer):
        while await peer.request():
            await peer.reply(b"ok")

    transport = connect(await serve(handler))
    await ask(transport, post())
    assert len(transport._pool._idle) == 1
    await until(lambda: not transport._pool._idle)
    assert transport._pool._open == 0
    assert await ask(transport, post()) == b"ok"


async def test_a_promised_connection_that_dies_is_replaced(serve, connect, post, monkeypatch):
    gate = Gate()
    transport = connect(upstream := await serve(gate), max_connections=1)
    first = asyncio.create_task(ask(transport, post(body=b"first")))
    await until(lambda: gate.order)
    second = asyncio.create_task(ask(transport, post(body=b"second")))
    await asyncio.sleep(0)
    pool = transport._pool
    (connection,) = pool._live
    release = type(pool).release

    def release_and_lose(self, returned):
        release(self, returned)
        returned.eof_received()

    with monkeypatch.context() as patch:
        patch.setattr(type(pool), "release", release_and_lose)
        gate.open.release()
        await first
    assert connection.closed
    gate.open.release()
    assert await second == b"second"
    assert len(upstream.peers) == 2
    assert pool._open == 1
