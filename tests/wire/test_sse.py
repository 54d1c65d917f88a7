import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.wire.sse import SseDecoder, encode

STREAMS = {
    "plain": ('data: {"a":"b"}\n\ndata: [DONE]\n\n', ['{"a":"b"}', "[DONE]"]),
    "crlf": ("data: one\r\n\r\ndata: two\r\n\r\n", ["one", "two"]),
    "cr": ("data: one\r\rdata: two\r\r", ["one", "two"]),
    "mixed line ends": ("data: one\r\n\ndata: two\n\r\ndata: three\r\r\n", ["one", "two", "three"]),
    "bom": ("\ufeffdata: one\n\ndata: two\n\n", ["one", "two"]),
    "bom inside is text": ("data: \ufeffone\n\n", ["\ufeffone"]),
    "comments": (": hello\n\n: ping\ndata: one\n: between\n\n:\n", ["one"]),
    "several lines": ("data: one\ndata: two\ndata\ndata:\n\n", ["one\ntwo\n\n"]),
    "fields": ("event: delta\nid: 7\nretry: 10\nunknown: x\nnonsense\ndata: one\n\n", ["one"]),
    "event without data": ("event: ping\n\ndata: one\n\n", ["one"]),
    "one space only": ("data:  two spaces\ndata:none\n\n", [" two spaces\nnone"]),
    "empty data": ("data: \n\ndata:\n\n", ["", ""]),
    "blank lines": ("\n\n\ndata: one\n\n\n\ndata: two\n\n", ["one", "two"]),
    "unfinished": ("data: one\n\ndata: two\n", ["one"]),
    "cjk and emoji": ("data: 你好，世界 👩‍👩‍👧\r\n\r\ndata: ｄａｔａ： 🇨🇭\n\n", ["你好，世界 👩‍👩‍👧", "ｄａｔａ： 🇨🇭"]),
    "unicode line ends are text": ("data: a\u2028b\u0085c\x0bd\n\n", ["a\u2028b\u0085c\x0bd"]),
}


def decode(*chunks: bytes) -> list[str]:
    decoder = SseDecoder()
    return [event.decode() for chunk in chunks for event in decoder.feed(chunk)]


@pytest.mark.parametrize("name", STREAMS)
def test_reads_a_stream_in_one_piece(name):
    text, expected = STREAMS[name]
    assert decode(text.encode()) == expected


@pytest.mark.parametrize("name", STREAMS)
def test_reads_the_same_from_a_split_at_every_pair_of_offsets(name):
    text, expected = STREAMS[name]
    data = text.encode()
    for first in range(len(data) + 1):
        for second in range(first, len(data) + 1):
            assert decode(data[:first], data[first:second], data[second:]) == expected
    assert decode(*(data[i : i + 1] for i in range(len(data)))) == expected


line = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=12)
field = st.sampled_from(["data: ", "data:", "data", "event: ", ":", "id:", "", "\ufeff"])
end = st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\r\n\r\n", "\r\r"])


@given(st.lists(st.tuples(field, line, end), max_size=8), st.data())
def test_any_stream_reads_the_same_however_it_is_cut(parts, data):
    raw = "".join(map("".join, parts)).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert decode(*pieces) == decode(raw)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40)), st.data())
def test_what_is_encoded_is_decoded(texts, data):
    raw = b"".join(encode(text.encode()) for text in texts)
    cut = data.draw(st.integers(0, len(raw)))
    expected = [text.replace("\r\n", "\n").replace("\r", "\n") for text in texts]
    assert decode(raw[:cut], raw[cut:]) == expected


def test_encode_writes_one_event():
    assert encode(b'{"a":1}') == b'data: {"a":1}\n\n'
    assert encode(b"a\nb") == b"data: a\ndata: b\n\n"


@pytest.mark.parametrize(
    "chunks",
    [
        [b"data: " + b"x" * 100 + b"\n\n"],
        [b"data: ", b"x" * 60, b"x" * 60],
        [b": " + b"x" * 100 + b"\n"],
        [b"data: 0123456789012345\n"] * 5,
        [b"data\n"] * 100,
    ],
    ids=["whole line", "partial line", "comment", "event of many lines", "event of empty lines"],
)
def test_a_line_or_event_over_the_limit_is_refused(chunks):
    decoder = SseDecoder(max_line_bytes=64)
    with pytest.raises(ValueError, match="longer than 64 bytes"):
        list(map(decoder.feed, chunks))


def test_the_limit_is_for_a_line_and_not_for_the_stream():
    decoder = SseDecoder(max_line_bytes=64)
    assert len(decoder.feed(b"data: 0123456789\n\n" * 50)) == 50
    assert len(decoder.feed(b"data: 0123456789\r\n: comment of some length\r\n\r\n" * 50)) == 50
