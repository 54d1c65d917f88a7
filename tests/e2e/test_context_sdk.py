"""Long conversations through a running gateway, with the official OpenAI SDK."""

import json
import sqlite3

import openai
import pytest

from penstock.reporting.text import explained
from penstock.testing import UpstreamServer, answer, chunks, json_reply, sse_reply
from penstock.usage import usage_report

CONFIG = """\
providers:
  - {{name: up, kind: openai-compatible, base_url: "ORIGIN/v1"}}
  - {{name: openai, base_url: "ORIGIN/openai", kind: openai, api_key: key}}
  - {{name: anthropic, base_url: "ORIGIN/v1", kind: anthropic, api_key: key}}
models:
  - {{name: big, targets: [{{provider: up, model: big}}]}}
  - {{name: small, targets: [{{provider: up, model: small}}], context: {{mode: "off"}}}}
  - {{name: gpt, targets: [{{provider: openai, model: gpt}}]}}
  - {{name: claude, targets: [{{provider: anthropic, model: claude}}]}}
context: {{mode: budget, tokens: 1000, summary: {{model: small}}}}
retry: {{attempts: 1}}
store: {{url: "sqlite:///{folder}/penstock.db"}}
"""
SUMMARY = "The guests want a quiet room above the garden."
TOOLS = [{"type": "function", "function": {"name": "book", "parameters": {"type": "object", "properties": {}}}}]
CLAUDE = {
    "id": "m", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "Yes."}], "usage": {"input_tokens": 1, "output_tokens": 1},
}  # fmt: skip


class Upstream:
    """Remembers the bodies it gets; its model for summaries fails to order."""

    def __init__(self):
        self.bodies = []
        self.failing = False

    def __call__(self, request):
        self.bodies.append(request.body)
        body = request.json()
        if body["model"] == "small":
            return json_reply({"error": {"message": "no"}}, status=503) if self.failing else json_reply(answer(SUMMARY))
        if body["model"] == "claude":
            return json_reply(CLAUDE)
        return sse_reply(chunks("Yes.")) if body.get("stream") else json_reply(answer("Yes."))

    def sent(self, model):
        return [json.loads(body) for body in self.bodies if json.loads(body)["model"] == model]


@pytest.fixture
def upstream():
    return Upstream()


@pytest.fixture
async def gateway(make_gateway, upstream):
    async with UpstreamServer(upstream) as server:
        yield make_gateway(CONFIG.replace("ORIGIN", server.origin))


@pytest.fixture
async def client(gateway):
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0, timeout=20) as made:
        yield made


def conversation(exchanges):
    messages = [{"role": "system", "content": "You run a hotel."}]
    for number in range(exchanges):
        call = {"id": f"c{number}", "type": "function", "function": {"name": "book", "arguments": f'{{"n":{number}}}'}}
        messages += [
            {"role": "user", "content": f"Book room {number} for guest {number}. " + "It must be quiet there. " * 12},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"c{number}", "content": f"room {number} is booked"},
            {"role": "assistant", "content": f"Room {number} is yours."},
        ]
    return [*messages, {"role": "user", "content": "Which room has guest 2?"}]


async def create(client, messages, model="big", **more):
    made = await client.chat.completions.with_raw_response.create(model=model, messages=messages, tools=TOOLS, **more)
    parsed = made.parse()
    if more.get("stream"):
        return "".join([chunk.choices[0].delta.content or "" async for chunk in parsed if chunk.choices]), made.headers
    return parsed.choices[0].message.content, made.headers


def said(headers):
    pairs = (member.strip().split("=") for member in headers["x-penstock-context"].split(","))
    return {name: int(value) if value.isdigit() else value for name, value in pairs}


def assert_valid(messages):
    """What providers check: each result of a tool follows its call, and each call has its result."""
    pending = []
    for message in messages:
        if message["role"] == "tool":
            pending.remove(message["tool_call_id"])
        else:
            assert not pending
            pending = [call["id"] for call in message.get("tool_calls") or ()]
    assert not pending


@pytest.mark.parametrize("stream", [False, True])
async def test_a_long_conversation_is_cut_and_the_header_says_so(client, upstream, stream):
    given = conversation(30)
    text, headers = await create(client, given, stream=stream)
    assert text == "Yes."
    (sent,) = upstream.sent("big")
    assert_valid(sent["messages"])
    assert sent["messages"][0] == given[0]
    assert sent["tools"] == TOOLS
    assert given[-1]["content"] in sent["messages"][-1]["content"]
    assert any(SUMMARY in (message["content"] or "") for message in sent["messages"])
    report = said(headers)
    assert report["summary"] == "model"
    assert report["tokens-before"] > 1000 >= report["tokens-after"]
    assert report["left-out"] == len(given) - len(sent["messages"])
    assert 0 < report["kept"] <= len(sent["messages"])


async def test_one_that_fits_is_sent_byte_for_byte(client, upstream):
    _, headers = await create(client, conversation(3))
    await create(client, conversation(3), extra_headers={"x-penstock-context": "off"})
    assert "x-penstock-context" not in headers
    assert upstream.bodies[0] == upstream.bodies[1]


async def test_when_the_model_for_summaries_fails_sentences_are_taken(client, upstream):
    upstream.failing = True
    text, headers = await create(client, conversation(30))
    assert text == "Yes."
    assert said(headers)["summary"] == "extractive"
    assert upstream.sent("small")


async def test_cut_and_whole_conversations_have_answers_of_their_own(client, upstream):
    off = {"x-penstock-context": "off"}
    more = {"x-penstock-context-tokens": "1500"}
    for extra in ({}, off, more, {}, off, more):
        await create(client, conversation(30), extra_headers=extra)
    sizes = [len(body["messages"]) for body in upstream.sent("big")]
    assert len(sizes) == 3
    assert sizes[1] == len(conversation(30))
    _, headers = await create(client, conversation(30))
    assert "Penstock-Exact; hit" in headers["cache-status"]
    assert "x-penstock-context" not in headers


async def test_providers_are_told_what_to_cache(client, upstream):
    await create(client, conversation(30), model="gpt")
    (sent,) = upstream.sent("gpt")
    assert len(sent["prompt_cache_key"]) == 32
    await create(client, conversation(30), model="claude")
    (sent,) = upstream.sent("claude")
    assert sent["system"][-1]["cache_control"] == {"type": "ephemeral"}
    assert 2 <= json.dumps(sent).count('"cache_control"') <= 4


async def test_a_budget_that_is_too_small_says_the_numbers(client, upstream):
    with pytest.raises(openai.BadRequestError, match="may have 20 tokens") as refused:
        await create(client, conversation(3), extra_headers={"x-penstock-context-tokens": "20"})
    assert refused.value.code == "context_too_small"
    assert upstream.bodies == []


async def test_the_record_has_what_was_cut_and_what_the_summary_took(client, gateway):
    _, headers = await create(client, conversation(30))
    report = said(headers)
    gateway.stop()
    with sqlite3.connect(gateway.folder / "penstock.db") as database:
        rows = database.execute("SELECT model, context_before, context_after, metadata FROM calls").fetchall()
    cut = [(before, after) for model, before, after, _ in rows if model == "big"]
    assert cut == [(report["tokens-before"], report["tokens-after"])]
    summaries = [metadata for model, _, _, metadata in rows if model == "small"]
    assert summaries
    assert all("penstock-summary" in metadata for metadata in summaries)
    total = usage_report(f"sqlite:///{gateway.folder}/penstock.db", days=1).total
    assert total.cut_tokens == report["tokens-before"] - report["tokens-after"]
    assert f"{total.cut_tokens} tokens of long conversations were not sent." in explained(total)


async def test_headers_work_where_nothing_is_configured_and_known_bodies_are_told_apart_by_them(shared_gateway):
    kinds = ({}, {"x-penstock-context-tokens": "1000"}, {"x-penstock-context": "off"})
    found = []
    async with openai.AsyncOpenAI(base_url=f"{shared_gateway.url}/v1", api_key="any", max_retries=0) as client:
        for _ in range(3):
            for extra in kinds:
                text, headers = await create(client, conversation(25), extra_headers=extra)
                found.append((headers["cache-status"], "x-penstock-context" in headers, text))
    statuses = [["hit" if "hit" in status else "miss" for status, _, _ in found[at::3]] for at in range(3)]
    # Nothing is cut by the third, so it asks what the first did.
    assert statuses == [["miss", "hit", "hit"], ["miss", "hit", "hit"], ["hit", "hit", "hit"]]
    assert [cut for _, cut, _ in found[:3]] == [False, True, False]
    assert [len({text for _, _, text in found[at::3]}) for at in range(3)] == [1, 1, 1]
