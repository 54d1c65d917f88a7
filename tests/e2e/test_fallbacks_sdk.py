"""Fallbacks through a running gateway, with the official OpenAI SDK and an upstream that fails to order."""

import msgspec
import openai
import pytest

from penstock.testing import UpstreamServer, answer, chunks, json_reply, sse_reply

CONFIG = """\
providers: [{{name: up, kind: openai-compatible, base_url: "ORIGIN/v1"}}]
models:
  - name: small
    targets: [{{provider: up, model: small}}]
    fallbacks: {{context_window: [big], content_policy: [big], errors: [big]}}
  - {{name: big, targets: [{{provider: up, model: big}}]}}
  - name: alone
    targets: [{{provider: up, model: alone}}]
    fallbacks:
      timeout_s: 0.2
      templates: [{{when: {{operation: next-question}}, answer: "Later, about: {{question}}"}}]
retry: {{attempts: 1}}
breaker: {{failures: 1000}}
store: {{url: "memory:"}}
"""


def error(status, code):
    return json_reply({"error": {"message": "no", "type": "x", "code": code}}, status=status)


FAULTS = {
    "too long": (lambda: error(400, "context_length_exceeded"), "fallback-context-window"),
    "refused": (lambda: error(400, "content_filter"), "fallback-content-policy"),
    "down": (lambda: error(503, None), "fallback-errors"),
}


class Upstream:
    """Model `big` answers; the others do what `fault` says, and answer without one."""

    def __init__(self):
        self.fault = None
        self.asked = []

    def __call__(self, request):
        body = request.json()
        self.asked.append(body["model"])
        if self.fault is not None and body["model"] != "big":
            return self.fault()
        text = f"This is {body['model']}."
        return sse_reply(chunks(text)) if body.get("stream") else json_reply(answer(text))


@pytest.fixture
def upstream():
    return Upstream()


@pytest.fixture
async def client(make_gateway, upstream):
    async with UpstreamServer(upstream) as server:
        gateway = make_gateway(CONFIG.replace("ORIGIN", server.origin))
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0, timeout=20) as made:
            yield made


def ask(text="Hello?"):
    return [{"role": "user", "content": text}]


async def create(client, model="small", *, stream=False, **more):
    """Ask, and return the text with the response's headers."""
    made = await client.chat.completions.with_raw_response.create(model=model, messages=ask(), stream=stream, **more)
    parsed = made.parse()
    if not stream:
        return parsed.choices[0].message.content, made.headers
    pieces = [chunk async for chunk in parsed]
    assert [c.choices[0].finish_reason for c in pieces if c.choices and c.choices[0].finish_reason] == ["stop"]
    return "".join(chunk.choices[0].delta.content or "" for chunk in pieces if chunk.choices), made.headers


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
async def test_another_model_answers_marked_uncached_and_only_as_long_as_it_must(client, upstream, fault, stream):
    upstream.fault, reason = FAULTS[fault]
    for _ in range(2):
        text, headers = await create(client, stream=stream)
        assert text == "This is big."
        assert headers["x-penstock-degraded"] == reason
        assert headers["cache-status"] == f'Penstock-Exact; fwd=miss; detail="{reason}"'
        assert (headers["x-penstock-model"], headers["x-penstock-attempts"]) == ("big", "2")
    assert upstream.asked == ["small", "big"] * 2
    upstream.fault = None
    text, headers = await create(client, stream=stream)
    assert text == "This is small."
    assert "x-penstock-degraded" not in headers
    assert (await create(client, stream=stream))[1]["cache-status"].startswith("Penstock-Exact; hit")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_can_decline(client, upstream, stream):
    upstream.fault, _ = FAULTS["down"]
    with pytest.raises(openai.InternalServerError) as raised:
        await create(client, stream=stream, extra_headers={"x-penstock-fallback": "none"})
    assert raised.value.status_code == 502
    assert upstream.asked == ["small"]
    with pytest.raises(openai.BadRequestError) as wrong:
        await create(client, extra_headers={"x-penstock-fallback": "maybe"})
    assert wrong.value.param == "x-penstock-fallback"


def hang():
    return msgspec.structs.replace(error(503, None), delay_s=30)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", [FAULTS["down"][0], hang], ids=["down", "hanging"])
async def test_a_template_answers_for_a_named_operation(client, upstream, fault, stream):
    upstream.fault = fault
    text, headers = await create(
        client, "alone", stream=stream, extra_headers={"x-penstock-operation": "next-question"}
    )
    assert text == "Later, about: Hello?"
    assert headers["x-penstock-degraded"] == "template"
    assert headers["cache-status"] == 'Penstock-Exact; fwd=miss; detail="template"'
    assert "x-penstock-model" not in headers
    assert headers["x-penstock-attempts"] == "1"
    upstream.fault = None
    named = {"x-penstock-metadata": "operation=next-question"}
    assert (await create(client, "alone", stream=stream, extra_headers=named))[0] == "This is alone."


async def test_no_template_for_others_nor_for_what_is_the_clients_own_fault(client, upstream):
    upstream.fault, _ = FAULTS["down"]
    with pytest.raises(openai.InternalServerError):
        await create(client, "alone")
    for status in (400, 404, 413, 422):
        upstream.fault = lambda status=status: error(status, "wrong")
        with pytest.raises(openai.APIStatusError) as raised:
            await create(client, "alone", extra_headers={"x-penstock-operation": "next-question"})
        assert (raised.value.status_code, raised.value.code) == (status, "wrong")


async def test_a_templates_shape_and_the_record_of_it(client, upstream):
    upstream.fault, _ = FAULTS["down"]
    made = await client.chat.completions.create(
        model="alone", messages=ask(), extra_headers={"x-penstock-operation": "next-question"}
    )
    assert (made.object, made.model, made.system_fingerprint) == ("chat.completion", "alone", "penstock-template")
    assert (made.choices[0].finish_reason, made.usage.total_tokens) == ("stop", 0)
    page = (await client._client.get(str(client.base_url).replace("/v1/", "/metrics"))).text
    assert 'penstock_requests_total{cache="miss",model="alone",operation="chat",outcome="template"} 1.0' in page
