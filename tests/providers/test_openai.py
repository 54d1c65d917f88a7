import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from penstock.config.kinds import KINDS
from penstock.config.providers import ProviderSettings
from penstock.core.call import Call
from penstock.core.errors import ProviderError
from penstock.core.request import Request
from penstock.core.route import Target
from penstock.core.usage import Usage
from penstock.providers.openai import OpenAIProvider
from penstock.providers.transport import open_transport
from penstock.wire.openai_chat import DONE, decode_request, frame

GOLDEN = Path(__file__).parents[1] / "golden" / "openai"
TARGET = Target("up", "gpt-4o-mini")
ANSWER = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"Hi","annotations":[]},"logprobs":null,"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5},"service_tier":"default","cost":1.10}'
)


class Reply:
    def __init__(self, body=b"", *, status=200, headers=None, media="application/json", stall=False):
        self.status = status
        self.headers = {"content-type": media, **(headers or {})}
        self.closed = 0
        self._pieces = [body] if isinstance(body, bytes) else body
        self._stall = stall

    async def read(self) -> bytes:
        return b"".join([piece async for piece in self])

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece
        if self._stall:
            await asyncio.Event().wait()

    async def aclose(self) -> None:
        self.closed += 1


class Wire:
    def __init__(self, *replies):
        self.replies = list(replies)
        self.sent = []
        self.closed = False

    async def send(self, request):
        self.sent.append(request)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def aclose(self):
        self.closed = True


def provider(wire, kind="openai", key="sk-test-0123456789", **settings):
    return OpenAIProvider(ProviderSettings(name="up", kind=kind, **settings), KINDS[kind], wire, key)


def ask(*, stream=False, operation="chat", **payload):
    payload = payload or {"messages": [{"role": "user", "content": "Hi"}]}
    return Request(operation, "assistant", payload, Call("call"), stream=stream)


def events(*choices, done=True):
    data = b"".join(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n" for choice in choices)
    return data + DONE if done else data


SAY = {"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}
STOP = {"index": 0, "delta": {}, "finish_reason": "stop"}


def sse(*pieces, **options):
    return Reply(list(pieces), media="text/event-stream; charset=utf-8", **options)


async def drain(response):
    return [event async for batch in response for event in batch]


async def fails(wire, request=None, **settings):
    with pytest.raises(ProviderError) as caught:
        await provider(wire, **settings).send(request or ask(), TARGET)
    assert caught.value.provider == "up"
    return caught.value


async def test_sends_the_golden_request():
    inbound = decode_request("chat", (GOLDEN / "client_request.json").read_bytes())
    request = Request(
        "chat", inbound.model, inbound.payload, Call("c"), stream=inbound.stream, stream_options=inbound.stream_options
    )
    wire = Wire(sse(events(STOP)))
    await drain(await provider(wire).send(request, TARGET))
    assert wire.sent[0].body == (GOLDEN / "upstream_request.json").read_bytes().rstrip(b"\n")


@pytest.mark.parametrize("include_usage", [True, False])
async def test_relays_the_golden_stream_cut_anywhere(include_usage):
    raw = (GOLDEN / "upstream_stream.sse").read_bytes()
    expected = (GOLDEN / ("client_stream_usage.sse" if include_usage else "client_stream.sse")).read_bytes()
    for cut in range(1, len(raw)):
        reply = sse(raw[:cut], raw[cut:])
        response = await provider(Wire(reply)).send(ask(stream=True), TARGET)
        relayed = b"".join([frame(batch, include_usage=include_usage) async for batch in response]) + DONE
        assert relayed == expected
        assert reply.closed
        assert (response.finish_reason, response.usage) == ("stop", Usage(57, 40, reasoning_tokens=8))


async def test_a_whole_answer_keeps_its_bytes():
    wire = Wire(Reply(ANSWER, media="application/json; charset=utf-8"))
    response = await provider(wire).send(ask(), TARGET)
    assert response.body == ANSWER
    assert (response.usage, response.finish_reason) == (Usage(3, 2), "stop")


@pytest.mark.parametrize(
    ("kind", "settings", "operation", "path"),
    [
        ("openai", {}, "chat", "/v1/chat/completions"),
        ("openai", {}, "completions", "/v1/completions"),
        ("openai", {}, "embeddings", "/v1/embeddings"),
        ("openai-compatible", {"base_url": "http://127.0.0.1:1/"}, "chat", "/chat/completions"),
        (
            "azure",
            {"base_url": "https://x.example/openai/v1/", "query": {"api-version": "2024 10", "a": "b"}},
            "chat",
            "/openai/v1/chat/completions?api-version=2024+10&a=b",
        ),
    ],
)
async def test_where_requests_go(kind, settings, operation, path):
    body = b'{"data":[]}' if operation == "embeddings" else ANSWER
    wire = Wire(Reply(body))
    await provider(wire, kind, **settings).send(ask(operation=operation, input="x"), TARGET)
    assert (wire.sent[0].method, wire.sent[0].path) == ("POST", path)


@pytest.mark.parametrize(
    ("kind", "key", "settings", "expected"),
    [
        ("openai", "k", {}, {"authorization": "Bearer k"}),
        ("azure", "k", {}, {"api-key": "k"}),
        ("vllm", None, {}, {}),
        ("vllm", "k", {}, {"authorization": "Bearer k"}),
        ("openai", None, {"headers": {"Authorization": "Bearer own"}}, {"authorization": "Bearer own"}),
        ("groq", "k", {"headers": {"X-Org": "o"}}, {"authorization": "Bearer k", "x-org": "o"}),
    ],
)  # fmt: skip
async def test_how_requests_are_signed(kind, key, settings, expected):
    wire = Wire(Reply(ANSWER))
    await provider(wire, kind, key, **settings).send(ask(), TARGET)
    headers = dict(wire.sent[0].headers)
    assert headers.pop("content-type") == "application/json"
    assert headers.pop("user-agent") == "penstock"
    assert "text/event-stream" in headers.pop("accept")
    assert headers == expected


async def test_a_missing_key_is_named_and_nothing_is_sent():
    wire = Wire()
    error = await fails(wire, key=None)
    assert (error.code, error.retryable, error.elsewhere) == ("upstream_auth", False, True)
    assert "OPENAI_API_KEY" in error.message
    with pytest.raises(ProviderError, match="OPENAI_API_KEY"):
        await provider(wire, key=None).models()
    assert not wire.sent


async def test_kinds_get_only_what_they_take():
    fields = {"messages": [{"role": "user"}], "metadata": {"a": "b"}}
    bodies = {}
    for kind in ("openai", "mistral", "groq"):
        wire = Wire(sse(events(STOP)))
        await drain(await provider(wire, kind).send(ask(stream=True, **fields), TARGET))
        bodies[kind] = json.loads(wire.sent[0].body)
    assert "metadata" not in bodies["openai"]
    assert bodies["openai"]["stream_options"] == bodies["groq"]["stream_options"] == {"include_usage": True}
    assert "stream_options" not in bodies["mistral"]
    assert bodies["mistral"]["metadata"] == bodies["groq"]["metadata"] == {"a": "b"}


async def test_the_deadline_is_handed_on():
    wire = Wire(Reply(ANSWER))
    request = Request("chat", "m", {"messages": []}, Call("c"), deadline=12.5)
    await provider(wire).send(request, TARGET)
    assert wire.sent[0].deadline == 12.5


@pytest.mark.parametrize(
    ("reply", "stream", "code"),
    [
        (lambda: Reply(b"<html>", media="text/html"), False, "upstream_invalid"),
        (lambda: Reply(b"<html>", media="text/html; charset=utf-8"), True, "upstream_invalid"),
        (lambda: Reply(ANSWER, media=""), False, "upstream_invalid"),
        (lambda: Reply(b"<html>"), False, "upstream_invalid"),
        (lambda: Reply(b"{}"), False, "upstream_invalid"),
        (lambda: Reply(b"{}"), True, "upstream_invalid"),
        (lambda: Reply(ANSWER), True, "upstream_invalid"),
        (lambda: sse(events(STOP)), False, "upstream_invalid"),
        (lambda: sse(b"data: <oops>\n\n"), True, "upstream_invalid"),
        (lambda: sse(), True, "upstream_incomplete"),
        (lambda: sse(DONE), True, "upstream_incomplete"),
        (lambda: sse(b": ping\n\n"), True, "upstream_incomplete"),
        (lambda: Reply(b'{"error":{"message":"slow","code":429}}'), False, "rate_limit_exceeded"),
        (lambda: sse(b'data: {"error":{"message":"busy","code":503}}\n\n'), True, "upstream_error"),
        (lambda: Reply(b'{"error":{"message":"no"}}', status=401), False, "upstream_auth"),
        (lambda: Reply(b"<html>", status=502, media="text/html"), True, "upstream_error"),
        (lambda: sse(ProviderError("cut", code="upstream_incomplete", provider="up")), True, "upstream_incomplete"),
    ],
)
async def test_unusable_answers_fail_before_the_first_event_and_are_closed(reply, stream, code):
    given = reply()
    error = await fails(Wire(given), ask(stream=stream))
    assert error.code == code
    assert given.closed


async def test_a_rate_limit_says_when_to_come_back():
    body = b'{"error":{"message":"Rate limit reached for sk-abcdefghijk","code":"rate_limit_exceeded"}}'
    error = await fails(Wire(Reply(body, status=429, headers={"retry-after": "3"})))
    assert (error.status_code, error.code, error.retry_after) == (429, "rate_limit_exceeded", 3.0)
    assert "sk-abc" not in error.message


async def test_its_own_secrets_are_not_repeated():
    body = b'{"error":{"message":"bad credentials plain-key-77 and other-secret-88"}}'
    error = await fails(Wire(Reply(body, status=400)), key="plain-key-77", headers={"x-secret": "other-secret-88"})
    assert "plain-key" not in error.message
    assert "other-secret" not in error.message


@pytest.mark.parametrize("ending", [[], [DONE], [b"data: <oops>\n\n"], [b'data: {"choices"']])
async def test_a_stream_that_breaks_raises_after_what_came(ending):
    reply = sse(events(SAY, SAY, done=False), *ending)
    response = await provider(Wire(reply)).send(ask(stream=True), TARGET)
    assert len(await anext(aiter(response))) == 2
    with pytest.raises(ProviderError) as caught:
        await drain(response)
    assert caught.value.code == ("upstream_invalid" if b"oops" in b"".join(ending) else "upstream_incomplete")
    assert response.finish_reason is None
    assert reply.closed


async def test_a_batch_is_what_one_read_brought():
    reply = sse(events(SAY, SAY, done=False), events(SAY, STOP))
    response = await provider(Wire(reply)).send(ask(stream=True), TARGET)
    assert [len(batch) async for batch in response] == [2, 2]


async def test_it_waits_for_the_first_event_only():
    reply = sse(b": ping\n\n", events(SAY, done=False), stall=True)
    async with asyncio.timeout(5):
        response = await provider(Wire(reply)).send(ask(stream=True), TARGET)
    assert not response.whole
    await response.aclose()
    assert reply.closed


async def test_a_response_that_is_never_read_closes_its_reply():
    reply = sse(events(SAY, STOP))
    response = await provider(Wire(reply)).send(ask(stream=True), TARGET)
    assert not reply.closed
    await response.aclose()
    assert reply.closed


async def test_a_cancelled_wait_closes_the_reply():
    reply = sse(stall=True)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await provider(Wire(reply)).send(ask(stream=True), TARGET)
    assert reply.closed


async def test_a_server_that_never_ends_the_body_does_not_hold_up_the_answer():
    reply = sse(events(SAY, STOP), stall=True)
    response = await provider(Wire(reply)).send(ask(stream=True), TARGET)
    async with asyncio.timeout(5):
        assert len(await drain(response)) == 2
    assert reply.closed


async def test_lists_models():
    wire = Wire(Reply(b'{"object":"list","data":[{"id":"a","created":1,"owned_by":"o"}]}'))
    subject = provider(wire)
    assert [model.id for model in await subject.models()] == ["a"]
    assert (wire.sent[0].method, wire.sent[0].path, wire.sent[0].body) == ("GET", "/v1/models", b"")
    await subject.aclose()
    assert wire.closed


@asynccontextmanager
async def serving(pieces, media="text/event-stream"):
    """An HTTP server that answers every request on a connection with `pieces`, one chunk and one write each."""
    connections = []

    async def answer(reader, writer):
        connections.append(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
                writer.write(
                    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: %b\r\n\r\n" % media.encode()
                )
                for piece in pieces:
                    writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                    await asyncio.sleep(0)
                writer.write(b"0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", connections


async def real(url):
    settings = ProviderSettings(name="up", kind="openai-compatible", base_url=url, proxy="none")
    return OpenAIProvider(settings, KINDS["openai-compatible"], open_transport(url, settings), None)


async def test_over_a_real_socket_streams_share_a_connection():
    raw = (GOLDEN / "upstream_stream.sse").read_bytes()
    expected = (GOLDEN / "client_stream_usage.sse").read_bytes()
    async with serving([raw[i : i + 97] for i in range(0, len(raw), 97)]) as (url, connections):
        subject = await real(url)
        for _ in range(3):
            response = await subject.send(ask(stream=True), TARGET)
            relayed = b"".join([frame(batch, include_usage=True) async for batch in response]) + DONE
            assert relayed == expected
        assert len(connections) == 1
        await subject.aclose()


async def test_over_a_real_socket_an_answer_is_whole():
    async with serving([ANSWER[:100], ANSWER[100:]], "application/json") as (url, _):
        subject = await real(url)
        assert (await subject.send(ask(), TARGET)).body == ANSWER
        await subject.aclose()
