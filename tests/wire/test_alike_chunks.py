"""Chunks that differ in their text alone are not decoded each, and come out as if they were."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.caching.storable import storable_events
from penstock.core.canonical import assemble
from penstock.core.errors import ProviderError
from penstock.core.events import lines
from penstock.core.response import Response
from penstock.layers.attempt import _Meter
from penstock.wire import openai_stream
from penstock.wire.openai_chat import frame
from penstock.wire.openai_stream import StreamReader

texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [
            "",
            "a",
            " ",
            '"',
            "\\",
            "\n",
            "\x7f",
            "\u2028",
            "é",
            "🎉",
            "data: ",
            '","finish_reason":"stop',
            '"}',
            "content",
        ]
    ),
)
extras = st.sampled_from([{}, {"usage": None}, {"obfuscation": "x"}, {"role": "assistant"}, {"tool_calls": []}])
choices = st.fixed_dictionaries(
    {"index": st.sampled_from([0, 0, 0, 1]), "finish_reason": st.sampled_from([None, None, None, "stop"])}
)
damage = st.sampled_from(
    [
        b"\xff",
        b"\x00",
        b"\n",
        b"\r",
        b"\n\n",
        b"\\",
        b"\\ud800",
        b'"',
        b"data: ",
        b": ping\n\n",
        b"",
        b"\xe2\x82",
        b"[DONE]",
    ]
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


@st.composite
def alike(draw) -> bytes:
    """Many chunks that differ in their text alone, as most of a stream's."""
    plain, usage = draw(st.booleans()), draw(st.sampled_from([{}, {"usage": None}]))
    said = draw(st.lists(texts, min_size=1, max_size=8))
    bodies = [
        {"id": "c", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], **usage}
        for text in said
    ]
    separators = draw(st.sampled_from([None, (",", ":")]))
    return b"".join(
        b"data: " + json.dumps(body, ensure_ascii=plain, separators=separators).encode() + b"\n\n" for body in bodies
    )


ENDING = (
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\ndata: [DONE]\n\n'
)
streams = st.tuples(
    st.lists(st.one_of(chunk(), alike(), st.just(b": ping\n\n")), max_size=6).map(b"".join),
    st.sampled_from([b"", ENDING]),
).map(b"".join)


def outcome(reads: list[bytes], lessons: int, monkeypatch: pytest.MonkeyPatch) -> object:
    """All that anybody reads from the events of a stream."""
    with monkeypatch.context() as patched:
        patched.setattr(openai_stream, "_LESSONS", lessons)
        reader = StreamReader("p")
        batches = [batch for read in reads if not reader.ended and (batch := reader.feed(read))]
    events = [event for batch in batches for event in batch]
    noted, meter = Response(events=events), _Meter()
    for batch in batches:
        noted.note(batch)
        meter.add(batch)
    sent = [b"".join([frame(batch, include_usage=usage) for batch in batches]) for usage in (True, False)]
    whole = assemble(events) if events else b""
    read = lines(events), sent, whole, storable_events(events), meter.chars, noted.usage, noted.finish_reason
    try:
        reader.finish()
    except ProviderError as error:
        return read, reader.done, str(error)
    return read, reader.done, None


def same_cut_at(stream: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    reads = [stream[start:stop] for start, stop in pairwise(edges) if start < stop]
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert outcome(reads, 3, monkeypatch) == outcome(reads, 0, monkeypatch)


@given(streams, st.lists(st.integers(0, 4000), max_size=8))
def test_a_stream_says_the_same_whether_its_chunks_are_decoded_or_not(stream, cuts):
    same_cut_at(stream, cuts)


@given(
    streams, st.lists(st.integers(0, 4000), max_size=4), st.lists(st.tuples(st.integers(0, 4000), damage), max_size=3)
)
def test_a_damaged_stream_breaks_at_the_same_place(stream, cuts, faults):
    for at, what in faults:
        place = at % (len(stream) + 1)
        stream = stream[:place] + what + stream[place + at % 3 :]
    same_cut_at(stream, cuts)


def said(text: bytes) -> bytes:
    return b'data: {"choices":[{"index":0,"delta":{"content":"' + text + b'"},"finish_reason":null}]}\n\n'


@pytest.mark.parametrize("bad", [b"\xff", b"a\tb", b"a\x00", b"\\", b"\\ud800", b"\\x", b"\xe2\x82"])
@pytest.mark.parametrize("together", [True, False])
def test_what_is_no_json_string_is_found_among_chunks_alike(bad, together):
    reader = StreamReader("p")
    reads = [said(b"one"), said(b"two"), said(b"three"), said(bad), said(b'\xac"')]
    reads = [b"".join(reads)] if together else reads
    events = [event for read in reads if not reader.ended for event in reader.feed(read)]
    assert b"".join([frame([event], include_usage=True) for event in events]) == said(b"one") + said(b"two") + said(
        b"three"
    )
    with pytest.raises(ProviderError, match="cannot be read"):
        reader.finish()


def test_a_chunk_that_only_overlaps_with_the_others_is_none_of_them():
    """Its text would have to end before it begins."""
    short = said(b"")[: said(b"").index(b'""') + 1] + said(b"")[said(b"").index(b'""') + 2 :]
    for reads in ([said(b"one"), said(b"two"), short], [said(b"one") + said(b"two") + short + said(b"three")]):
        reader = StreamReader("p")
        events = [event for read in reads for event in reader.feed(read)]
        assert lines(events) == said(b"one")[6:-2] + b"\n" + said(b"two")[6:-2]
        with pytest.raises(ProviderError, match="cannot be read"):
            reader.finish()


def test_a_run_of_chunks_alike_is_one_event():
    reader = StreamReader("p")
    first, run = reader.feed(said(b"one") + said(b"two") + said(b"\\n\\u00e9") + said("水".encode()))
    assert (first.chunks, run.chunks, run.has_text) == (1, 3, True)
    assert run.shortest == len(said(b"two")) - 8
    assert [len(event.data) for event in run.singles()] == [
        len(said(text)) - 8 for text in (b"two", b"\\n\\u00e9", b"   ")
    ]
