import asyncio
import gzip
import ssl
import time
import zlib

import pytest
import trustme

from penstock.core.errors import ProviderError
from penstock.providers.http import ProxiedTransport


async def copy(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


class Proxy:
    """A handler that serves CONNECT and absolute request targets."""

    def __init__(self):
        self.heads = []

    async def __call__(self, peer):
        head = await peer.reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        method, target, _ = head.split(b" ", 2)
        if b"/refused" in target or b"refused.example" in target:
            await peer.send(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
            return
        authority = target if method == b"CONNECT" else target.split(b"/")[2]
        host, _, port = authority.decode().partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        if method == b"CONNECT":
            await peer.send(b"HTTP/1.1 200 Connected\r\n\r\n")
        else:
            writer.write(head)
        await asyncio.gather(copy(peer.reader, writer), copy(reader, peer.writer))


@pytest.fixture
async def via(serve, connect):
    """Open a transport to an upstream through a proxy."""
    proxy = Proxy()
    server = await serve(proxy)

    def make(upstream, **options):
        transport = connect(upstream, proxy=f"http://user:sk-secret@127.0.0.1:{server.port}", **options)
        assert isinstance(transport, ProxiedTransport)
        return transport

    make.heads = proxy.heads
    return make


async def test_http_with_an_absolute_target(serve, via, post):
    seen = []

    async def handler(peer):
        while request := await peer.request():
            seen.append(request)
            await peer.reply(b"hello", "content-type: text/plain", "x-a: 1", "x-a: 2")

    upstream = await serve(handler)
    transport = via(upstream)
    for _ in range(2):
        reply = await transport.send(post("/v1/x?a=1", b"{}", ("x-b", "3")))
        assert (reply.status, reply.headers["x-a"]) == (200, "1, 2")
        assert await reply.read() == b"hello"
    assert seen[0].startswith(f"POST {upstream.url}/v1/x?a=1 HTTP/1.1\r\n".encode())
    head = seen[0].lower()
    for field in (b"accept-encoding: gzip, deflate", b"content-length: 2", b"x-b: 3", b"proxy-authorization: basic"):
        assert head.count(field) == 1
    assert head.count(b"\r\nhost: ") == 1
    assert len(via.heads) == 1


async def test_https_through_connect(serve, via, post, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))

    async def handler(peer):
        while await peer.request():
            await peer.reply(gzip.compress(b"hello"), "content-encoding: gzip")

    for name, trusted in (("127.0.0.1", True), ("example.com", False)):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(context)
        upstream = await serve(handler, "https", ssl=context)
        transport = via(upstream, ca_file=str(tmp_path / "ca.pem"))
        if trusted:
            assert await (await transport.send(post("/x"))).read() == b"hello"
            assert via.heads[0].startswith(f"CONNECT 127.0.0.1:{upstream.port} HTTP/1.1\r\n".encode())
        else:
            with pytest.raises(ProviderError) as caught:
                await transport.send(post())
            assert caught.value.code == "upstream_tls"


async def test_streams_arrive_piece_by_piece_and_can_be_closed_early(serve, via, post):
    closed = asyncio.Event()

    async def handler(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
        await asyncio.sleep(0.02)
        await peer.send(b"1\r\nb\r\n")
        await peer.gone()
        closed.set()

    reply = await via(await serve(handler)).send(post())
    pieces = aiter(reply)
    assert [await anext(pieces), await anext(pieces)] == [b"a", b"b"]
    before = time.monotonic()
    await reply.aclose()
    await asyncio.wait_for(closed.wait(), 2)
    assert time.monotonic() - before < 0.25
    with pytest.raises(ProviderError):
        await anext(pieces)


OK = b"HTTP/1.1 200 OK\r\n"
BOMB = gzip.compress(bytes(32 * 1024 * 1024))


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"", "upstream_incomplete"),
        (OK + b"content-length: 5\r\n\r\nabc", "upstream_incomplete"),
        (OK + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", "upstream_incomplete"),
        (OK + b"transfer-encoding: chunked\r\n\r\nzz\r\nabc\r\n", "upstream_invalid"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "upstream_invalid"),
        (OK + b"x: " + b"y" * 70_000 + b"\r\n\r\n", "upstream_invalid"),
        (OK + b"content-length: 200000\r\n\r\n" + b"x" * 200_000, "upstream_invalid"),
        (OK + b"content-encoding: br\r\n\r\nabc", "upstream_invalid"),
        (OK + b"content-encoding: gzip\r\n\r\nabcdefghijkl", "upstream_invalid"),
        (OK + b"content-encoding: gzip\r\n\r\n" + BOMB, "upstream_invalid"),
        (OK + b"content-encoding: gzip\r\n\r\n" + zlib.compress(b"x", wbits=31)[:-2], "upstream_invalid"),
    ],
)
async def test_the_same_errors(serve, via, post, sent, code):
    async def handler(peer):
        await peer.request()
        await peer.send(sent)

    transport = via(await serve(handler), max_response_bytes=100_000)
    with pytest.raises(ProviderError) as caught:
        await (await transport.send(post())).read()
    assert caught.value.code == code
    assert "through the proxy 127.0.0.1:" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("timeouts", "script"),
    [
        ({"first_byte_s": 0.1}, b""),
        ({"idle_s": 0.1}, OK + b"content-length: 5\r\n\r\nab"),
        ({"idle_s": 0.3, "first_byte_s": 0.1}, OK + b"content-length: 5\r\n\r\nab"),
        ({"total_s": 0.1}, OK + b"content-length: 5\r\n\r\nab"),
        ({"total_s": 0.1}, b""),
    ],
)
async def test_timeouts(serve, via, post, timeouts, script):
    async def handler(peer):
        await peer.request()
        await peer.send(script)
        await peer.gone()

    transport = via(await serve(handler), timeouts=timeouts, max_connections=1)
    for _ in range(2):
        with pytest.raises(ProviderError) as caught:
            await (await transport.send(post())).read()
        assert (caught.value.code, caught.value.retryable) == ("upstream_timeout", True)


async def test_cancelling_frees_the_connection(serve, via, post):
    async def handler(peer):
        await peer.request()
        if peer.number == 0:
            await peer.gone()
        await peer.reply(b"ok")
        await peer.gone()

    transport = via(await serve(handler), max_connections=1)
    task = asyncio.create_task(transport.send(post()))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await (await transport.send(post())).read() == b"ok"


async def test_proxy_that_refuses_or_is_not_there(serve, connect, via, post, unused_tcp_port):
    for transport, code in (
        (via("https://refused.example"), "upstream_connect"),
        (connect("https://refused.example", proxy=f"http://127.0.0.1:{unused_tcp_port}"), "upstream_connect"),
        (connect("http://refused.example", proxy="http://host.invalid:1"), "upstream_dns"),
    ):
        with pytest.raises(ProviderError) as caught:
            await transport.send(post())
        assert caught.value.code == code
        assert "secret" not in str(caught.value)


async def test_header_injection_is_refused(serve, via, post):
    transport = via("http://127.0.0.1:9")
    with pytest.raises(ProviderError) as caught:
        await transport.send(post("/x", b"", ("x", "a\r\nb: c")))
    assert caught.value.code == "upstream_invalid"


async def test_closed_transport(via, post):
    transport = via("http://127.0.0.1:9")
    await transport.aclose()
    with pytest.raises(ProviderError):
        await transport.send(post())
