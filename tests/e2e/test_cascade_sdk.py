"""Cascades through a running gateway, with the official OpenAI SDK, taught on the command line."""

import asyncio
import contextlib
import json
import sqlite3
from decimal import Decimal
from random import Random

import httpx2
import openai
import pytest
from click.testing import CliRunner

from penstock.cli import main
from penstock.testing import UpstreamServer, answer, chunks, json_reply, sse_reply

CONFIG = """\
providers: [{{name: up, kind: openai-compatible, base_url: "ORIGIN/v1"}}]
models:
  - {{name: small, targets: [{{provider: up, model: small}}]}}
  - {{name: large, targets: [{{provider: up, model: large}}]}}
  - name: smart
    cascade:
      stages: [{{filter: {{name: greeting, rules: [{{words: [hello]}}], answer: "Hello. Ask me."}}}}, small, large]
      audits: 0
prices:
  - {{model: small, usd_per_million: {{input: 1, output: 1}}}}
  - {{model: large, usd_per_million: {{input: 10, output: 10}}}}
retry: {{attempts: 1}}
breaker: {{failures: 1000}}
server: {{admin_key: sk-the-root-of-all}}
store: {{url: "sqlite:///DATABASE"}}
"""
ROOT = {"authorization": "Bearer sk-the-root-of-all"}
SURE, UNSURE = "2 + 2 = 4. The answer is 4.", "Maybe it is 5? I am not sure. Wait, I cannot determine it."


class Upstream:
    """The small model is right about sums, and says so when it does not know; the large one can be down."""

    def __init__(self):
        self.asked = []
        self.down = False

    def __call__(self, request):
        body = request.json()
        model, text = body["model"], body["messages"][-1]["content"]
        self.asked.append(model)
        if model == "large" and self.down:
            return json_reply({"error": {"message": "no"}}, status=503)
        said = "It is large." if model == "large" else SURE if "2 + 2" in text else UNSURE
        return sse_reply(chunks(said)) if body.get("stream") else json_reply(answer(said))


@pytest.fixture
def upstream():
    return Upstream()


@pytest.fixture
async def config(tmp_path, upstream):
    async with UpstreamServer(upstream) as server:
        yield CONFIG.replace("ORIGIN", server.origin).replace("DATABASE", str(tmp_path / "penstock.db"))


@pytest.fixture
def penstock(tmp_path, config):
    """Runs a command on the gateway's store."""

    def invoke(*arguments, code):
        path = tmp_path / "command.yaml"
        path.write_text(config.format())
        result = CliRunner().invoke(main, ["cascade", *arguments, "--config", str(path)])
        assert result.exit_code == code, result.output
        return result

    async def run(*arguments, code=0):
        return await asyncio.to_thread(invoke, *arguments, code=code)

    return run


def samples(tmp_path):
    chance, lines = Random(3), []
    for number in range(400):
        hedged = chance.random() < 0.25
        said = f"{UNSURE} {number}" if hedged else f"{number} + 2 = {number + 2}. The answer is {number + 2}."
        reference = f"The answer is {number + 2}."
        label = {"right": False} if hedged else {"reference": reference}
        lines.append(json.dumps({"prompt": f"What is {number} + 2?", "answer": said, **label}))
    path = tmp_path / "samples.jsonl"
    path.write_text("\n".join(lines))
    return str(path)


@contextlib.asynccontextmanager
async def connect(gateway):
    """A client whose key is for the alias alone."""
    made = httpx2.post(f"{gateway.url}/admin/keys", headers=ROOT, json={"name": "app", "models": ["smart"]})
    assert made.status_code == 201, made.text
    key = made.json()["key"]
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0, timeout=20) as client:
        with pytest.raises(openai.PermissionDeniedError):
            await client.chat.completions.create(model="large", messages=[{"role": "user", "content": "Hello?"}])
        yield client


async def create(client, text, *, stream=False, **more):
    """Ask, and return the text with the response's headers."""
    asked = [{"role": "user", "content": text}]
    made = await client.chat.completions.with_raw_response.create(model="smart", messages=asked, stream=stream, **more)
    parsed = made.parse()
    if not stream:
        return parsed.choices[0].message.content, made.headers
    pieces = [chunk async for chunk in parsed]
    assert [c.choices[0].finish_reason for c in pieces if c.choices and c.choices[0].finish_reason] == ["stop"]
    return "".join(chunk.choices[0].delta.content or "" for chunk in pieces if chunk.choices), made.headers


async def test_without_a_certificate_the_large_model_answers_and_the_header_says_so(make_gateway, config, upstream):
    gateway = make_gateway(config)
    async with connect(gateway) as client:
        for stream in (False, True):
            text, headers = await create(client, f"What is 2 + 2? {stream}", stream=stream)
            assert (text, headers["x-penstock-model"]) == ("It is large.", "large")
            assert headers["x-penstock-cascade"] == 'stage="large", reason=uncertified, calls=1'
        text, headers = await create(client, "Hello!")
        assert (text, headers["x-penstock-cascade"]) == ("Hello. Ask me.", 'stage="greeting", reason=filter, calls=0')
        assert headers["x-penstock-cost-usd"] == "0"
        assert "smart" in [model.id async for model in client.models.list()]
    assert upstream.asked == ["large", "large"]


async def test_a_taught_cascade_from_the_answer_to_the_ledger(make_gateway, config, upstream, penstock, tmp_path):
    taught = (await penstock("train", "smart", samples(tmp_path))).stdout
    assert "400 samples, " in taught
    assert "with confidence 95 %" in taught
    gateway = make_gateway(config)
    costs = {}
    async with connect(gateway) as client:
        for stream in (False, True):
            text, headers = await create(client, f"What is 2 + 2?{' ' * stream}", stream=stream)
            assert text == SURE, headers["x-penstock-cascade"]
            assert headers["x-penstock-cascade"].startswith('stage="small", reason=accepted, calls=1, quality=0.9')
        text, headers = await create(client, "Who was it?")
        assert text == "It is large."
        assert headers["x-penstock-cascade"].startswith('stage="large", reason=escalated, calls=2, quality=0.')
        assert headers["x-penstock-attempts"] == "2"
        costs[headers["x-request-id"]] = headers["x-penstock-cost-usd"]
        text, _ = await create(client, "And who else?", stream=True)
        assert text == "It is large."
        upstream.down = True
        for stream in (False, True):
            text, headers = await create(client, f"Which one?{' ' * stream}", stream=stream)
            assert (text, headers["x-penstock-degraded"]) == (UNSURE, "cascade")
            assert headers["x-penstock-cascade"].startswith('stage="small", reason=fallback, calls=2')
        with pytest.raises(openai.InternalServerError):
            await create(client, "Which one?", extra_headers={"x-penstock-fallback": "none"})
        found = httpx2.get(f"{gateway.url}/admin/cascades", headers=ROOT).json()["data"]
    (shown,) = found
    assert (shown["model"], shown["requests"], shown["escalated"], shown["degraded"]) == ("smart", 6, 2, 2)
    assert [stage["answered"] for stage in shown["stages"]] == [0, 4, 2]
    assert shown["stages"][1]["certificate"]["holds"]
    gateway.stop()
    status = await penstock("status", "smart", "--json")
    assert json.loads(status.stdout)["requests"] == 6, "kept at the end"
    assert "smart" in (await penstock("list")).stdout
    with contextlib.closing(sqlite3.connect(tmp_path / "penstock.db")) as database:
        rows = database.execute(
            "SELECT request_id, stage, c.cost_pusd, sum(a.cost_pusd), count(*) FROM calls c JOIN attempts a "
            "ON call_id = c.id GROUP BY c.id ORDER BY c.id"
        ).fetchall()
    assert [stage for _, stage, *_ in rows] == ["small", "small", "large", "large", "small", "small", None]
    assert all(cost == total for _, _, cost, total, _ in rows)
    by_id = {request_id: cost for request_id, _, cost, *_ in rows}
    for request_id, usd in costs.items():
        assert Decimal(by_id[request_id]).scaleb(-12) == Decimal(usd)


async def test_what_cannot_be_learnt_from_is_said_with_its_line(penstock, tmp_path):
    path = tmp_path / "samples.jsonl"
    for line, said in (
        ('{"prompt": "a", "answer": "b", "right": true, "why": 1}', "unknown field"),
        ('{"prompt": "a", "answer": "b"}', "give either `right` or `reference`"),
        ('{"answer": "b", "right": true}', "it asks nothing"),
        ('{"prompt": "a", "answer": "b", "right": true, "stage": "large"}', "it must be one of small"),
        ("{", "truncated"),
    ):
        path.write_text('\n{"prompt": "a", "answer": "b", "right": true}\n' + line)
        output = (await penstock("train", "smart", str(path), code=1)).output
        assert "samples.jsonl:3: " in output
        assert said in output
    path.write_bytes(b"\xff")
    assert "is not UTF-8 text" in (await penstock("train", "smart", str(path), code=1)).output
    assert "'smrat' is no cascade; those there are: smart" in (await penstock("status", "smrat", code=1)).output
