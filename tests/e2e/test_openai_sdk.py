"""The official OpenAI SDK, unchanged, against a running gateway."""

import asyncio
import uuid

import openai
import pytest


@pytest.fixture
def client(shared_gateway):
    with openai.OpenAI(base_url=f"{shared_gateway.url}/v1", api_key="any", max_retries=0) as made:
        yield made


def ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def fresh() -> str:
    return f"A question nobody asked before: {uuid.uuid4()}"


def test_second_answer_is_a_hit_with_the_same_text(client):
    question = fresh()
    first = client.chat.completions.with_raw_response.create(model="any", messages=ask(question))
    second = client.chat.completions.with_raw_response.create(model="any", messages=ask(question))
    assert first.headers["x-penstock-attempts"] == "1"
    assert "fwd=miss" in first.headers["cache-status"]
    assert second.headers["cache-status"].startswith("Penstock-Exact; hit; ttl=")
    assert second.headers["x-penstock-attempts"] == "0"
    assert second.headers["x-penstock-cost-usd"] == "0"
    assert int(second.headers["age"]) >= 0
    assert second.parse().choices[0].message.content == first.parse().choices[0].message.content
    assert first.parse().system_fingerprint == "penstock-simulated"


@pytest.mark.parametrize("first_streams", [True, False])
def test_stream_and_whole_share_the_cache_and_say_the_same(client, first_streams):
    question = fresh()
    texts, usages, statuses = [], [], []
    for stream in (first_streams, not first_streams):
        if stream:
            raw = client.chat.completions.with_raw_response.create(
                model="any", messages=ask(question), stream=True, stream_options={"include_usage": True}
            )
            chunks = list(raw.parse())
            texts.append("".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices))
            usages.append(next(chunk.usage for chunk in reversed(chunks) if chunk.usage))
            assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["stop"]
        else:
            raw = client.chat.completions.with_raw_response.create(model="any", messages=ask(question))
            answer = raw.parse()
            texts.append(answer.choices[0].message.content)
            usages.append(answer.usage)
        statuses.append(raw.headers["cache-status"])
    assert texts[0] == texts[1]
    assert usages[0].total_tokens == usages[1].total_tokens > 0
    assert "hit" not in statuses[0]
    assert "hit" in statuses[1]


def test_usage_chunk_only_when_asked_for(client):
    chunks = list(client.chat.completions.create(model="any", messages=ask(fresh()), stream=True))
    assert all(chunk.choices for chunk in chunks)
    assert all(chunk.usage is None for chunk in chunks)


async def test_async_client_streams(shared_gateway):
    async with openai.AsyncOpenAI(base_url=f"{shared_gateway.url}/v1", api_key="any", max_retries=0) as client:

        async def one(question: str) -> str:
            stream = await client.chat.completions.create(model="any", messages=ask(question), stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        question = fresh()
        texts = await asyncio.gather(*(one(question) for _ in range(20)))
    assert len(set(texts)) == 1
    assert texts[0]


def test_tools_are_called_with_arguments_that_fit(client):
    tool = {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "unit": {"enum": ["c", "f"]}},
                "required": ["city", "unit"],
            },
        },
    }
    answer = client.chat.completions.create(
        model="any", messages=ask(fresh()), tools=[tool], tool_choice="required", temperature=0
    )
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name == "weather"
    assert answer.choices[0].finish_reason == "tool_calls"
    again = client.chat.completions.with_raw_response.create(
        model="any", messages=ask("x"), tools=[tool], tool_choice="required"
    )
    assert "stored" not in again.headers["cache-status"]


def test_several_choices_and_log_probabilities(client):
    answer = client.chat.completions.create(model="any", messages=ask(fresh()), n=3, logprobs=True)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert all(choice.logprobs.content for choice in answer.choices)


def test_legacy_completions(client):
    prompt = fresh()
    answer = client.completions.create(model="any", prompt=prompt)
    streamed = "".join(
        chunk.choices[0].text for chunk in client.completions.create(model="any", prompt=prompt, stream=True)
    )
    assert answer.choices[0].text == streamed != ""


def test_embeddings_as_floats_and_as_base64(client):
    text = fresh()
    plain = client.embeddings.create(model="any", input=[text, "another"], encoding_format="float")
    packed = client.embeddings.create(model="any", input=[text, "another"])
    assert [item.index for item in plain.data] == [0, 1]
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)


def test_models(client):
    names = [model.id for model in client.models.list()]
    assert "sim" in names
    assert client.models.retrieve("anything/at-all").id == "anything/at-all"


def test_stored_completions(client):
    question = fresh()
    made = client.chat.completions.create(
        model="any", messages=ask(question), store=True, metadata={"case": question[-36:]}
    )
    listed = client.chat.completions.list(metadata={"case": question[-36:]})
    assert [completion.id for completion in listed] == [made.id]
    assert client.chat.completions.retrieve(made.id).choices == made.choices
    assert next(iter(client.chat.completions.messages.list(made.id))).content == question
    assert client.chat.completions.update(made.id, metadata={"case": "changed"}).metadata == {"case": "changed"}
    assert client.chat.completions.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.retrieve(made.id)


def test_errors_are_the_sdks_own(client):
    with pytest.raises(openai.BadRequestError) as empty:
        client.chat.completions.create(model="any", messages=[])
    assert empty.value.param == "messages"
    with pytest.raises(openai.BadRequestError) as wrong:
        client.embeddings.create(model="any", input=[])
    assert wrong.value.param == "input"
