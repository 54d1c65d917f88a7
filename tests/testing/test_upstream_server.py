import asyncio

import httpx
import openai
import pytest

from penstock.testing import UpstreamReply, UpstreamServer, chunks, json_reply, sse_reply


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
