"""Limits as the official OpenAI SDK sees them."""

import asyncio
import uuid

import httpx
import msgspec
import openai
import pytest

from penstock.testing import UpstreamServer, answer, json_reply

TENANT = """\
providers: [{{name: sim, kind: simulated, latency: {{first_token_s: 0, tokens_per_s: 0}}}}]
models: [{{name: "*", targets: [{{provider: sim, model: sim}}]}}]
limits: {{per_tenant: {{requests_per_minute: 5, tokens_per_minute: 100000}}}}
store: {{url: "memory:"}}
"""
UPSTREAM = """\
providers: [{{name: up, kind: openai-compatible, base_url: "ORIGIN/v1", limits: {{LIMITS}}}}]
models: [{{name: fast, targets: [{{provider: up, model: m}}]}}]
retry: {{attempts: 1}}
store: {{url: "memory:"}}
"""


def ask():
    return [{"role": "user", "content": str(uuid.uuid4())}]


def upstream_config(upstream, limits):
    return UPSTREAM.replace("ORIGIN", upstream.origin).replace("LIMITS", limits)


def test_the_sdk_reads_what_is_left_and_gets_a_429_that_says_when(make_gateway):
    gateway = make_gateway(TENANT)
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0) as client:
        question, left = ask(), []
        for number in range(5):
            raw = client.chat.completions.with_raw_response.create(
                model="m", messages=question if number < 2 else ask(), max_tokens=20
            )
            left.append(int(raw.headers["x-ratelimit-remaining-requests"]))
            assert raw.headers["x-ratelimit-limit-requests"] == "5"
            assert raw.headers["x-ratelimit-limit-tokens"] == "100000"
            assert raw.headers["x-ratelimit-reset-requests"].endswith("s")
        assert left == [4, 3, 2, 1, 0]
        for messages in (ask(), question):  # the second one is in memory and takes the short way
            with pytest.raises(openai.RateLimitError) as refused:
                client.chat.completions.create(model="m", messages=messages, max_tokens=20)
            assert refused.value.code == "rate_limit_exceeded"
            assert 1 <= int(refused.value.response.headers["retry-after"]) <= 12
            assert refused.value.response.headers["x-ratelimit-remaining-requests"] == "0"
            assert "x-should-retry" not in refused.value.response.headers
            assert refused.value.response.headers["x-request-id"]
    page = httpx.get(f"{gateway.url}/metrics").text
    assert "penstock_tenants_refused_total 2.0" in page


def test_streams_say_what_is_left_when_they_begin(make_gateway):
    gateway = make_gateway(TENANT)
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0) as client:
        for left in ("4", "3"):
            raw = client.chat.completions.with_raw_response.create(
                model="m", messages=ask(), max_tokens=20, stream=True
            )
            assert raw.headers["x-ratelimit-remaining-requests"] == left
            assert 0 < int(raw.headers["x-ratelimit-remaining-tokens"]) < 100_000
            assert list(raw.parse())


async def test_concurrency_is_kept_and_what_cannot_be_in_time_is_refused_at_once(make_gateway):
    async with UpstreamServer(slowly) as upstream:
        gateway = make_gateway(upstream_config(upstream, "max_concurrency: 2"))
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0) as client:
            await asyncio.gather(*(client.chat.completions.create(model="fast", messages=ask()) for _ in range(4)))
            slow = [asyncio.ensure_future(client.chat.completions.create(model="fast", messages=ask()))
                    for _ in range(12)]  # fmt: skip
            await asyncio.sleep(0.15)
            with pytest.raises(openai.RateLimitError) as refused:
                await client.chat.completions.create(
                    model="fast", messages=ask(), extra_headers={"x-penstock-timeout": "0.6"}
                )
            assert not any(task.done() for task in slow[-2:])  # it did not wait for those before it
            assert int(refused.value.response.headers["retry-after"]) >= 1
            async with httpx.AsyncClient() as plain:
                page = (await plain.get(f"{gateway.url}/metrics")).text
            assert 'penstock_limit_in_use{provider="up"} 2.0' in page
            assert 'penstock_limit_limit{provider="up"} 2.0' in page
            assert 'penstock_limit_refused_total{provider="up"} 1.0' in page
            await asyncio.gather(*slow)
            async with httpx.AsyncClient() as plain:
                page = (await plain.get(f"{gateway.url}/metrics")).text
            assert 'penstock_limit_in_use{provider="up"} 0.0' in page
            assert 'penstock_limit_queued{provider="up"} 0.0' in page


def slowly(_request):
    return msgspec.structs.replace(json_reply(answer("Hello.")), delay_s=0.3)


async def test_who_is_urgent_goes_first(make_gateway):
    held, order = asyncio.Event(), []

    def script(request):
        order.append(request.json()["messages"][0]["content"])
        reply = json_reply(answer("Hello."))
        return msgspec.structs.replace(reply, body=b"", parts=[held, reply.body]) if len(order) == 1 else reply

    async with UpstreamServer(script) as upstream, httpx.AsyncClient() as client:
        gateway = make_gateway(upstream_config(upstream, "max_concurrency: 1"))

        def start(priority):
            body = {"model": "fast", "messages": [{"role": "user", "content": priority}]}
            asked = client.post(
                f"{gateway.url}/v1/chat/completions", json=body, headers={"x-penstock-priority": priority}
            )
            return asyncio.ensure_future(asked)

        tasks = [start("normal")]
        await upstream.wait_until(lambda: len(order) == 1)
        for queued, priority in enumerate(("low", "Normal", "high"), 1):
            tasks.append(start(priority))
            for _ in range(500):
                page = (await client.get(f"{gateway.url}/metrics")).text
                if f'penstock_limit_queued{{provider="up"}} {queued}.0' in page:
                    break
        held.set()
        assert [response.status_code for response in await asyncio.gather(*tasks)] == [200] * 4
    assert order == ["normal", "high", "Normal", "low"]


def test_a_priority_that_is_none_is_the_clients_fault(make_gateway):
    gateway = make_gateway(TENANT)
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0) as client:
        client.chat.completions.create(model="m", messages=ask(), extra_headers={"x-penstock-priority": "HIGH"})
        with pytest.raises(openai.BadRequestError, match="x-penstock-priority"):
            client.chat.completions.create(model="m", messages=ask(), extra_headers={"x-penstock-priority": "now"})
