import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import InvalidRequest
from penstock.wire.json_body import LARGE_BYTES, MAX_CONTAINERS, MAX_DEPTH, MAX_ESCAPES, MAX_VALUES, decode_object

PAD = "x" * LARGE_BYTES
"""Makes a body a large one."""


def refuse(body: bytes) -> str:
    with pytest.raises(InvalidRequest) as caught:
        decode_object(body)
    assert caught.value.status_code == 400
    assert caught.value.code == "invalid_json"
    return caught.value.message


def padded(body: str) -> bytes:
    return f'{{"pad":"{PAD}","body":{body}}}'.encode()


REPEATED = {
    "plain": '{"a":1,"a":2}',
    "equal values": '{"a":1,"a":1}',
    "with spaces": '{"a" : 1, "a" : 2}',
    "nested": '{"b":[1,{"c":{"a":1,"d":2,"a":3}}]}',
    "one of them escaped": '{"a":1,"\\u0061":2}',
    "with colons in values": '{"a":":::","a":"::"}',
    "hidden by an escaped colon": '{"a":1,"a":2,"b":"\\u003a"}',
    "hidden by an escaped colon, upper case": '{"a":1,"a":2,"b":"\\u003A"}',
    "empty keys": '{"":1,"":2}',
    "a thousand": "{" + ",".join(['"a":1'] * 1000) + "}",
}


@pytest.mark.parametrize("body", REPEATED.values(), ids=REPEATED)
def test_a_repeated_key_is_refused_and_named(body):
    assert "twice" in refuse(body.encode())
    assert "twice" in refuse(padded(body))


@pytest.mark.parametrize(
    "body",
    [
        '{"a":1,"b":{"a":1},"c":[{"a":1},{"a":1}]}',
        '{"a":"\\"a\\":1","b":"a:b::c"}',
        '{ "a" : "\\u003a\\u003A" , "b" : "\\\\u003a" }',
        '{"a:b":1,"a":{":":2}}',
        '{"a":1.0,"A":1e5}',
    ],
)
def test_others_are_not(body):
    assert decode_object(body.encode()) == json.loads(body)
    assert decode_object(padded(body))["body"] == json.loads(body)


class Pairs(list):
    """An object whose keys may repeat."""


keys = st.text(st.sampled_from('ab:"\\u00e9 '), max_size=2)
values = st.recursive(
    st.text(st.sampled_from('a:"\\é'), max_size=4) | st.integers(-9, 9) | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(keys, inner), max_size=4).map(Pairs),
    max_leaves=10,
)


def write(value: object, comma: str, colon: str, *, escape: bool) -> str:
    if isinstance(value, Pairs):
        members = [
            json.dumps(key, ensure_ascii=escape) + colon + write(inner, comma, colon, escape=escape)
            for key, inner in value
        ]
        return "{" + comma.join(members) + "}"
    if isinstance(value, list):
        return "[" + comma.join(write(inner, comma, colon, escape=escape) for inner in value) + "]"
    return json.dumps(value, ensure_ascii=escape)


def repeats(value: object) -> bool:
    if isinstance(value, Pairs):
        names = [key for key, _ in value]
        return len(set(names)) < len(names) or any(repeats(inner) for _, inner in value)
    return isinstance(value, list) and any(map(repeats, value))


@given(
    st.lists(st.tuples(keys, values), max_size=5).map(Pairs),
    st.sampled_from([",", ", ", " ,\n"]),
    st.sampled_from([":", ": ", " : "]),
    st.booleans(),
    st.sampled_from(["", "\\u003a", "\\u003A"]),
)
def test_exactly_the_objects_that_repeat_a_key_are_refused(document, comma, colon, escape, escaped_colon):
    text = write(document, comma, colon, escape=escape)
    if escaped_colon:
        text = text.replace("::", ":" + escaped_colon)
    if repeats(document):
        assert "twice" in refuse(text.encode())
    else:
        assert decode_object(text.encode()) == json.loads(text)


@pytest.mark.parametrize("number", [str(2**64), str(-(2**63) - 1), "9" * 40, "-" + "9" * 4000, "1" * 5000, "1e999"])
def test_numbers_no_64_bits_hold_are_refused(number):
    assert "64 bits" in (said := refuse(f'{{"a":[{number}]}}'.encode())) or "too large" in said
    refuse(padded(number))


@pytest.mark.parametrize("number", [2**64 - 1, -(2**63), 0, 0.1, 1e300, -0.0])
def test_other_numbers_are_kept(number):
    assert decode_object(f'{{"a":{json.dumps(number)}}}'.encode()) == {"a": number}


@pytest.mark.parametrize("opened", ["[", '{"a":', '[{"a":'])
def test_depth(opened):
    closed = "".join({"[": "]", "{": "}"}[mark] for mark in reversed(opened) if mark in "[{")
    levels = opened.count("[") + opened.count("{")
    times = (MAX_DEPTH - 2) // levels
    fits, deep = (opened * n + "1" + closed * n for n in (times, times + 2))
    for wrap in (lambda body: f'{{"body":{body}}}'.encode(), padded):
        assert decode_object(wrap(fits))["body"] == json.loads(fits)
        assert f"{MAX_DEPTH} levels" in refuse(wrap(deep))
    refuse(b'{"a":' + opened.encode() * 500_000)


def test_a_large_body_has_limits_that_a_small_one_cannot_reach():
    assert "arrays, objects" in refuse(padded("[" + "[]," * MAX_CONTAINERS + "1]"))
    assert "arrays, objects" in refuse(padded("{" + ",".join(f'"{n}":1' for n in range(MAX_CONTAINERS)) + "}"))
    assert "values" in refuse(padded("[" + "1," * (MAX_VALUES + 1) + "1]"))
    assert "values" in refuse(padded("[" + '"",' * (MAX_VALUES * 2) + "1]"))
    assert "digits" in refuse(padded("[" + f"0.{'1' * 30}," * 20_000 + "1]"))
    assert "escaped" in refuse(padded('"' + '\\"' * (MAX_ESCAPES + 1) + '"'))
    assert "digits" in refuse(padded("[" + f"{'1' * 4000}," * 50 + "1]"))


def test_what_is_in_strings_does_not_count_towards_them():
    text = ('[{"a":1},' * 3 + "\\\\" + "1" * 40) * 100_000
    body = json.dumps({"text": text, "quote": '\\" \\\\" "' * 1000, "tokens": list(range(300_000))}).encode()
    assert decode_object(body)["text"] == text


@given(st.binary(max_size=80), st.integers(0, 3))
def test_large_bodies_of_any_bytes_are_read_or_refused_cleanly(noise, at):
    body = bytearray(padded("[1,[2],{}]"))
    body[-at - len(noise) : len(body) - at] = noise
    try:
        expected = json.loads(body)
    except (ValueError, RecursionError):
        expected = None
    code = None
    try:
        assert decode_object(bytes(body)) == expected
    except InvalidRequest as error:
        code = error.code
    assert code in (None, "invalid_json", "invalid_type")
