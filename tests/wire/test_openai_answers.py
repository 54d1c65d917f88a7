import json

import pytest

from penstock.core.canonical import assemble
from penstock.core.errors import ProviderError
from penstock.core.usage import Usage
from penstock.wire.openai_answers import parse_answer, parse_models
from penstock.wire.openai_stream import StreamReader, parse_chunk

USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 12,
    "total_tokens": 21,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 5},
}
COUNTS = Usage(9, 12, cached_input_tokens=4, reasoning_tokens=5)


def chunk(*choices, **fields):
    return json.dumps(
        {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, **fields},
        ensure_ascii=False,
        separators=(",", ":"),
    ).encode()


def delta(content=None, index=0, finish_reason=None, **fields):
    return {"index": index, "delta": {"content": content, **fields}, "finish_reason": finish_reason}


def stream(*chunks, done=True):
    events = b"".join(b"data: " + one + b"\n\n" for one in chunks)
    return events + b"data: [DONE]\n\n" if done else events


def read(*pieces):
    reader = StreamReader("up")
    events = [event for piece in pieces for event in reader.feed(piece)]
    reader.finish()
    return events


def fails(*pieces):
    with pytest.raises(ProviderError) as caught:
        read(*pieces)
    return caught.value


def test_a_chunk_keeps_its_bytes():
    data = chunk(delta("Hi 你好 🎉"), system_fingerprint="fp", unknown={"x": [1.10]}, usage=None)
    event = parse_chunk(data)
    assert event.data == data
    assert (event.finish_reason, event.usage, event.bare_usage) == (None, None, False)


def test_a_finish_reason_and_usage_are_noticed():
    event = parse_chunk(chunk({"index": 0, "delta": {}, "finish_reason": "stop"}, usage=USAGE))
    assert (event.finish_reason, event.usage, event.bare_usage) == ("stop", COUNTS, False)
    assert parse_chunk(chunk(usage=USAGE)).bare_usage
    assert not parse_chunk(chunk(prompt_filter_results=[])).bare_usage


@pytest.mark.parametrize("usage", [{"prompt_tokens": "many"}, {"prompt_tokens_details": [1]}, [], "none", 3])
def test_unreadable_usage_does_not_cost_the_answer(usage):
    assert parse_chunk(chunk(delta("x"), usage=usage)).usage is None


def test_a_chunk_of_several_lines_becomes_one():
    event = read(b'data: {"choices": [\ndata: {"index": 0, "delta": {"content": "a"}, "x": 1.10}]}\n\n', stream(END))[0]
    assert event.data == b'{"choices":[{"index":0,"delta":{"content":"a"},"x":1.10}]}'


@pytest.mark.parametrize(
    "data",
    [
        b"<html>",
        b"[1]",
        b'"text"',
        b"null",
        b'{"choices":',
        b'{"choices":{}}',
        b'{"choices":[1]}',
        b'{"choices":[{"delta":"x"}]}',
        b'{"choices":[{"index":0,"delta":{"content":"\xff"}}]}',
        b'{"id":"\xff","choices":[]}',
        b'{"choices":[{"index":0,"delta":{"content":"\\ud800 "}}]}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_chunk_is_refused(data):
    with pytest.raises(ProviderError) as caught:
        parse_chunk(data, "up")
    assert (caught.value.code, caught.value.provider) == ("upstream_invalid", "up")


@pytest.mark.parametrize(
    ("data", "code", "status", "retryable"),
    [
        (b'{"error":{"message":"slow down","code":"rate_limit_exceeded"}}', "rate_limit_exceeded", 429, False),
        (b'{"error":{"message":"broke","type":"insufficient_quota"}}', "insufficient_quota", 429, False),
        (b'{"error":{"message":"busy","code":503},"choices":[]}', "upstream_error", 503, True),
        (b'{"error":{"message":"gone","code":"502"},"choices":[{"index":0,"finish_reason":"error"}]}',
         "upstream_error", 502, True),
        (b'{"error":{"message":"boom","type":"server_error"}}', "upstream_error", 500, True),
        (b'{"error":"plain words"}', "upstream_error", 500, True),
        (b'{"object":"error","message":"bad \\"error\\"","type":"BadRequestError","code":400}',
         "invalid_request", 400, False),
        (b'[{"error":{"code":400,"message":"no such field","status":"INVALID_ARGUMENT"}}]',
         "invalid_request", 400, False),
        (b'{"error":{"message":"bad key","code":"invalid_api_key"}}', "upstream_auth", 401, False),
    ],
)  # fmt: skip
def test_an_error_in_a_successful_answer_counts_as_what_it_says(data, code, status, retryable):
    for fault in (lambda: parse_chunk(data, "up"), lambda: parse_answer(data, "up")):
        with pytest.raises(ProviderError) as caught:
            fault()
        error = caught.value
        assert (error.code, error.status_code, error.retryable, error.provider) == (code, status, retryable, "up")


END = chunk({"index": 0, "delta": {}, "finish_reason": "stop"})


def test_a_stream_is_complete_with_or_without_done():
    assert [event.data for event in read(stream(chunk(delta("a")), END))] == [chunk(delta("a")), END]
    assert len(read(stream(chunk(delta("a")), END, done=False))) == 2
    assert len(read(stream(END, chunk(usage=USAGE)))) == 2


def test_nothing_counts_after_done():
    reader = StreamReader("up")
    assert len(reader.feed(stream(END) + stream(chunk(delta("late"))))) == 1
    assert reader.done
    assert reader.ended


def test_empty_events_are_passed_over():
    assert len(read(b"data: \n\n: ping\n\n", stream(END))) == 1


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [chunk(delta("a"))],
        [chunk(delta("a")), chunk(usage=USAGE)],
        [chunk(delta("a"), delta("b", index=1)), END],
        [chunk(delta("a")), chunk(delta("b", index=1, finish_reason="stop"))],
    ],
)
def test_a_choice_without_a_finish_reason_is_incomplete(chunks, done):
    error = fails(stream(*chunks, done=done))
    assert (error.code, error.provider) == ("upstream_incomplete", "up")


def test_every_choice_may_finish_on_its_own():
    chunks = [
        chunk(delta("a"), delta("b", index=1)),
        chunk(delta(index=1, finish_reason="stop")),
        chunk(delta("c", finish_reason="length")),
        chunk(delta("")),
    ]
    assert [event.finish_reason for event in read(stream(*chunks))] == [None, "stop", "length", None]


def test_what_came_before_a_fault_is_still_delivered():
    reader = StreamReader("up")
    assert len(reader.feed(stream(chunk(delta("a")), b"<oops>", chunk(delta("b"))))) == 1
    assert reader.ended
    with pytest.raises(ProviderError) as caught:
        reader.finish()
    assert (caught.value.code, caught.value.provider) == ("upstream_invalid", "up")


RICH = [
    chunk(delta("", role="assistant"), delta("", role="assistant", index=1), unknown={"k": [1, None]}),
    chunk(delta(reasoning_content="考え中…"), delta("Zwei ", index=1)),
    chunk({**delta("你好 "), "logprobs": {"content": [{"token": "你", "logprob": -0.5, "bytes": [228, 189, 160]}]}}),
    chunk(delta("👩‍👩‍👧")),
    chunk(delta(tool_calls=[{"index": 0, "id": "t1", "type": "function", "function": {"name": "f", "arguments": ""}}])),
    chunk(delta(tool_calls=[{"index": 0, "function": {"arguments": '{"q":"ü'}}])),
    chunk(delta(tool_calls=[{"index": 0, "function": {"arguments": '"}'}}])),
    chunk(delta(index=1, finish_reason="stop")),
    chunk(delta(finish_reason="tool_calls")),
    chunk(usage=USAGE),
]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_stream_says_the_same_cut_at_every_offset(line_end):
    raw = b"\xef\xbb\xbf" + stream(*RICH).replace(b"\n", line_end.encode())
    for cut in range(len(raw) + 1):
        events = read(raw[:cut], raw[cut:])
        assert [event.data for event in events] == RICH
    whole = json.loads(assemble(events))
    first, second = whole["choices"]
    assert first["message"]["content"] == "你好 👩‍👩‍👧"
    assert first["message"]["reasoning_content"] == "考え中…"
    assert first["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"q":"ü"}'}
    assert first["logprobs"]["content"][0]["token"] == "你"
    assert second["message"]["content"] == "Zwei "
    assert (first["finish_reason"], second["finish_reason"]) == ("tool_calls", "stop")
    assert (whole["usage"], whole["unknown"]) == (USAGE, {"k": [1, None]})


def test_a_whole_answer_is_read():
    body = {"choices": [{"finish_reason": "length", "message": {}}, {"finish_reason": "stop"}], "usage": USAGE}
    assert parse_answer(json.dumps(body).encode()) == (COUNTS, "length")
    assert parse_answer(b'{"choices":[]}') == (None, None)
    assert parse_answer(b'{"choices":[{"text":"x"}],"error":null}', operation="completions") == (None, None)


def test_embeddings_have_no_finish_reason():
    body = b'{"object":"list","data":[{"embedding":[0.1]}],"usage":{"prompt_tokens":3,"total_tokens":3}}'
    assert parse_answer(body, operation="embeddings") == (Usage(3, 0), None)


@pytest.mark.parametrize(
    ("body", "operation"),
    [
        (b"", "chat"),
        (b"<html>", "chat"),
        (b"{}", "chat"),
        (b'{"data":[]}', "chat"),
        (b'{"choices":[]}', "embeddings"),
        (b'{"choices":null}', "chat"),
        (b'{"choices":[],"id":"\xff"}', "chat"),
        (b"[]", "chat"),
    ],
)
def test_what_is_no_answer_is_refused(body, operation):
    with pytest.raises(ProviderError) as caught:
        parse_answer(body, "up", operation=operation)
    assert (caught.value.code, caught.value.provider) == ("upstream_invalid", "up")


def test_models_are_listed_with_or_without_an_object_around():
    rows = [{"id": "a", "created": 5, "owned_by": "me"}, {"id": "b", "created": None}, {"name": "no id"}, 3]
    for document in ({"data": rows}, rows):
        listed = parse_models(json.dumps(document).encode())
        assert [(model.id, model.created, model.owned_by) for model in listed] == [("a", 5, "me"), ("b", 0, "")]


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"3", b'{"data":{}}'])
def test_what_is_no_list_of_models_is_refused(body):
    with pytest.raises(ProviderError) as caught:
        parse_models(body, "up")
    assert caught.value.code == "upstream_invalid"
