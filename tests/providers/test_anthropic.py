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
from penstock.providers.anthropic import AnthropicProvider
from penstock.providers.transport import open_transport
from penstock.testing.conformance import check_provider
from penstock.testing.faultd import UpstreamReply, UpstreamServer, json_reply

GOLDEN = Path(__file__).parent.parent / "golden" / "anthropic"
TEXT = (GOLDEN / "text.sse").read_bytes()
WHOLE = (GOLDEN / "thinking_and_tools.json").read_bytes()
TARGET = Target("far", "claude-haiku-4-5")
SSE = {"content-type": "text/event-stream; charset=utf-8"}


def request(*, stream=False, operation="chat", **payload):
    body = {"messages": [{"role": "user", "content": "Hello"}], **payload}
    return Request(operation, "claude", body, Call("r"), stream=stream)


def provider(server, key="sk-ant-secret", path="", **fields):
    settings = ProviderSettings(name="far", kind="anthropic", base_url=server.origin + path, **fields)
    return AnthropicProvider(settings, KINDS["anthropic"], open_transport(settings.base_url, settings), key)


def streamed(*parts):
    return UpstreamReply(headers=SSE, parts=parts)


async def failure(script, sent=None):
    async with UpstreamServer(script) as server:
        asked = provider(server)
        with pytest.raises(ProviderError) as caught:
            await asked.send(sent or request(), TARGET)
        await asked.aclose()
    return caught.value


async def test_a_whole_answer():
    async with UpstreamServer(json_reply(WHOLE)) as server:
        asked = provider(server, headers={"anthropic-beta": "x"}, query={"q": "a b"})
        response = await asked.send(request(max_tokens=5), TARGET)
        await asked.aclose()
    assert response.whole
    assert json.loads(await response.read())["choices"][0]["message"]["content"] == "Let me look."
    assert (response.finish_reason, response.usage) == ("tool_calls", Usage(472, 89, reasoning_tokens=20))
    [arrived] = server.requests
    assert (arrived.method, arrived.path) == ("POST", "/v1/messages?q=a+b")
    assert arrived.headers["x-api-key"] == "sk-ant-secret"
    assert arrived.headers["anthropic-version"] == "2023-06-01"
    assert arrived.headers["anthropic-beta"] == "x"
    assert arrived.headers["content-type"] == "application/json"
    assert (arrived.json()["model"], arrived.json()["max_tokens"]) == ("claude-haiku-4-5", 5)


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
async def test_the_base_url_may_end_with_the_version(path):
    async with UpstreamServer(json_reply(WHOLE)) as server:
        asked = provider(server, path="/proxy" + path)
        await asked.send(request(), TARGET)
        await asked.aclose()
    assert server.requests[0].path == "/proxy/v1/messages"


async def test_a_stream_and_then_another_request_on_the_same_connection():
    async with UpstreamServer(
        [streamed(*(TEXT[at : at + 7] for at in range(0, len(TEXT), 7))), json_reply(WHOLE)]
    ) as server:
        asked = provider(server)
        response = await asked.send(request(stream=True), TARGET)
        assert not response.whole
        events = [event async for batch in response for event in batch]
        await asked.send(request(), TARGET)
        await asked.aclose()
    said = [json.loads(event.data)["choices"][0]["delta"].get("content", "") for event in events[:-1]]
    assert "".join(said) == "水門 opens 🚰."
    assert (response.finish_reason, response.usage) == ("stop", Usage(542, 9, 500, 30))
    assert server.requests[0].json()["stream"] is True
    assert [row.requests for row in server.connections] == [2]


async def test_the_response_comes_only_with_the_first_event_that_says_something():
    gate = asyncio.Event()
    at = TEXT.index(b"event: ping")
    async with UpstreamServer(streamed(TEXT[:at], gate, TEXT[at:])) as server:
        asked = provider(server)
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(asked.send(request(stream=True), TARGET))
            await server.wait_for_requests(1)
            await asyncio.sleep(0.05)
            assert not sending.done()
            gate.set()
        response = sending.result()
        assert b'"content":"' in (await anext(aiter(response)))[0].data
        await response.aclose()
        await asked.aclose()


@pytest.mark.parametrize("read_some", [True, False])
async def test_closing_a_stream_early_closes_the_upstream(read_some):
    at = TEXT.index(b"event: message_delta")
    async with UpstreamServer(streamed(TEXT[:at], asyncio.Event())) as server:
        asked = provider(server)
        response = await asked.send(request(stream=True), TARGET)
        if read_some:
            await anext(aiter(response))
        await response.aclose()
        async with asyncio.timeout(5):
            await server.wait_for_close()
        await asked.aclose()


async def test_an_error_event_before_any_output_fails_the_attempt():
    overloaded = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
    error = await failure(streamed(overloaded), request(stream=True))
    assert (error.status_code, error.code, error.retryable, error.provider) == (529, "upstream_error", True, "far")


async def test_an_error_event_later_ends_the_iteration_after_what_was_said():
    async with UpstreamServer(streamed((GOLDEN / "overloaded.sse").read_bytes())) as server:
        asked = provider(server)
        response = await asked.send(request(stream=True), TARGET)
        batches = aiter(response)
        assert len(await anext(batches)) == 1
        with pytest.raises(ProviderError, match="Overloaded"):
            await anext(batches)
        await asked.aclose()


async def test_a_stream_that_ends_too_early_is_incomplete():
    at = TEXT.index(b"event: message_delta")
    async with UpstreamServer(streamed(TEXT[:at])) as server:
        asked = provider(server)
        response = await asked.send(request(stream=True), TARGET)
        with pytest.raises(ProviderError) as caught:
            await response.read()
        await asked.aclose()
    assert caught.value.code == "upstream_incomplete"


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (streamed(), "upstream_incomplete"),
        (UpstreamReply(headers={"content-type": "text/html"}, body=b"<html>"), "upstream_invalid"),
        (json_reply({"type": "error", "error": {"type": "api_error", "message": "m"}}), "upstream_error"),
    ],
)
async def test_replies_that_are_no_stream(reply, code):
    assert (await failure(reply, request(stream=True))).code == code


async def test_json_that_is_none():
    reply = UpstreamReply(headers={"content-type": "text/html"}, body=b"<html>")
    error = await failure(reply)
    assert error.code == "upstream_invalid"
    assert "check its base_url" in error.message


@pytest.mark.parametrize(
    ("status", "kind", "code", "elsewhere"),
    [
        (400, "invalid_request_error", "invalid_request_error", False),
        (401, "authentication_error", "upstream_auth", True),
        (404, "not_found_error", "not_found_error", True),
        (429, "rate_limit_error", "rate_limit_exceeded", True),
        (529, "overloaded_error", "upstream_error", True),
    ],
)
async def test_failure_statuses(status, kind, code, elsewhere):
    body = {"type": "error", "error": {"type": kind, "message": "no"}}
    error = await failure(json_reply(body, status=status, headers={"retry-after": "3"}))
    assert (error.status_code, error.code, error.elsewhere, error.provider) == (status, code, elsewhere, "far")
    assert error.retry_after == (3.0 if status in (401, 429, 529) else None)


@pytest.mark.parametrize("operation", ["completions", "embeddings"])
async def test_other_operations_may_go_elsewhere(operation):
    async with UpstreamServer() as server:
        asked = provider(server)
        with pytest.raises(ProviderError, match="Anthropic has no such API") as caught:
            await asked.send(request(operation=operation), TARGET)
        await asked.aclose()
    assert (caught.value.code, caught.value.elsewhere) == ("unsupported_operation", True)
    assert server.requests == []


async def test_a_missing_key_is_told_without_asking_the_vendor():
    async with UpstreamServer() as server:
        asked = provider(server, key=None)
        for work in (asked.send(request(), TARGET), asked.models()):
            with pytest.raises(ProviderError, match="ANTHROPIC_API_KEY") as caught:
                await work
            assert caught.value.code == "upstream_auth"
        await asked.aclose()
    assert server.connections == []


async def test_a_key_in_the_headers_will_do():
    async with UpstreamServer(json_reply(WHOLE)) as server:
        asked = provider(server, key=None, headers={"Authorization": "Bearer t"})
        await asked.send(request(), TARGET)
        await asked.aclose()
    assert server.requests[0].headers["authorization"] == "Bearer t"
    assert "x-api-key" not in server.requests[0].headers


async def test_a_request_that_cannot_be_translated_is_not_sent():
    async with UpstreamServer() as server:
        asked = provider(server)
        with pytest.raises(InvalidRequest):
            await asked.send(request(n=2), TARGET)
        await asked.aclose()
    assert server.connections == []


async def test_models_are_listed_over_all_pages():
    pages = [
        json_reply({"data": [{"id": "a", "created_at": "2025-02-19T00:00:00Z"}], "has_more": True, "last_id": "a/1"}),
        json_reply({"data": [{"id": "b"}], "has_more": False, "last_id": "b"}),
    ]
    async with UpstreamServer(pages) as server:
        asked = provider(server)
        models = await asked.models()
        await asked.aclose()
    assert [(model.id, model.created, model.owned_by) for model in models] == [
        ("a", 1739923200, "anthropic"),
        ("b", 0, "anthropic"),
    ]
    assert [arrived.path for arrived in server.requests] == [
        "/v1/models?limit=1000",
        "/v1/models?limit=1000&after_id=a%2F1",
    ]


async def test_it_keeps_the_promises_of_a_provider():
    content = [{"type": "text", "text": "水門 opens 🚰."}]
    counts = {"input_tokens": 12, "cache_creation_input_tokens": 30, "cache_read_input_tokens": 500, "output_tokens": 9}
    whole = {"id": "m", "type": "message", "content": content, "stop_reason": "end_turn", "usage": counts}

    def script(arrived):
        if arrived.method == "GET":
            return json_reply({"data": [{"id": "claude-haiku-4-5"}]})
        return streamed(TEXT) if arrived.json().get("stream") else json_reply(whole)

    async with UpstreamServer(script) as server:
        await check_provider(provider(server), "claude-haiku-4-5")


async def test_a_key_that_looks_like_none_is_not_repeated():
    body = {"type": "error", "error": {"type": "authentication_error", "message": "unknown: hunter2hunter2"}}
    async with UpstreamServer(json_reply(body, status=401)) as server:
        asked = provider(server, key="hunter2hunter2")
        with pytest.raises(ProviderError) as caught:
            await asked.send(request(), TARGET)
        await asked.aclose()
    assert "hunter2" not in caught.value.message
