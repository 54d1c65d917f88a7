"""Three replicas with caches of their own behind one name, asked over real sockets."""

import asyncio

import httpx2 as httpx
import msgspec
import openai
import pytest

from penstock.testing import UpstreamServer, answer, chunks, json_reply, sse_reply

CONFIG = """\
providers: [PROVIDERS]
models: [{{name: chat, strategy: balanced, targets: [TARGETS]}}]
cache: {{exact: {{enabled: false}}}}
store: {{url: "memory:"}}
"""
STORY = "once upon a time there was a replica that remembered everything it had read. " * 160


class Replica:
    """Answers after as long as the part of the prompt takes that it has not seen."""

    def __init__(self, bytes_per_s=100_000.0):
        self.bytes_per_s = bytes_per_s
        self.seen = []
        self.asked = []

    def __call__(self, request):
        document = request.json()
        text = "".join(message["content"] for message in document["messages"])
        self.asked.append(document["messages"][0]["content"].partition(" ")[0])
        known = max((len(_common(text, other)) for other in self.seen), default=0)
        self.seen.append(text)
        delay_s = 0.005 + (len(text) - known) / self.bytes_per_s
        if document.get("stream"):
            return msgspec.structs.replace(sse_reply(chunks("Yes.")), delay_s=delay_s)
        return msgspec.structs.replace(json_reply(answer("Yes.")), delay_s=delay_s)


def _common(one, other):
    size = next((place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
    return one[: min(len(one), len(other)) if size is None else size]


class Bench:
    def __init__(self, replicas, make_gateway):
        self.replicas = replicas
        self.servers = [UpstreamServer(replica) for replica in replicas]
        self.make_gateway = make_gateway

    async def __aenter__(self):
        for server in self.servers:
            await server.__aenter__()
        providers = ", ".join(
            f'{{{{name: r{n}, kind: openai-compatible, base_url: "{server.origin}/v1"}}}}'
            for n, server in enumerate(self.servers)
        )
        targets = ", ".join(f"{{{{provider: r{n}, model: m}}}}" for n in range(len(self.servers)))
        self.gateway = self.make_gateway(CONFIG.replace("PROVIDERS", providers).replace("TARGETS", targets))
        self.client = openai.AsyncOpenAI(base_url=f"{self.gateway.url}/v1", api_key="any", max_retries=0, timeout=30)
        return self

    async def __aexit__(self, *_):
        await self.client.close()
        for server in self.servers:
            await server.__aexit__()

    async def ask(self, messages, *, stream=True):
        made = await self.client.chat.completions.create(model="chat", messages=messages, stream=stream)
        if stream:
            return "".join([chunk.choices[0].delta.content or "" async for chunk in made if chunk.choices])
        return made.choices[0].message.content

    async def metrics(self):
        async with httpx.AsyncClient() as client:
            return (await client.get(f"{self.gateway.url}/metrics")).text


@pytest.fixture
def bench(make_gateway):
    return lambda *replicas: Bench(list(replicas), make_gateway)


async def test_conversations_stay_where_their_beginning_is(bench):
    # So slow that all six are asked before the first has answered, on a busy machine too.
    async with bench(*(Replica(bytes_per_s=20_000.0) for _ in range(3))) as running:
        names = [f"story-{number}" for number in range(6)]
        said = {name: [{"role": "system", "content": f"{name} {STORY}"}] for name in names}

        async def turn(name):
            said[name].append({"role": "user", "content": "And what came next? " + "Please. " * 20})
            said[name].append({"role": "assistant", "content": await running.ask(said[name])})

        await asyncio.gather(*map(turn, names))
        for _ in range(4):
            for name in names:
                await turn(name)
        page = await running.metrics()
    assert all(replica.asked for replica in running.replicas)
    stayed = 0
    for name in names:
        turns = [replica.asked.count(name) for replica in running.replicas]
        assert sum(turns) == 5
        stayed += max(turns)
    assert stayed >= 0.8 * 30
    for name in ("queue_seconds", "waiting", "running", "slowness", "blocks"):
        assert f'penstock_replica_{name}{{model="m",provider="r0"}}' in page
    assert 'penstock_replica_running{model="m",provider="r1"} 0.0' in page


@pytest.mark.parametrize("stream", [True, False])
async def test_a_slow_replica_gets_less(bench, stream):
    async with bench(Replica(), Replica(), Replica(bytes_per_s=10_000.0)) as running:

        async def ask(worker):
            for number in range(15):
                content = f"{worker}-{number} " + STORY[: 1000 + 100 * worker]
                assert await running.ask([{"role": "user", "content": content}], stream=stream) == "Yes."

        await asyncio.gather(*(ask(worker) for worker in range(6)))
    counts = [len(replica.asked) for replica in running.replicas]
    assert sum(counts) == 90
    # Of its even share. How the other two share the rest is not said: both answer at once, so either may have it all.
    assert counts[2] < 90 / 3 / 2
