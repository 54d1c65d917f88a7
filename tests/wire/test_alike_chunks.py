"""Chunks that differ in their text alone are not decoded each, and come out as if they were."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import ProviderError
from penstock.wire import openai_answers
from penstock.wire.openai_answers import StreamReader

texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["", "a", '"', "\\", "\n", "\x7f", "\u2028", "é", "data: ", '","finish_reason":"stop', '"}', "content"]
    ),
)
extras = st.sampled_from([{}, {"usage": None}, {"obfuscation": "x"}, {"role": "assistant"}, {"tool_calls": []}])
choices = st.fixed_dictionaries(
    {"index": st.sampled_from([0, 0, 0, 1]), "finish_reason": st.sampled_from([None, None, None, "stop"])}
)


@st.composite
def chunk(draw) -> bytes:
    extra = draw(extras)
    delta = {"content": draw(texts), **(extra if "role" in extra or "tool_calls" in extra else {})}
    choice = {"delta": delta, **draw(choices)}
    if draw(st.booleans()):
        choice = dict(sorted(choice.items(), reverse=True))
    body = {"id": "c", "choices": [choice] * draw(st.sampled_from([1, 1, 1, 2]))}
    if "usage" in extra or "obfuscation" in extra:
        body |= extra
    text = json.dumps(body, ensure_ascii=draw(st.booleans()), separators=draw(st.sampled_from([None, (",", ":")])))
    return b"data: " + text.encode() + b"\n\n"


def outcome(reads: list[bytes], lessons: int, monkeypatch: pytest.MonkeyPatch) -> object:
    with monkeypatch.context() as patched:
        patched.setattr(openai_answers, "_LESSONS", lessons)
        reader = StreamReader("p")
        events = [event for read in reads for event in reader.feed(read)]
        try:
            reader.finish()
        except ProviderError as error:
            return events, reader.done, str(error)
        return events, reader.done, None


@given(st.lists(chunk(), max_size=12), st.lists(st.integers(0, 400), max_size=4), st.booleans())
def test_a_stream_says_the_same_whether_its_chunks_are_decoded_or_not(sent, cuts, broken):
    reads = list(sent)
    for cut in cuts:  # some reads end in the middle of an event, some have several
        if reads:
            at = cut % len(reads)
            reads[at : at + 2] = [b"".join(reads[at : at + 2])] if cut % 2 else [reads[at][:cut], reads[at][cut:]]
    if broken and reads:
        reads.append(reads[0].replace(b"}", b"", 1))
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert outcome(reads, 3, monkeypatch) == outcome(reads, 0, monkeypatch)


def test_what_is_no_json_string_is_found_among_chunks_alike():
    def read(text: bytes) -> bytes:
        return b'data: {"choices":[{"index":0,"delta":{"content":"' + text + b'"},"finish_reason":null}]}\n\n'

    for bad in (b"\xff", b"a\tb", b"a\x00", b"\\"):
        reader = StreamReader("p")
        assert len(reader.feed(read(b"one"))) == 1
        assert len(reader.feed(read(b"two"))) == 1
        assert reader.feed(read(bad)) == []
        with pytest.raises(ProviderError, match="cannot be read"):
            reader.finish()
