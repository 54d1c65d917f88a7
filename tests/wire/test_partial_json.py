import itertools
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.wire.partial_json import MAX_DEPTH, PartialJson

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


def cut(text, cuts):
    ends = sorted({0, len(text), *(place % (len(text) + 1) for place in cuts)})
    return [text[start:end] for start, end in itertools.pairwise(ends)]


def read(pieces):
    parser = PartialJson()
    for piece in pieces:
        parser.feed(piece)
    parser.close()
    return parser.value


def belongs(part, whole):
    """What a beginning shows is true of the whole."""
    if isinstance(whole, str):
        return isinstance(part, str) and whole.startswith(part)
    if type(part) is not type(whole):
        return False
    if isinstance(whole, list):
        pairs = list(zip(part, whole, strict=False))
        return (
            len(part) <= len(whole) and all(a == b for a, b in pairs[:-1]) and all(belongs(a, b) for a, b in pairs[-1:])
        )
    if isinstance(whole, dict):
        keys = list(part)
        return (
            keys == list(whole)[: len(keys)]
            and all(part[key] == whole[key] for key in keys[:-1])
            and all(belongs(part[key], whole[key]) for key in keys[-1:])
        )
    return part == whole


@given(VALUES, st.booleans(), st.sampled_from([None, 2]))
def test_every_beginning_is_true_of_the_whole(value, ascii_only, indent):
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    parser = PartialJson()
    for sign in text:
        before = json.loads(json.dumps(parser.value))
        parser.feed(sign)
        assert parser.value is None or belongs(parser.value, value)
        assert before is None or belongs(before, parser.value)
        assert all(value[name] == member for name, member in parser.fields.items())
    parser.close()
    assert parser.done
    assert parser.value == value
    if isinstance(value, dict):
        assert parser.fields == value


@given(VALUES, st.lists(st.integers(0, 10_000), max_size=6))
def test_how_it_is_cut_does_not_matter(value, cuts):
    text = json.dumps(value)
    assert read(cut(text, cuts)) == json.loads(text)


@given(st.text('{}[]",:\\u0aeftn1-. ', max_size=40), st.lists(st.integers(0, 40), max_size=3))
def test_it_takes_what_the_standard_library_takes(text, cuts):
    try:
        expected = json.loads(text)
        json.dumps(expected, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        expected = ValueError
    try:
        found = read(cut(text, cuts))
    except ValueError:
        found = ValueError
    assert found == expected


@given(st.text("ab{c\n`", max_size=20).filter(lambda text: "{" not in text), st.dictionaries(st.text(), st.integers()))
def test_an_object_inside_a_text(around, value):
    parser = PartialJson(inside_text=True)
    for sign in f"{around}{json.dumps(value)}{around}{{":
        parser.feed(sign)
    assert parser.done
    assert parser.value == value


def test_fields_are_there_when_they_are_complete():
    parser = PartialJson()
    seen = []
    for piece in ('{"label": "hir', 'ing", "score": 8', "7", ', "why": ["budget", "ti', 'me"]', "}"):
        parser.feed(piece)
        seen.append((json.loads(json.dumps(parser.value)), sorted(parser.fields)))
    assert seen == [
        ({"label": "hir"}, []),
        ({"label": "hiring"}, ["label"]),
        ({"label": "hiring"}, ["label"]),
        ({"label": "hiring", "score": 87, "why": ["budget", "ti"]}, ["label", "score"]),
        ({"label": "hiring", "score": 87, "why": ["budget", "time"]}, ["label", "score", "why"]),
        ({"label": "hiring", "score": 87, "why": ["budget", "time"]}, ["label", "score", "why"]),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a" 1}', "expected a colon at character 5"),
        ("{a", "expected a key in double quotes at character 1"),
        ('{"a":1,}', "expected a key in double quotes at character 7"),
        ("[1 2]", "expected a comma or ] at character 3"),
        ("[1}", "expected a comma or ] at character 2"),
        ('["\n"]', "control characters"),
        ('["\\x"]', "unknown escape \\x at character 3"),
        ('["\\ud800x"]', "half of a surrogate pair"),
        ('["\\udc00"]', "half of a surrogate pair"),
        ('["\\u00zz"]', "four hexadecimal digits"),
        ("[trux]", "expected a value, not 'trux'"),
        ("[01]", "expected a value, not '01'"),
        ("[1e999]", "too large"),
        (f"[{'9' * 5000}]", "too many digits"),
        ("1 1", "expected nothing after the value"),
        ("[" * (MAX_DEPTH + 1), "nested more than 64 levels deep at character 64"),
    ],
)
def test_what_is_no_json_is_said_with_its_place(text, said):
    for pieces in ([text], text):
        with pytest.raises(ValueError, match=re.escape(said)):
            read(pieces)


@pytest.mark.parametrize("text", ["", " ", "[", '"abc', "tru", '{"a":1', '["\\u00'])
def test_what_ends_too_soon_is_no_json(text):
    with pytest.raises(ValueError, match=r"before the value is complete|expected a value"):
        read([text])
