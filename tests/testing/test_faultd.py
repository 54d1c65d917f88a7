import asyncio
import contextlib
import datetime
import ssl

import httpx
import msgspec
import openai
import pytest
import trustme

from penstock.core.usage import Usage
from penstock.testing import UpstreamReply, UpstreamServer, answer, chunks, faults, json_reply, sse_reply


@pytest.fixture
async def http():
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        yield client


async def post(http, server, **body):
    return await http.post(server.origin + "/v1/x", json=body)


async def test_an_official_client_understands_it():
    async with UpstreamServer() as server, openai.AsyncOpenAI(base_url=server.origin + "/v1", api_key="k") as client:
        question = [{"role": "user", "content": "Hi"}]
        whole = await client.chat.completions.create(model="m", messages=question)
        assert whole.choices[0].message.content == "Hello."
        stream = await client.chat.completions.create(model="m", messages=question, stream=True)
        texts = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
        assert "".join(texts) == "Hello."
        assert [request.json().get("stream") for request in server.requests] == [None, True]
        assert server.requests[0].path == "/v1/chat/completions"
        assert server.requests[0].headers["authorization"] == "Bearer k"
        assert len(server.connections) == 1
        assert server.connections[0].requests == 2
        assert server.connections[0].closed_at is None


async def test_replies_follow_the_script(http):
    script = [json_reply({"n": 1}, status=503, headers={"retry-after": "7"}), json_reply(b"[2]")]
    async with UpstreamServer(script) as server:
        first, second, third = [await post(http, server, number=number) for number in range(3)]
        assert (first.status_code, first.reason_phrase, first.headers["retry-after"]) == (
            503,
            "Service Unavailable",
            "7",
        )
        assert first.json() == {"n": 1}
        assert second.json() == third.json() == [2]
        assert [request.json()["number"] for request in server.requests] == [0, 1, 2]


async def test_a_reply_can_depend_on_the_request(http):
    async with UpstreamServer(lambda request: UpstreamReply(status=299, body=request.body)) as server:
        response = await post(http, server, echo="me")
        assert response.json() == {"echo": "me"}
        assert response.reason_phrase == "Unknown"


async def test_it_knows_when_the_client_hung_up(http):
    gate = asyncio.Event()
    async with UpstreamServer(UpstreamReply(parts=[b"one", gate, b"two"])) as server:
        async with http.stream("POST", server.origin, json={}) as response:
            assert await anext(response.aiter_raw()) == b"one"
            assert server.connections[0].closed_at is None
            before = asyncio.get_running_loop().time()
        assert before <= await asyncio.wait_for(server.wait_for_close(), 5) <= asyncio.get_running_loop().time()


async def test_it_can_stay_silent(http):
    async with UpstreamServer(UpstreamReply(silent=True)) as server:
        asking = asyncio.create_task(post(http, server))
        await server.wait_for_requests(1)
        assert not asking.done()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await asyncio.wait_for(server.wait_for_close(), 5)


async def test_it_waits_between_parts(http):
    loop = asyncio.get_running_loop()
    start = loop.time()
    async with UpstreamServer(UpstreamReply(delay_s=0.05, parts=[b"a", 0.05, b"b"])) as server:
        assert (await post(http, server)).content == b"ab"
    assert loop.time() - start >= 0.09


async def raw(server):
    """Everything the server sends to one request, and whether the connection was reset."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
    received = b""
    try:
        while piece := await asyncio.wait_for(reader.read(65536), 5):
            received += piece
    except ConnectionResetError:
        return received, True
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    return received, False


@pytest.mark.parametrize("cut", ["fin", "rst"])
async def test_it_cuts_after_so_many_bytes(cut):
    for after, left in [(None, None), (0, b""), (3, b"abc"), (6, b"abcdef")]:
        async with UpstreamServer(UpstreamReply(body=b"abcdef", cut=cut, cut_after=after)) as server:
            received, reset = await raw(server)
            assert received.partition(b"\r\n\r\n")[2] == (left or b"")
            assert bool(received) is (left is not None)
            assert reset is (cut == "rst")
            assert server.connections[0].closed_at is None


async def test_it_cuts_between_chunks_and_inside_them():
    for after, left in [(3, b"3\r\nabc\r\n"), (5, b"3\r\nabc\r\n3\r\nde"), (6, b"3\r\nabc\r\n3\r\ndef\r\n")]:
        async with UpstreamServer(UpstreamReply(parts=[b"abc", b"def"], cut="fin", cut_after=after)) as server:
            assert (await raw(server))[0].partition(b"\r\n\r\n")[2] == left


async def test_an_event_stream_can_end_without_its_end():
    events = chunks("Hello.", finish_reason=None, bare_usage=False)
    async with UpstreamServer(sse_reply(events, done=False, cut="fin")) as server:
        received, _ = await raw(server)
    assert received.count(b"data: ") == 2
    assert b"DONE" not in received
    assert not received.endswith(b"0\r\n\r\n")
    async with (
        UpstreamServer(sse_reply([b"{}", b"{}"], gap_s=0.01)) as server,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        assert (await post(http, server)).text == "data: {}\n\ndata: {}\n\ndata: [DONE]\n\n"


async def test_pipelined_requests_are_answered_in_order():
    replies = [UpstreamReply(body=b"1", delay_s=0.02), UpstreamReply(body=b"2", cut="fin", cut_after=1)]
    async with UpstreamServer(replies) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n")
        received = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        await writer.wait_closed()
    assert [line[-1:] for line in received.split(b"HTTP/1.1 200 OK")[1:]] == [b"1", b"2"]
    assert [request.path for request in server.requests] == ["/a", "/b"]


async def exchange(server, request=b"GET / HTTP/1.1\r\n\r\n", wait=5):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), wait)
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def test_it_reads_chunked_requests(http):
    async def pieces():
        yield b'{"stream"'
        yield b":true}"

    async with UpstreamServer() as server:
        response = await http.post(server.origin, content=pieces())
        assert response.headers["content-type"] == "text/event-stream"
        assert server.requests[0].headers["transfer-encoding"] == "chunked"
        assert server.requests[0].json() == {"stream": True}
        raw = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2;x=y\r\n{}\r\n0\r\ntrailer: z\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for position in range(len(raw)):
            writer.write(raw[position : position + 1])
            await asyncio.sleep(0.0005)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        assert server.requests[1].body == b"{}"
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    "raw", [b"\x16\x03\x01\x02", b"HELLO\r\n\r\n", b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n"]
)
async def test_what_is_not_http_is_refused_as_web_servers_do(raw):
    async with UpstreamServer() as server:
        assert (await exchange(server, raw)).startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert not server.requests


@pytest.mark.parametrize(
    ("framing", "field", "body"),
    [
        ("length", b"content-length: 4", b"abcd"),
        ("chunked", b"transfer-encoding: chunked", b"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n"),
        ("close", b"connection: close", b"abcd"),
        ("own", b"x-own: 1", b"abcd"),
    ],
)
async def test_every_framing(framing, field, body):
    cut = {"cut": "fin", "cut_after": 5}  # beyond the end, so that nothing is missing
    reply = UpstreamReply(parts=[b"ab", b"cd"], framing=framing, headers={"x-own": "1"}, **cut)
    async with UpstreamServer(reply) as server:
        head, _, rest = (await exchange(server)).partition(b"\r\n\r\n")
        assert field in head
        assert rest == body
        assert server.invoice[0].ending == "cut"
        assert server.invoice[0].sent_bytes == 4
    async with UpstreamServer(faults.not_http()) as server:
        assert await exchange(server) == b"SSH-2.0-OpenSSH_9.7\r\n"


async def test_the_invoice_has_the_tokens_it_named_and_how_each_attempt_ended(http):
    usage = Usage(input_tokens=7, output_tokens=5)
    stream = sse_reply(chunks("Hello.", usage=usage))
    size = len(faults.whole_body(stream))
    replies = [
        json_reply(answer("Hello.", usage=usage)),
        stream,
        faults.gzipped(stream),
        faults.stalled(stream, 200),
        json_reply({"error": {}}, status=500),
        msgspec.structs.replace(stream, cut="fin", cut_after=size - len(b"data: [DONE]\n\n")),
    ]
    async with UpstreamServer(replies) as server:
        for _ in range(3):
            assert (await post(http, server)).is_success
        async with http.stream("POST", server.origin, json={}) as response:
            await anext(response.aiter_raw())
        await asyncio.wait_for(server.wait_for_endings(4), 5)
        assert (await post(http, server)).status_code == 500
        with pytest.raises(httpx.RemoteProtocolError):
            await post(http, server)
        lines = server.invoice
        assert [line.usage for line in lines] == [usage, usage, usage, None, None, usage]
        assert [line.ending for line in lines] == ["finished"] * 3 + ["closed", "finished", "cut"]
        assert [line.status for line in lines] == [200, 200, 200, 200, 500, 200]
        assert all(line.started_at <= line.ended_at for line in lines)
        assert server.billed == Usage(input_tokens=28, output_tokens=20)
        await asyncio.wait_for(server.wait_until(lambda: not server.open_connections), 5)
        assert server.connections[0].closed_at is not None  # by the client, which gave up on the stall
        assert server.connections[-1].closed_at is None  # by the server


@pytest.mark.parametrize("welcome", ["fin", "rst", "stall"])
async def test_connections_need_not_be_welcome(welcome):
    async with UpstreamServer(welcome=welcome) as server:
        if welcome == "rst":
            with pytest.raises(ConnectionResetError):
                await exchange(server)
        elif welcome == "fin":
            with contextlib.suppress(ConnectionResetError):  # if the request met a closed socket
                assert await exchange(server) == b""
        else:
            with pytest.raises(TimeoutError):
                await exchange(server, wait=0.05)
            await asyncio.wait_for(server.wait_for_close(), 5)
        assert not server.requests


async def test_tls_with_good_and_bad_certificates():
    authority = trustme.CA()
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    certificates = {
        "valid": authority.issue_cert("127.0.0.1"),
        "expired": authority.issue_cert("127.0.0.1", not_after=yesterday),
        "wrong host": authority.issue_cert("elsewhere.example"),
    }
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    for name, certificate in certificates.items():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        async with UpstreamServer(tls=context) as server, httpx.AsyncClient(verify=trusting, trust_env=False) as http:
            assert server.origin.startswith("https://")
            if name == "valid":
                assert (await post(http, server)).json()["choices"]
            else:
                with pytest.raises(httpx.ConnectError):
                    await post(http, server)
                assert not server.requests
    async with UpstreamServer() as server, httpx.AsyncClient(verify=trusting, trust_env=False) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get(f"https://127.0.0.1:{server.port}/")


async def test_ready_made_faults(http):
    good = json_reply(answer("Hello. " * 50))
    body = faults.whole_body(good)
    async with UpstreamServer([faults.gzipped(good), faults.split(good), faults.mislabelled(good, None)]) as server:
        assert (await post(http, server)).content == body
        assert (await post(http, server)).content == body
        response = await post(http, server)
        assert response.content == body
        assert "content-type" not in response.headers
    broken = [faults.corrupt(good), faults.truncated(good), faults.malformed_chunk({}, [b"ab"])]
    async with UpstreamServer(broken) as server:
        for _ in broken[:1]:
            with pytest.raises(httpx.DecodingError):
                await post(http, server)
        assert len((await post(http, server)).content) < len(body)
        with pytest.raises(httpx.RemoteProtocolError):
            await post(http, server)
    async with UpstreamServer([faults.bomb(good, 2_000_000), faults.html(403), faults.endless_line(200_000)]) as server:
        response = await post(http, server)
        assert len(response.content) > 2_000_000 > 500 * int(response.headers["content-length"])
        assert (await post(http, server)).status_code == 403
        assert len((await post(http, server)).content) > 190_000


async def test_slow_and_endless_faults(http):
    loop = asyncio.get_running_loop()
    slow = [faults.slow_head(UpstreamReply(body=b"x"), 0.002), faults.dripped(UpstreamReply(body=b"x" * 40), 0.002)]
    async with UpstreamServer(slow) as server:
        for _ in slow:
            start = loop.time()
            await post(http, server)
            assert loop.time() - start > 0.05
    async with UpstreamServer([faults.comments(0.005, [b"data: 1\n\n"]), faults.flood(b"data: 2\n\n")]) as server:
        for line in ("data: 1\n\n: ping\n\n: ping\n\n", "data: 2\n\n" * 1000):
            heard = ""
            async with http.stream("POST", server.origin, json={}) as response:
                async for text in response.aiter_text():
                    heard += text
                    if len(heard) >= len(line):
                        break
            assert heard.startswith(line)
        await asyncio.wait_for(server.wait_for_endings(2), 5)


async def test_a_flood_waits_for_a_reader_that_is_slow():
    async with UpstreamServer(faults.flood(b"data: x\n\n" * 1000)) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await asyncio.wait_for(server.wait_for_requests(1), 5)
        await asyncio.sleep(0.2)
        sent = server.invoice[0].sent_bytes
        await asyncio.sleep(0.1)
        assert server.invoice[0].sent_bytes == sent < 20_000_000
        writer.close()
        await writer.wait_closed()
