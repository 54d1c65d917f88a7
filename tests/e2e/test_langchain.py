"""LangChain's OpenAI classes, unchanged, against a running gateway."""

import uuid

import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, Field


class Capital(BaseModel):
    """A country's capital."""

    country: str
    capital: str
    inhabitants: int = Field(ge=0)


class Weather(BaseModel):
    """Look up the weather."""

    city: str = Field(description="Where")
    unit: str = Field(pattern="celsius|fahrenheit", default="celsius")


@pytest.fixture
async def options(shared_gateway):
    """What both classes take; without clients of its own LangChain shares some that nobody closes."""
    async with openai.DefaultAsyncHttpxClient() as later:
        with openai.DefaultHttpxClient() as now:
            yield {
                "model": "any",
                "base_url": f"{shared_gateway.url}/v1",
                "api_key": "any",
                "max_retries": 0,
                "http_client": now,
                "http_async_client": later,
            }


@pytest.fixture
def chat(options):
    return ChatOpenAI(**options)


def fresh() -> str:
    return f"A question nobody asked before: {uuid.uuid4()}"


def test_invoke_twice(chat):
    messages = [SystemMessage("Be brief."), HumanMessage(fresh())]
    first, second = chat.invoke(messages), chat.invoke(messages)
    assert first.content == second.content != ""
    assert first.response_metadata["finish_reason"] == "stop"
    assert first.response_metadata["system_fingerprint"] == "penstock-simulated"
    assert first.usage_metadata == second.usage_metadata
    assert first.usage_metadata["total_tokens"] > 0


def test_the_repetition_is_a_hit(options):
    chat = ChatOpenAI(**options, include_response_headers=True)
    question = fresh()
    headers = [chat.invoke(question).response_metadata["headers"] for _ in range(2)]
    assert [sent["x-penstock-attempts"] for sent in headers] == ["1", "0"]
    assert "hit" in headers[1]["cache-status"]


def test_stream_says_what_invoke_says(chat):
    question = fresh()
    chunks = list(chat.stream(question, stream_usage=True))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    answer = chat.invoke(question)
    assert len(chunks) > 3
    assert whole.content == answer.content
    assert whole.usage_metadata["total_tokens"] == answer.usage_metadata["total_tokens"]
    assert whole.response_metadata["finish_reason"] == "stop"


async def test_ainvoke_and_astream(chat):
    question = fresh()
    answer = await chat.ainvoke(question)
    assert "".join([chunk.content async for chunk in chat.astream(question)]) == answer.content
    several = await chat.abatch([question, question, fresh()])
    assert several[0].content == several[1].content == answer.content != several[2].content


def test_tools_are_called_and_their_results_taken(chat):
    bound = chat.bind_tools([Weather], tool_choice="required")
    question = HumanMessage(fresh())
    asked = bound.invoke([question])
    assert [call["name"] for call in asked.tool_calls] == ["Weather"]
    assert isinstance(asked.tool_calls[0]["args"]["city"], str)
    told = ToolMessage("12 degrees", tool_call_id=asked.tool_calls[0]["id"])
    assert chat.bind_tools([Weather]).invoke([question, asked, told]).content


def test_tool_calls_stream(chat):
    bound = chat.bind_tools([Weather], tool_choice="Weather")
    chunks = list(bound.stream(fresh()))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert [call["name"] for call in whole.tool_calls] == ["Weather"]
    assert isinstance(whole.tool_calls[0]["args"]["city"], str)


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output(chat, method):
    answer = chat.with_structured_output(Capital, method=method).invoke(fresh())
    assert isinstance(answer, Capital)


def test_conversation_with_an_image(chat):
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    history = [HumanMessage("Hello"), AIMessage("Hello to you")]
    asked = HumanMessage([{"type": "text", "text": fresh()}, picture])
    assert chat.invoke([*history, asked]).content


def test_a_bad_request_is_the_sdks_own_error(chat):
    with pytest.raises(openai.BadRequestError, match="messages"):
        chat.invoke([])


@pytest.fixture
def embeddings(options):
    return OpenAIEmbeddings(**options, check_embedding_ctx_length=False)


def test_embeddings(embeddings):
    texts = [fresh(), fresh()]
    vectors = embeddings.embed_documents(texts)
    assert [len(vector) for vector in vectors] == [256, 256]
    assert embeddings.embed_query(texts[0]) == pytest.approx(vectors[0], abs=1e-6)


async def test_embeddings_async(embeddings):
    text = fresh()
    assert await embeddings.aembed_query(text) == pytest.approx(embeddings.embed_query(text), abs=1e-6)
