"""A thousand people ask the same thing at once."""

import asyncio

import msgspec
import openai

from penstock.testing import UpstreamServer, answer, chunks, json_reply, sse_reply

UPSTREAM = """\
providers: [{{name: up, kind: openai-compatible, base_url: "ORIGIN/v1"}}]
models: [{{name: fast, targets: [{{provider: up, model: m}}]}}]
store: {{url: "memory:"}}
"""
REQUESTS = 1000


async def test_a_thousand_identical_requests_make_one_upstream_call(make_gateway):
    async with UpstreamServer(slowly) as upstream:
        gateway = make_gateway(UPSTREAM.replace("ORIGIN", upstream.origin))
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0, timeout=60) as client:
            asked = [{"role": "user", "content": "the same"}]

            async def whole() -> str:
                made = await client.chat.completions.create(model="fast", messages=asked)
                return made.choices[0].message.content

            async def streamed() -> str:
                stream = await client.chat.completions.create(model="fast", messages=asked, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            texts = await asyncio.gather(*(streamed() if number % 2 else whole() for number in range(REQUESTS)))
        assert len(texts) == REQUESTS
        assert set(texts) == {"Seven words are enough for this answer."}
        assert len(upstream.requests) == 1


def slowly(request):
    text = "Seven words are enough for this answer."
    if request.json().get("stream"):
        return sse_reply(chunks(text), gap_s=0.05)
    return msgspec.structs.replace(json_reply(answer(text)), delay_s=0.3)
