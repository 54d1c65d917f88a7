import asyncio
import socket

import pytest

from penstock.core.errors import ProviderError

CHUNKED = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
    b"X-Twice: a\r\nx-twice: b\r\n\r\n"
    b"7\r\n\xe6\xbc\xa2\xe5\xad\x97\n\r\n1\r\n!\r\na;ext=1\r\n0123456789\r\n0\r\ntrailer: x\r\n\r\n"
)
CHUNKED_BODY = "漢字\n!0123456789".encode()


async def test_connection_is_kept_and_the_request_arrives_as_written(serve, connect, post):
    seen = []

    async def handler(peer):
        while request := await peer.request():
            seen.append((peer.number, request))
            await peer.reply(b'{"n":%d}' % len(seen), "content-type: application/json")

    transport = connect(upstream := await serve(handler))
    for n in (1, 2, 3):
        reply = await transport.send(post("/v1/x?a=1", b"hello", ("content-type", "text/plain"), ("x-a", "é")))
        assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
        assert await reply.read() == b'{"n":%d}' % n
    assert [number for number, _ in seen] == [0, 0, 0]
    assert seen[0][1] == (
        b"POST /v1/x?a=1 HTTP/1.1\r\nhost: 127.0.0.1:%d\r\naccept-encoding: gzip, deflate\r\n"
        b"content-type: text/plain\r\nx-a: \xe9\r\ncontent-length: 5\r\n\r\nhello" % upstream.port
    )


async def test_get_sends_no_length_and_empty_post_sends_zero(serve, connect, post):
    seen = []

    async def handler(peer):
        while request := await peer.request():
            seen.append(request)
            await peer.reply()

    transport = connect(await serve(handler))
    for method in ("GET", "POST"):
        await (await transport.send(post(body=b"", method=method))).read()
    assert b"content-length" not in seen[0]
    assert seen[1].endswith(b"content-length: 0\r\n\r\n")


async def test_large_body_arrives(serve, connect, post):
    body = bytes(range(256)) * 4096
    seen = []

    async def handler(peer):
        seen.append(await peer.request())
        await peer.reply()

    reply = await connect(await serve(handler)).send(post(body=body))
    assert await reply.read() == b"{}"
    assert seen[0].partition(b"\r\n\r\n")[2] == body


@pytest.mark.parametrize("whole", [True, False])
async def test_every_split_of_a_chunked_answer(serve, connect, post, whole):
    offsets = iter(range(1, len(CHUNKED)))

    async def handler(peer):
        while await peer.request():
            at = next(offsets)
            await peer.send(CHUNKED[:at])
            await asyncio.sleep(0.0005)
            await peer.send(CHUNKED[at:])

    transport = connect(upstream := await serve(handler))
    for _ in range(1, len(CHUNKED)):
        reply = await transport.send(post())
        assert reply.headers["x-twice"] == "a, b"
        assert (await reply.read() if whole else b"".join([piece async for piece in reply])) == CHUNKED_BODY
    assert len(upstream.peers) == 1


async def test_pieces_are_delivered_as_they_arrive(serve, connect, post):
    go = asyncio.Event()

    async def handler(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n")
        await go.wait()
        await peer.send(b"1\r\nc\r\n0\r\n\r\n")
        await peer.gone()

    reply = await connect(await serve(handler)).send(post())
    pieces = aiter(reply)
    assert await anext(pieces) == b"ab"
    go.set()
    assert await anext(pieces) == b"c"
    assert await anext(pieces, None) is None


@pytest.mark.parametrize("kind", ["json", "event-stream"])
async def test_head_and_body_in_two_packets(serve, connect, post, kind):
    go = asyncio.Event()

    async def handler(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/%b\r\ncontent-length: 2\r\n\r\n" % kind.encode())
        if kind != "json":
            await go.wait()
        await asyncio.sleep(0.01)
        await peer.send(b"{}")

    reply = await connect(await serve(handler)).send(post())
    go.set()
    assert await reply.read() == b"{}"


async def test_interim_responses_are_skipped(serve, connect, post):
    async def handler(peer):
        while await peer.request():
            await peer.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
            await peer.reply(b"ok")

    transport = connect(upstream := await serve(handler))
    for _ in range(2):
        reply = await transport.send(post())
        assert (reply.status, "link" in reply.headers, await reply.read()) == (200, False, b"ok")
    assert len(upstream.peers) == 1


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_statuses_without_a_body(serve, connect, post, status):
    async def handler(peer):
        while await peer.request():
            await peer.send(f"HTTP/1.1 {status}\r\ncontent-encoding: gzip\r\n\r\n".encode())

    transport = connect(upstream := await serve(handler))
    for _ in range(2):
        reply = await transport.send(post())
        assert (reply.status, await reply.read()) == (int(status[:3]), b"")
    assert len(upstream.peers) == 1


async def test_head_has_no_body(serve, connect, post):
    async def handler(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n")
        await peer.gone()

    transport = connect(await serve(handler))
    for _ in range(2):
        reply = await transport.send(post(method="HEAD", body=b""))
        assert (reply.headers["content-length"], await reply.read()) == ("100", b"")


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\n"])
async def test_body_up_to_the_end_of_the_connection(serve, connect, post, head):
    async def handler(peer):
        await peer.request()
        await peer.send(head + b"first ")
        await asyncio.sleep(0.01)
        await peer.send(b"second")

    transport = connect(upstream := await serve(handler))
    assert await (await transport.send(post())).read() == b"first second"
    assert b"".join([piece async for piece in await transport.send(post())]) == b"first second"
    assert len(upstream.peers) == 2


async def test_connection_close_is_honoured(serve, connect, post):
    async def handler(peer):
        while await peer.request():
            await peer.reply(b"ok", "connection: close")
        await peer.gone()

    transport = connect(upstream := await serve(handler))
    for _ in range(2):
        assert await (await transport.send(post())).read() == b"ok"
    assert len(upstream.peers) == 2


async def test_surplus_answer_is_never_given_to_the_next_request(serve, connect, post):
    async def handler(peer):
        while await peer.request():
            await peer.send(
                b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"
            )

    transport = connect(upstream := await serve(handler))
    for _ in range(3):
        assert await (await transport.send(post())).read() == b"ok"
    assert len(upstream.peers) == 3


async def test_slow_reader_keeps_memory_bounded(serve, connect, post):
    sent = 0
    total = 24 * 1024 * 1024

    async def handler(peer):
        nonlocal sent
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
        while sent < total:
            await peer.send(b"x" * 65536)
            sent += 65536

    reply = await connect(await serve(handler)).send(post())
    await asyncio.sleep(0.3)
    assert reply.buffered < 1024 * 1024
    assert sent < total
    received = 0
    async for piece in reply:
        received += len(piece)
        assert len(piece) < 1024 * 1024
    assert received == total


async def test_read_after_a_pause_gets_everything(serve, connect, post):
    body = bytes(range(256)) * 8192

    async def handler(peer):
        while await peer.request():
            await peer.reply(body)

    transport = connect(upstream := await serve(handler))
    for _ in range(2):
        reply = await transport.send(post())
        await asyncio.sleep(0.05)
        assert await reply.read() == body
    assert len(upstream.peers) == 1


@pytest.mark.parametrize(
    ("path", "header"),
    [
        ("/x", ("x-a", "1\r\nx-b: 2")),
        ("/x", ("x-a", "1\nx")),
        ("/x", ("x-a", "1\rx")),
        ("/x", ("x-a", "1\0x")),
        ("/x", ("x-a", "漢")),
        ("/x", ("x-a\r\nb", "1")),
        ("/x", ("x a", "1")),
        ("/x", ("", "1")),
        ("/x", ("transfer-encoding", "chunked")),
        ("/x", ("Content-Length", "5")),
        ("/x HTTP/1.1\r\nx: y", ("x-a", "1")),
        ("/é", ("x-a", "1")),
        ("x", ("x-a", "1")),
    ],
)
async def test_nothing_can_be_smuggled_into_the_head(serve, connect, post, path, header):
    async def handler(peer):
        await peer.gone()

    transport = connect(upstream := await serve(handler))
    with pytest.raises(ProviderError) as caught:
        await transport.send(post(path, b"{}", ("authorization", "Bearer sk-secret"), header))
    assert caught.value.code == "upstream_invalid"
    assert "secret" not in str(caught.value)
    assert not upstream.peers


async def test_tcp_nodelay_is_set(serve, connect, post):
    async def handler(peer):
        while await peer.request():
            await peer.reply()

    transport = connect(await serve(handler))
    await (await transport.send(post())).read()
    (connection,) = transport._pool._live
    raw = connection._transport.get_extra_info("socket")
    assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
