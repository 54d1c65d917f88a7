import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.wire.ndjson import NdjsonDecoder

TEXT = b'\xef\xbb\xbf{"a":1}\r\n\n  \n{"b":"\xe6\xb0\xb4\xf0\x9f\x9a\xb0"}\n{"c":3}\r\n{"cut'
LINES = [b'{"a":1}', '{"b":"水🚰"}'.encode(), b'{"c":3}']


def read(pieces, limit=100):
    decoder = NdjsonDecoder(max_line_bytes=limit)
    return [line for piece in pieces for line in decoder.feed(piece)]


@pytest.mark.parametrize("at", range(len(TEXT) + 1))
def test_any_split_gives_the_same_lines(at):
    assert read([TEXT[:at], TEXT[at:]]) == LINES


def test_byte_by_byte():
    assert read([TEXT[at : at + 1] for at in range(len(TEXT))]) == LINES


@given(st.lists(st.binary(max_size=12)), st.integers(1, 8))
def test_splits_change_neither_lines_nor_refusal(pieces, limit):
    def outcome(parts):
        decoder, lines = NdjsonDecoder(max_line_bytes=limit), []
        try:
            for part in [*parts, b"\n", b""]:
                lines += decoder.feed(part)
        except ValueError as error:
            return lines, str(error)
        return lines, None

    whole = b"".join(pieces)
    assert outcome(pieces) == outcome([whole]) == outcome([whole[at : at + 1] for at in range(len(whole))])


def test_a_line_without_end_is_refused_before_it_fills_the_memory():
    decoder = NdjsonDecoder(max_line_bytes=1000)
    assert [decoder.feed(b"x" * 100) for _ in range(10)] == [[]] * 10
    with pytest.raises(ValueError, match="longer than 1000 bytes"):
        decoder.feed(b"x" * 100)


def test_lines_before_one_that_is_too_long_are_not_lost():
    decoder = NdjsonDecoder(max_line_bytes=5)
    assert decoder.feed(b"{}\n" + b"x" * 50 + b"\n{}\n") == [b"{}"]
    with pytest.raises(ValueError, match="longer"):
        decoder.feed(b"")
