import asyncio
import json
from pathlib import Path

import pytest

from penstock.config.kinds import KINDS
from penstock.config.providers import ProviderSettings
from penstock.core.call import Call
from penstock.core.errors import InvalidRequest, ProviderError
from penstock.core.request import Request
from penstock.core.route import Target
from penstock.core.usage import Usage
from penstock.providers.ollama import OllamaProvider
from penstock.providers.transport import open_transport
from penstock.testing.conformance import check_provider
from penstock.testing.faultd import UpstreamReply, UpstreamServer, json_reply

GOLDEN = Path(__file__).parent.parent / "golden" / "ollama"
CHAT, GENERATE, ERROR = ((GOLDEN / f"{name}.ndjson").read_bytes() for name in ("chat", "generate", "error"))
FIRST = CHAT.splitlines(keepends=True)[0]
TARGET = Target("near", "llama3.2")
NDJSON = {"content-type": "application/x-ndjson"}
HELLO = {"messages": [{"role": "user", "content": "Hello"}]}


def request(payload=HELLO, *, stream=False, operation="chat"):
    return Request(operation, "m", payload, Call("r"), stream=stream)


def provider(server, key=None, base_url=None, **fields):
    settings = ProviderSettings(name="near", kind="ollama", base_url=base_url or server.origin, **fields)
    return OllamaProvider(settings, KINDS["ollama"], open_transport(server.origin, settings), key)


def streamed(*parts):
    return UpstreamReply(headers=NDJSON, parts=parts)


async def asked(script, sent, key=None):
    async with UpstreamServer(script) as server:
        near = provider(server, key)
        try:
            response = await near.send(sent, TARGET)
            body = json.loads(await response.read())
        finally:
            await near.aclose()
    [arrived] = server.requests
    return arrived, body, response


async def failure(script, sent):
    with pytest.raises(ProviderError) as caught:
        await asked(script, sent)
    return caught.value


async def test_chat():
    message = {"role": "assistant", "content": "Hello!"}
    reply = {"model": "llama3.2", "message": message, "done": True, "prompt_eval_count": 26, "eval_count": 298}
    arrived, body, response = await asked(json_reply(reply), request())
    assert (arrived.method, arrived.path) == ("POST", "/api/chat")
    assert arrived.json() == {"model": "llama3.2", **HELLO, "stream": False}
    assert "authorization" not in arrived.headers
    assert body["id"].startswith("chatcmpl-")
    assert body["choices"][0]["message"] == message
    assert (response.usage, response.finish_reason) == (Usage(26, 298), "stop")


async def test_a_chat_stream_and_then_another_request_on_the_same_connection():
    pieces = [CHAT[at : at + 9] for at in range(0, len(CHAT), 9)]
    async with UpstreamServer([streamed(*pieces), json_reply({"models": []})]) as server:
        near = provider(server)
        response = await near.send(request(stream=True), TARGET)
        events = [event async for batch in response for event in batch]
        assert await near.models() == []
        await near.aclose()
    said = [json.loads(event.data)["choices"][0]["delta"].get("content", "") for event in events[:-1]]
    assert "".join(said) == "水の 門 🚰"
    assert (response.usage, response.finish_reason) == (Usage(26, 282), "stop")
    assert server.requests[0].json()["stream"] is True
    assert [row.requests for row in server.connections] == [2]


async def test_completions():
    arrived, body, _ = await asked(streamed(GENERATE), request({"prompt": "Hi"}, operation="completions", stream=True))
    assert arrived.path == "/api/generate"
    assert arrived.json() == {"model": "llama3.2", "prompt": "Hi", "stream": True}
    assert body["id"].startswith("cmpl-")
    assert body["choices"][0]["text"] == "That's it!"
    reply = json_reply({"model": "m", "response": "Ho", "done": True})
    _, body, _ = await asked(reply, request({"prompt": "Hi"}, operation="completions"))
    assert (body["object"], body["choices"][0]["text"]) == ("text_completion", "Ho")


async def test_embeddings():
    reply = json_reply({"model": "all-minilm", "embeddings": [[0.5, 1.0]], "prompt_eval_count": 8})
    arrived, body, response = await asked(reply, request({"input": "Why?"}, operation="embeddings"))
    assert (arrived.path, arrived.json()) == ("/api/embed", {"model": "llama3.2", "input": "Why?"})
    assert body["data"][0]["embedding"] == [0.5, 1.0]
    assert response.usage == Usage(8)
    sent = request({"input": "Why?", "encoding_format": "base64"}, operation="embeddings")
    _, body, _ = await asked(reply, sent)
    assert body["data"][0]["embedding"] == "AAAAPwAAgD8="


async def test_models():
    tags = {"models": [{"name": "llama3.2:latest", "modified_at": "2025-05-04T17:37:44.706015396-07:00"}]}
    async with UpstreamServer(json_reply(tags)) as server:
        near = provider(server)
        [model] = await near.models()
        await near.aclose()
    assert (model.id, model.created, model.owned_by) == ("llama3.2:latest", 1746405464, "ollama")
    assert (server.requests[0].method, server.requests[0].path) == ("GET", "/api/tags")


def window(loaded=None, parameters="", **info):
    """A server that says how long prompts may be."""
    models = [] if loaded is None else [{"name": "llama3.2:latest", "context_length": loaded}]
    show = {"parameters": parameters, "model_info": info}
    return lambda request: json_reply({"models": models} if request.path == "/api/ps" else show)


@pytest.mark.parametrize(
    ("script", "tokens"),
    [
        (window(loaded=32768), 32768),
        (window(parameters='temperature 0.5\nnum_ctx                        16384\nstop "x"'), 16384),
        (window(**{"llama.context_length": 131072}), 4096),
        (window(**{"bert.context_length": 512}), 512),
        (window(), 4096),
    ],
)
async def test_the_window_that_can_be_counted_on(script, tokens):
    async with UpstreamServer(script) as server:
        near = provider(server)
        assert await near.context_window("llama3.2") == tokens
        await near.aclose()


async def test_the_window_of_a_model_that_is_not_there():
    missing = json_reply({"error": "model not found"}, status=404)
    async with UpstreamServer(
        lambda request: json_reply({"models": None}) if "ps" in request.path else missing
    ) as server:
        near = provider(server)
        with pytest.raises(ProviderError, match="model"):
            await near.context_window("llama3.2")
        await near.aclose()
    async with UpstreamServer(json_reply([])) as server:
        near = provider(server)
        with pytest.raises(ProviderError, match="cannot be read"):
            await near.context_window("llama3.2")
        await near.aclose()


async def test_a_key_is_sent_when_there_is_one():
    reply = json_reply({"message": {"content": "x"}, "done": True})
    arrived, _, _ = await asked(reply, request(), key="k")
    assert arrived.headers["authorization"] == "Bearer k"


async def test_the_address_may_have_a_path_and_a_query():
    async with UpstreamServer(json_reply({"message": {"content": "x"}, "done": True})) as server:
        near = provider(server, base_url=f"{server.origin}/below/", query={"q": "a b"})
        await near.send(request(), TARGET)
        await near.aclose()
    assert server.requests[0].path == "/below/api/chat?q=a+b"


async def test_a_missing_model_is_told_with_how_to_get_it():
    error = await failure(json_reply({"error": "model 'llama3.2' not found"}, status=404), request())
    assert (error.status_code, error.code, error.elsewhere) == (404, "model_not_found", True)
    assert "ollama pull llama3.2" in error.message


async def test_an_error_before_any_output_fails_the_attempt():
    error = await failure(streamed(ERROR.splitlines(keepends=True)[1]), request(stream=True))
    assert (error.code, error.retryable, error.provider) == ("upstream_error", True, "near")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (ERROR, "upstream_error"),
        (FIRST, "upstream_incomplete"),
        (CHAT[:-20], "upstream_incomplete"),
        (FIRST + b"<html>\n", "upstream_invalid"),
    ],
)
async def test_streams_that_break_end_after_what_was_said(body, code):
    async with UpstreamServer(streamed(body)) as server:
        near = provider(server)
        response = await near.send(request(stream=True), TARGET)
        batches = aiter(response)
        assert await anext(batches)
        with pytest.raises(ProviderError) as caught:
            await anext(batches)
        await near.aclose()
    assert caught.value.code == code


@pytest.mark.parametrize("stream", [True, False])
async def test_a_page_in_place_of_an_answer(stream):
    reply = UpstreamReply(headers={"content-type": "text/html"}, body=b"<html>\n</html>\n")
    assert (await failure(reply, request(stream=stream))).code == "upstream_invalid"


async def test_closing_a_stream_early_closes_the_upstream():
    async with UpstreamServer(streamed(FIRST, asyncio.Event())) as server:
        near = provider(server)
        response = await near.send(request(stream=True), TARGET)
        await response.aclose()
        async with asyncio.timeout(5):
            await server.wait_for_close()
        await near.aclose()


async def test_a_request_that_cannot_be_translated_is_not_sent():
    async with UpstreamServer() as server:
        near = provider(server)
        with pytest.raises(InvalidRequest):
            await near.send(request({"messages": HELLO["messages"], "n": 2}), TARGET)
        await near.aclose()
    assert server.connections == []


async def test_it_keeps_the_promises_of_a_provider():
    whole = {"message": {"content": "水の 門 🚰"}, "done": True, "prompt_eval_count": 26, "eval_count": 282}

    def script(arrived):
        if arrived.method == "GET":
            return json_reply({"models": [{"name": "llama3.2"}]})
        return streamed(CHAT) if arrived.json()["stream"] else json_reply(whole)

    async with UpstreamServer(script) as server:
        await check_provider(provider(server), "llama3.2")
