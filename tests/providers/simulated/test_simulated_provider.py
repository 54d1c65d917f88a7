import asyncio
import base64
import struct
import time

import msgspec
import pytest

from penstock.answers import Chunk
from penstock.config.providers import FaultSettings, LatencySettings, ProviderSettings, TimeoutSettings
from penstock.core.call import Call
from penstock.core.clock import SystemClock
from penstock.core.errors import ProviderError
from penstock.core.request import Request
from penstock.core.route import Target
from penstock.pricing.estimate import estimate_request_tokens, estimate_tokens
from penstock.providers.simulated import FINGERPRINT, SimulatedProvider
from penstock.testing import FakeClock, check_provider

TARGET = Target("sim", "sim")
AT_ONCE = LatencySettings(first_token_s=0, tokens_per_s=0)
RIVERS = {"messages": [{"role": "user", "content": "Which rivers flow through Vienna?"}]}


def provider(*faults, latency=AT_ONCE, clock=None, **timeouts):
    settings = ProviderSettings(
        name="sim", kind="simulated", latency=latency, faults=list(faults), timeouts=TimeoutSettings(**timeouts)
    )
    return SimulatedProvider(settings, clock or SystemClock())


def ask(payload=RIVERS, *, stream=False, operation="chat", **fields):
    return Request(operation, "m", payload, Call("x"), stream=stream, **fields)


async def whole(payload=RIVERS, *, of=None, target=TARGET, **options):
    response = await (of or provider()).send(ask(payload, **options), target)
    return msgspec.json.decode(await response.read())


async def collect(response):
    return [batch async for batch in response]


def without_ids(answer):
    text = msgspec.json.encode({**answer, "id": "", "created": 0}).decode()
    for choice in answer["choices"]:
        for call in (choice.get("message") or {}).get("tool_calls") or ():
            text = text.replace(call["id"], "")
    return msgspec.json.decode(text)


TOOLS = {
    "tools": [
        {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {}}}}}
    ],
    "tool_choice": "required",
}
SHAPES = {
    "plain": ("chat", RIVERS),
    "cut short": ("chat", {**RIVERS, "max_tokens": 7}),
    "three choices": ("chat", {**RIVERS, "n": 3}),
    "log probabilities": ("chat", {**RIVERS, "n": 2, "logprobs": True, "top_logprobs": 3}),
    "tool call": ("chat", {**RIVERS, **TOOLS}),
    "two tool calls cut short": ("chat", {**RIVERS, **TOOLS, "n": 2, "max_tokens": 2}),
    "json": ("chat", {**RIVERS, "response_format": {"type": "json_object"}}),
    "stop at once": ("chat", {**RIVERS, "stop": ["A", "Y", "T"]}),
    "chinese": ("chat", {"messages": [{"role": "user", "content": "写一首关于春天的诗 🌱"}]}),
    "legacy": ("completions", {"prompt": "Once upon a time"}),
    "legacy, many": ("completions", {"prompt": ["Once", "Twice"], "n": 2, "logprobs": 2, "max_tokens": 9}),
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_stream_says_what_the_whole_answer_says(shape):
    operation, payload = SHAPES[shape]
    plain = await provider().send(ask(payload, operation=operation), TARGET)
    live = await provider().send(ask(payload, operation=operation, stream=True), TARGET)
    streamed = msgspec.json.decode(await live.read())
    assert without_ids(streamed) == without_ids(msgspec.json.decode(await plain.read()))
    assert live.usage == plain.usage
    assert live.finish_reason == plain.finish_reason


@pytest.mark.parametrize("shape", SHAPES)
async def test_every_chunk_says_that_it_is_simulated(shape):
    operation, payload = SHAPES[shape]
    live = await provider().send(ask(payload, operation=operation, stream=True), TARGET)
    chunks = [msgspec.json.decode(event.data) for batch in await collect(live) for event in batch]
    assert {chunk["system_fingerprint"] for chunk in chunks} == {FINGERPRINT} == {"penstock-simulated"}
    assert len({chunk["id"] for chunk in chunks}) == 1


async def test_chunks_come_in_openais_order():
    live = await provider().send(ask(stream=True), TARGET)
    events = [event for batch in await collect(live) for event in batch]
    first, *_, finish, usage = [msgspec.json.decode(event.data) for event in events]
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert finish["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]
    assert usage["choices"] == []
    assert events[-1].bare_usage
    assert events[-1].usage == live.usage
    assert len(events) == live.usage.output_tokens + 3


async def test_the_answer_follows_from_the_request_and_the_model():
    first = await whole()
    assert without_ids(await whole()) == without_ids(first)
    assert (await whole())["id"] != first["id"]
    assert (await whole(target=Target("sim", "other")))["choices"] != first["choices"]
    assert (await whole({**RIVERS, "temperature": 0.3}))["choices"] != first["choices"]
    assert without_ids(await whole(dict(reversed({**RIVERS, "seed": 1}.items())))) == without_ids(
        await whole({**RIVERS, "seed": 1})
    )


async def test_the_answer_is_about_the_question():
    content = (await whole())["choices"][0]["message"]["content"]
    assert "Which rivers flow through Vienna" in content
    rest = content.partition("Vienna")[2]
    assert any(word in rest for word in ("rivers", "flow", "Vienna"))


async def test_the_last_user_message_is_the_question_also_in_parts():
    parts = [{"type": "text", "text": "Describe the bridge"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    messages = [*RIVERS["messages"], {"role": "user", "content": parts}, {"role": "assistant", "content": "Yes?"}]
    assert "Describe the bridge" in (await whole({"messages": messages}))["choices"][0]["message"]["content"]


async def test_tokens_are_counted_as_everywhere_else():
    answer = await whole()
    content = answer["choices"][0]["message"]["content"]
    made, sent = estimate_tokens(content), estimate_request_tokens(RIVERS)
    assert answer["usage"] == {"prompt_tokens": sent, "completion_tokens": made, "total_tokens": sent + made}


async def test_max_tokens_bounds_the_answer_and_says_so_only_when_it_cuts():
    for limit in (1, 5, 19, 40, 60, 500):
        answer = await whole({**RIVERS, "max_completion_tokens": limit})
        used = answer["usage"]["completion_tokens"]
        assert used <= limit
        content = answer["choices"][0]["message"]["content"]
        assert answer["choices"][0]["finish_reason"] == ("stop" if content.endswith((".", ":")) else "length")
    assert answer["choices"][0]["finish_reason"] == "stop"


async def test_stop_sequences_cut_before_the_earliest():
    content = (await whole())["choices"][0]["message"]["content"]
    assert content.find("Vienna") > 0
    answer = await whole({**RIVERS, "stop": ["Vienna", "flow", ""]})
    choice = answer["choices"][0]
    assert "flow" not in choice["message"]["content"]
    assert choice["message"]["content"].endswith("rivers ")
    assert choice["finish_reason"] == "stop"


async def test_tools_are_called_only_on_demand():
    tools = [{"type": "function", "function": {"name": name}} for name in ("one", "two")]
    answer = await whole({**RIVERS, "tools": tools})
    assert answer["choices"][0]["message"]["content"]
    named = {"type": "function", "function": {"name": "two"}}
    choice = (await whole({**RIVERS, "tools": tools, "tool_choice": named}))["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "two", "arguments": "{}"}
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [named]}}
    choice = (await whole({**RIVERS, "tools": tools, "tool_choice": allowed}))["choices"][0]
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "two"


async def test_log_probabilities_belong_to_the_tokens():
    answer = await whole({**RIVERS, "logprobs": True, "top_logprobs": 2})
    choice = answer["choices"][0]
    content = choice["logprobs"]["content"]
    assert "".join(entry["token"] for entry in content) == choice["message"]["content"]
    for entry in content:
        assert entry["logprob"] <= 0
        assert bytes(entry["bytes"]).decode() == entry["token"]
        assert len(entry["top_logprobs"]) == 2
        assert entry["top_logprobs"][0]["token"] == entry["token"]


async def test_legacy_completions_answer_each_prompt():
    answer = await whole({"prompt": ["Rivers of Asia", "Rivers of Africa"], "n": 2}, operation="completions")
    assert answer["object"] == "text_completion"
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert ["Asia" in choice["text"] for choice in answer["choices"]] == [True, True, False, False]
    assert (await whole({"prompt": [1, 2, 3]}, operation="completions"))["usage"]["prompt_tokens"] == 3


async def test_embeddings_are_unit_vectors_and_near_for_like_texts():
    texts = ["How do I reset my password?", "How can I reset the password?", "Bees make honey in spring."]
    answer = await whole({"input": texts}, operation="embeddings")
    assert answer["system_fingerprint"] == FINGERPRINT
    vectors = [row["embedding"] for row in answer["data"]]
    assert {len(vector) for vector in vectors} == {256}
    assert all(sum(value * value for value in vector) == pytest.approx(1) for vector in vectors)
    close, far = (sum(map(float.__mul__, vectors[0], vectors[other])) for other in (1, 2))
    assert close > 0.6 > 0.3 > far


async def test_embeddings_as_base64_with_chosen_dimensions():
    payload = {"input": "Bees", "dimensions": 12}
    plain = (await whole(payload, operation="embeddings"))["data"][0]["embedding"]
    packed = (await whole({**payload, "encoding_format": "base64"}, operation="embeddings"))["data"][0]["embedding"]
    assert struct.unpack("<12f", base64.b64decode(packed)) == pytest.approx(plain, abs=1e-6)
    empty = (await whole({"input": ["", "\ud83d"]}, operation="embeddings"))["data"]
    assert all(sum(value * value for value in row["embedding"]) == pytest.approx(1) for row in empty)


@pytest.mark.parametrize(
    ("operation", "extra", "param"),
    [
        ("chat", {"max_tokens": "many"}, "max_tokens"),
        ("chat", {"n": 0}, "n"),
        ("chat", {"n": True}, "n"),
        ("chat", {"tool_choice": "required"}, "tool_choice"),
        ("chat", {"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema"),
        ("chat", {"stop": [1]}, "stop"),
        ("chat", {"stop": 5}, "stop"),
        ("completions", {"prompt": {}}, "prompt"),
        ("completions", {"prompt": ["x"] * 100, "n": 2}, "n"),
        ("embeddings", {"input": []}, "input"),
        ("embeddings", {"input": [1, "x"]}, "input"),
        ("embeddings", {"input": "x", "dimensions": 100_000}, "dimensions"),
        ("embeddings", {"input": "x", "encoding_format": "hex"}, "encoding_format"),
    ],
)
async def test_an_unusable_field_is_refused_by_name(operation, extra, param):
    with pytest.raises(ProviderError, match=param.split(".")[0]) as caught:
        await provider().send(ask({**RIVERS, **extra}, operation=operation), TARGET)
    assert caught.value.param == param
    assert caught.value.status_code == 400
    assert not caught.value.retryable
    assert not caught.value.elsewhere


@pytest.mark.parametrize("payload", [{}, {"messages": 5}, {"messages": []}, {"messages": ["x", {"content": [1]}]}])
async def test_a_question_that_cannot_be_read_is_answered_all_the_same(payload):
    assert (await whole(payload))["choices"][0]["message"]["content"]


async def test_tokens_come_at_the_set_pace():
    clock = FakeClock()
    paced = provider(latency=LatencySettings(first_token_s=2, tokens_per_s=10), clock=clock)
    sending = asyncio.create_task(paced.send(ask(stream=True), TARGET))
    await clock.run(1.9)
    assert not sending.done()
    await clock.run(0.2)
    response = await sending
    seen = []

    async def read():
        async for batch in response:
            seen.append((clock.monotonic(), len(batch)))

    start = clock.monotonic()
    reading = asyncio.create_task(read())
    await clock.run(0)
    assert [count for _, count in seen] == [2]
    await clock.run(1.01)
    assert len(seen) == 11
    await clock.run(60)
    await reading
    tokens = response.usage.output_tokens
    assert len(seen) == tokens
    assert seen[-1][0] - start == pytest.approx((tokens - 1) / 10)


async def test_a_whole_answer_takes_as_long_as_its_stream():
    clock = FakeClock()
    paced = provider(latency=LatencySettings(first_token_s=2, tokens_per_s=10), clock=clock)
    start = clock.monotonic()
    sending = asyncio.create_task(paced.send(ask(), TARGET))
    while not sending.done():
        await clock.run(0.05)
    tokens = (await sending).usage.output_tokens
    assert clock.monotonic() - start == pytest.approx(2 + (tokens - 1) / 10, abs=0.06)


async def test_jitter_follows_from_the_request():
    async def first_token_s(payload):
        clock = FakeClock()
        jittery = provider(latency=LatencySettings(first_token_s=1, jitter=0.5), clock=clock)
        sending = asyncio.create_task(jittery.send(ask(payload, stream=True), TARGET))
        for _ in range(200):
            if sending.done():
                break
            await clock.run(0.01)
        await (await sending).aclose()
        return clock.monotonic()

    payloads = [{**RIVERS, "seed": seed} for seed in range(5)]
    times = [await first_token_s(payload) for payload in payloads]
    assert len(set(times)) > 1
    assert all(1000.49 <= at <= 1001.52 for at in times)
    assert times == [await first_token_s(payload) for payload in payloads]


async def test_fast_tokens_share_batches_in_real_time():
    fast = provider(latency=LatencySettings(first_token_s=0, tokens_per_s=50_000))
    response = await fast.send(ask(stream=True), TARGET)
    batches = await collect(response)
    assert len(batches) < response.usage.output_tokens / 2


async def test_closing_a_stream_ends_it():
    response = await provider(latency=LatencySettings(first_token_s=0, tokens_per_s=1)).send(ask(stream=True), TARGET)
    await anext(response)
    await response.aclose()
    assert await collect(response) == []


async def test_cancelling_a_request_ends_it():
    clock = FakeClock()
    sending = asyncio.create_task(provider(latency=LatencySettings(first_token_s=9), clock=clock).send(ask(), TARGET))
    await clock.run(1)
    assert clock.sleeping == 1
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert clock.sleeping == 0


async def test_it_is_a_provider():
    await check_provider(provider(latency=LatencySettings(first_token_s=0, tokens_per_s=5000)), "sim")
    assert [row.id for row in await provider().models()] == ["sim"]


async def test_without_latency_an_answer_costs_little():
    fast = provider()
    start = time.perf_counter()
    for _ in range(200):
        await collect(await fast.send(ask(stream=True), TARGET))
    assert (time.perf_counter() - start) / 200 < 0.005


async def outcomes(subject, count, **options):
    seen = []
    for _ in range(count):
        try:
            await (await subject.send(ask(**options), TARGET)).read()
            seen.append("ok")
        except ProviderError as error:
            seen.append(error.code)
    return seen


async def test_faults_strike_on_their_schedule():
    subject = provider(
        FaultSettings(first=2, kind="connect"), FaultSettings(every=3, kind="status", status=429, retry_after_s=7)
    )
    assert await outcomes(subject, 6) == [
        "upstream_connect", "upstream_connect", "rate_limit_exceeded", "ok", "ok", "rate_limit_exceeded"
    ]  # fmt: skip
    assert await outcomes(provider(FaultSettings(every=2, first=4)), 6) == ["ok", "upstream_error"] * 2 + ["ok", "ok"]


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [(429, "rate_limit_exceeded", False), (503, "upstream_error", True), (401, "upstream_auth", False)],
)
async def test_a_status_is_the_error_a_real_provider_makes_of_it(status, code, retryable):
    subject = provider(FaultSettings(status=status, retry_after_s=1.5))
    with pytest.raises(ProviderError) as caught:
        await subject.send(ask(), TARGET)
    error = caught.value
    assert (error.status_code, error.code, error.retryable) == (status, code, retryable)
    assert error.retry_after == 1.5
    assert error.provider == "sim"


async def test_an_incomplete_stream_breaks_after_its_tokens():
    subject = provider(FaultSettings(kind="incomplete", after_tokens=2))
    response = await subject.send(ask(stream=True), TARGET)
    events = []

    async def read():
        async for batch in response:
            events.extend(batch)

    with pytest.raises(ProviderError) as caught:
        await read()
    assert caught.value.code == "upstream_incomplete"
    assert [Chunk(event).text != "" for event in events] == [False, True, True]
    assert response.finish_reason is None


async def test_an_incomplete_answer_fails_before_the_first_event():
    for options in ({"stream": False}, {"payload": {"input": "x"}, "operation": "embeddings"}):
        with pytest.raises(ProviderError) as caught:
            await provider(FaultSettings(kind="incomplete")).send(ask(**options), TARGET)
        assert caught.value.code == "upstream_incomplete"
    with pytest.raises(ProviderError):
        await provider(FaultSettings(kind="incomplete", after_tokens=0)).send(ask(stream=True), TARGET)


@pytest.mark.parametrize(
    ("limits", "target", "deadline_in", "takes"),
    [
        ({}, TARGET, None, 120),
        ({"first_byte_s": 3}, TARGET, None, 3),
        ({"total_s": 4}, TARGET, None, 4),
        ({}, Target("sim", "sim", timeout_s=5), None, 5),
        ({}, TARGET, 6, 6),
    ],
)
async def test_a_timeout_lasts_as_long_as_one_is_willing_to_wait(limits, target, deadline_in, takes):
    clock = FakeClock()
    subject = provider(FaultSettings(kind="timeout"), clock=clock, **limits)
    deadline = None if deadline_in is None else clock.monotonic() + deadline_in
    sending = asyncio.create_task(subject.send(ask(deadline=deadline), target))
    await clock.run(takes - 0.1)
    assert not sending.done()
    await clock.run(0.2)
    with pytest.raises(ProviderError) as caught:
        await sending
    assert caught.value.code == "upstream_timeout"


async def test_slow_adds_to_the_time_of_the_first_token():
    clock = FakeClock()
    subject = provider(FaultSettings(kind="slow", delay_s=3, first=1), clock=clock)
    sending = asyncio.create_task(subject.send(ask(stream=True), TARGET))
    await clock.run(2.9)
    assert not sending.done()
    await clock.run(0.2)
    assert (await sending).usage is None
    await collect(await subject.send(ask(stream=True), TARGET))


async def test_a_pace_slower_than_the_limits_times_out():
    clock = FakeClock()
    subject = provider(latency=LatencySettings(first_token_s=0, tokens_per_s=0.1), clock=clock, idle_s=5)
    response = await subject.send(ask(stream=True), TARGET)
    reading = asyncio.create_task(collect(response))
    await clock.run(5.1)
    with pytest.raises(ProviderError) as caught:
        await reading
    assert caught.value.code == "upstream_timeout"
