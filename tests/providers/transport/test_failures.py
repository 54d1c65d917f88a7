import asyncio
import os
import socket
import time

import pytest

from penstock.core.errors import ProviderError

OK = b"HTTP/1.1 200 OK\r\n"


async def consume(transport, request, *, whole):
    """Read an answer; return what arrived, and the error's code."""
    pieces = []
    try:
        reply = await transport.send(request)
        if whole:
            pieces.append(await reply.read())
        else:
            async for piece in reply:
                pieces.append(piece)
    except ProviderError as error:
        return b"".join(pieces), error
    return b"".join(pieces), None


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    ("sent", "reset", "code", "delivered"),
    [
        (b"", False, "upstream_incomplete", b""),
        (b"", True, "upstream_incomplete", b""),
        (OK, False, "upstream_incomplete", b""),
        (OK + b"content-length: 5\r\n\r\nabc", False, "upstream_incomplete", b"abc"),
        (OK + b"content-type: application/json\r\ncontent-length: 5\r\n\r\nabc", False, "upstream_incomplete", b"abc"),
        (OK + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", False, "upstream_incomplete", b"abc"),
        (OK + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", False, "upstream_incomplete", b"abc"),
        (OK + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", True, "upstream_incomplete", None),
        (OK + b"\r\nabc", True, "upstream_incomplete", None),
        (OK + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n", False, "upstream_invalid", b"abc"),
        (b"SSH-2.0-OpenSSH\r\n", False, "upstream_invalid", b""),
        (OK + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd", False, "upstream_invalid", b""),
        (OK + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\nabc", False, "upstream_invalid", b""),
        (OK + b"transfer-encoding: gzip\r\n\r\nabc", False, "upstream_invalid", b""),
        (OK + b"content-length: -3\r\n\r\nabc", False, "upstream_invalid", b""),
        (b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", False, "upstream_invalid", b""),
        (OK + b"content-length: 2000\r\n\r\n", False, "upstream_invalid", b""),
        (OK + b"\r\n" + b"x" * 2000, False, "upstream_invalid", None),
        (OK + b"content-encoding: br\r\ncontent-length: 3\r\n\r\nabc", False, "upstream_invalid", b""),
        (OK + b"x: " + b"y" * 70_000 + b"\r\ncontent-length: 0\r\n\r\n", False, "upstream_invalid", b""),
        (b"HTTP/1.1 103 Hints\r\nlink: x\r\n\r\n" * 3000, False, "upstream_invalid", b""),
        (OK + b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n", False, "upstream_incomplete", b"x"),
    ],
)
async def test_broken_answers(serve, connect, post, whole, sent, reset, code, delivered):
    async def handler(peer):
        await peer.request()
        await peer.send(sent)
        if reset:
            await asyncio.sleep(0.02)
            peer.reset()

    transport = connect(upstream := await serve(handler), max_response_bytes=1000)
    received, error = await consume(transport, post(), whole=whole)
    assert error is not None
    assert error.code == code
    assert f"127.0.0.1:{upstream.port}" in str(error)
    if not whole and delivered is not None and code == "upstream_incomplete":
        assert received == delivered
    assert transport._pool._open == 0


async def test_endless_framing_without_data_is_refused(serve, connect, post):
    async def handler(peer):
        await peer.request()
        await peer.send(OK + b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n")
        await asyncio.sleep(0.02)
        while True:
            await peer.send(b"trailer: " + b"y" * 10_000 + b"\r\n")

    _, error = await consume(connect(await serve(handler)), post(), whole=True)
    assert error.code == "upstream_invalid"


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_idle_connection_closed_by_the_server_is_not_used_again(serve, connect, post, end):
    async def handler(peer):
        await peer.request()
        await peer.reply(b"%d" % peer.number)
        if peer.number == 0:
            getattr(peer, end)()
        else:
            await peer.gone()

    transport = connect(upstream := await serve(handler))
    assert await (await transport.send(post())).read() == b"0"
    await asyncio.sleep(0.05)
    assert transport._pool._open == 0
    assert await (await transport.send(post())).read() == b"1"
    assert len(upstream.peers) == 2


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_kept_connection_that_turns_out_closed(serve, connect, post, end, method):
    """It was read: a GET is repeated, a POST may cost something, so it is not; what comes next connects anew."""
    requests = []

    async def handler(peer):
        while request := await peer.request():
            requests.append(request[-3:])
            if peer.number < 3 and len(requests) > 3:
                getattr(peer, end)()
                return
            await asyncio.sleep(0.02)
            await peer.reply(b"%d" % peer.number)

    transport = connect(upstream := await serve(handler), max_connections=3)
    firsts = await asyncio.gather(*(transport.send(post(body=b"one")) for _ in range(3)))
    assert {await first.read() for first in firsts} == {b"0", b"1", b"2"}
    again = post(body=b"two", method=method)
    if method == "GET":
        assert await (await transport.send(again)).read() == b"3"
        assert requests[3:] == [b"two", b"two"]
    else:
        with pytest.raises(ProviderError) as caught:
            await transport.send(again)
        assert (caught.value.code, caught.value.retryable, caught.value.stale) == ("upstream_incomplete", True, True)
        assert requests[3:] == [b"two"]
    assert await (await transport.send(post(body=b"six"))).read() == b"3"
    assert len(upstream.peers) == 4


async def test_a_request_that_nobody_can_have_read_is_sent_again(serve, connect, post):
    requests = []

    async def handler(peer):
        while request := await peer.request():
            requests.append(request[-3:])
            await peer.reply(b"%d" % peer.number)

    transport = connect(upstream := await serve(handler))
    assert await (await transport.send(post(body=b"one"))).read() == b"0"
    # The upstream's end is on its way when the next request is sent.
    with socket.socket(fileno=os.dup(upstream.peers[0].writer.get_extra_info("socket").fileno())) as raw:
        raw.shutdown(socket.SHUT_RDWR)
    assert await (await transport.send(post(body=b"two"))).read() == b"1"
    assert requests == [b"one", b"two"]


async def test_a_new_connection_that_is_closed_is_not_tried_again(serve, connect, post):
    async def handler(peer):
        await peer.request()

    transport = connect(upstream := await serve(handler))
    with pytest.raises(ProviderError) as caught:
        await transport.send(post())
    assert (caught.value.code, caught.value.retryable) == ("upstream_incomplete", True)
    assert len(upstream.peers) == 1


async def test_unasked_data_on_an_idle_connection_closes_it(serve, connect, post):
    async def handler(peer):
        await peer.request()
        await peer.reply(b"ok")
        await asyncio.sleep(0.02)
        await peer.send(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
        await peer.gone()

    transport = connect(upstream := await serve(handler))
    await (await transport.send(post())).read()
    await asyncio.sleep(0.1)
    assert await (await transport.send(post())).read() == b"ok"
    assert len(upstream.peers) == 2


@pytest.mark.parametrize(
    ("timeouts", "script", "words"),
    [
        ({"first_byte_s": 0.1}, b"", "headers (0.1 s)"),
        ({"first_byte_s": 0.1}, OK, "headers (0.1 s)"),
        ({"idle_s": 0.1}, OK + b"content-length: 5\r\n\r\nab", "more of the answer (0.1 s)"),
        ({"idle_s": 0.1}, OK + b"content-type: application/json\r\ncontent-length: 5\r\n\r\nab", "more of the answer"),
        ({"total_s": 0.1}, OK + b"content-length: 5\r\n\r\nab", "the time allowed"),
        ({"total_s": 0.1}, b"", "the time allowed"),
    ],
)
async def test_each_phase_times_out(serve, connect, post, timeouts, script, words):
    closed = asyncio.Event()

    async def handler(peer):
        await peer.request()
        await peer.send(script)
        await peer.gone()
        closed.set()

    transport = connect(await serve(handler), timeouts=timeouts)
    before = time.monotonic()
    _, error = await consume(transport, post(), whole=False)
    assert 0.08 < time.monotonic() - before < 2
    assert (error.code, error.retryable) == ("upstream_timeout", True)
    assert words in str(error)
    await asyncio.wait_for(closed.wait(), 2)
    assert transport._pool._open == 0


async def test_a_drip_is_stopped_by_the_total_time(serve, connect, post):
    async def handler(peer):
        await peer.request()
        await peer.send(OK + b"\r\n")
        while True:
            await peer.send(b"x")
            await asyncio.sleep(0.02)

    transport = connect(await serve(handler), timeouts={"idle_s": 0.2, "total_s": 0.5})
    received, error = await consume(transport, post(), whole=False)
    assert len(received) > 3
    assert error.code == "upstream_timeout"


async def test_the_deadline_of_the_request_comes_first(serve, connect, post):
    async def handler(peer):
        await peer.gone()

    transport = connect(await serve(handler))
    loop = asyncio.get_running_loop()
    for deadline in (loop.time() + 0.1, loop.time() - 1):
        with pytest.raises(ProviderError) as caught:
            await transport.send(post(deadline=deadline))
        assert caught.value.code == "upstream_timeout"


async def test_idle_time_does_not_count_while_the_reader_is_slow(serve, connect, post):
    body = b"x" * (24 * 1024 * 1024)

    async def handler(peer):
        await peer.request()
        await peer.reply(body)
        await peer.gone()

    reply = await connect(await serve(handler), timeouts={"idle_s": 0.1}).send(post())
    await asyncio.sleep(0.4)
    assert await reply.read() == body


async def test_connect_timeout(connect, post):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = []
        # With its queue full and nobody accepting, the listener leaves further connections hanging.
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        transport = connect(f"http://127.0.0.1:{listener.getsockname()[1]}", timeouts={"connect_s": 0.2})
        with pytest.raises(ProviderError) as caught:
            await transport.send(post())
        for filler in fillers:
            filler.close()
    assert caught.value.code == "upstream_timeout"
    assert "connecting (0.2 s)" in str(caught.value)
    assert transport._pool._open == 0


async def test_refused(connect, post, unused_tcp_port):
    transport = connect(f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(ProviderError) as caught:
        await transport.send(post())
    assert (caught.value.code, caught.value.retryable) == ("upstream_connect", True)
    place = f"provider up (127.0.0.1:{unused_tcp_port})"
    assert str(caught.value) == f"{place}: cannot connect: Connection refused"


async def test_unknown_host(connect, post):
    transport = connect("http://host.invalid:81")
    with pytest.raises(ProviderError) as caught:
        await transport.send(post())
    assert caught.value.code == "upstream_dns"
    assert "host.invalid:81" in str(caught.value)
