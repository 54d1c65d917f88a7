import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.config import document
from penstock.config.document import parse, read
from penstock.config.loader import load_mapping
from penstock.config.problems import Problems
from penstock.core.errors import ConfigError


def plain(text):
    problems = Problems("f.yaml")
    node = parse(text, "f.yaml", problems)
    problems.raise_any()
    return node.plain()


def refusal(text):
    with pytest.raises(ConfigError) as caught:
        plain(text)
    return caught.value


def test_scalars_follow_the_core_schema_so_that_words_stay_words():
    text = (
        "a: no\nb: on\nc: 2024-01-01\nd: 1:30\ne: 0o17\nf: 0x1F\ng: 1.5e3\nh: ~\ni:\nj: True\nk: '1'\nl: 012\n"
        "m: -.5\nn: 1_000\no: !!str 5\np: .inf\n"
    )
    assert plain(text) == {
        "a": "no", "b": "on", "c": "2024-01-01", "d": "1:30", "e": 15, "f": 31, "g": 1500.0, "h": None, "i": None,
        "j": True, "k": "1", "l": 12, "m": -0.5, "n": "1_000", "o": "5", "p": float("inf"),
    }  # fmt: skip


def test_every_node_knows_its_line():
    tree = parse("a:\n  b: 1\n  c:\n  - x\n  - {d: 2}\n", "f.yaml", Problems())
    assert tree.find(("a", "b")).origin.label == "f.yaml:2"
    assert tree.find(("a", "c", 1, "d")).origin.label == "f.yaml:5"


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("a: 1\nb: 2\na: 3", 3, "the key 'a' is there twice, first in line 1"),
        ("x:\n- {a: 1, a: 1}", 2, "twice"),
        ("a: 1\nb: !!python/object/apply:os.system [ls]", 2, "python/object/apply:os.system is not allowed"),
        ("a: !!python/name:os.system x", 1, "not allowed"),
        ("a: !include other.yaml", 1, "not allowed"),
        ("a: !!binary aGk=", 1, "not allowed"),
        ("a: !!set {x, y}", 1, "not allowed"),
        ("a: !!int x", 1, "not of type int"),
        ("a: [1,\nb: }", 2, "not valid YAML"),
        ("a: 1\n\tb: 2", 2, "not valid YAML"),
        ("a: *nothing", 1, "undefined alias"),
        ("a: 1\n---\nb: 2", 2, "another document"),
        ("a: 1\nb: \x00", 2, "control character"),
        ("{[1]: 2}", 1, "key cannot be a list"),
        ("a: " + "9" * 5000, 1, "too many digits"),
        ("<<: 3", 1, "`<<` takes a mapping"),
        ("just words", 1, "not a mapping"),
    ],
)
def test_what_is_not_plain_yaml_is_refused_with_its_line(text, line, part):
    error = refusal(text)
    assert (error.file, error.line) == ("f.yaml", line)
    assert part in error.message


def test_aliases_and_merge_keys_work():
    text = "base: &b {x: 1, y: 2}\none: {<<: *b, y: 3}\ntwo: {<<: [*b, {z: 9}]}\nthree: *b\n"
    assert plain(text) == {
        "base": {"x": 1, "y": 2},
        "one": {"x": 1, "y": 3},
        "two": {"x": 1, "y": 2, "z": 9},
        "three": {"x": 1, "y": 2},
    }


@pytest.mark.parametrize(
    "text",
    [
        "a0: &a0 [x]\n" + "".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]\n" for n in range(9)),
        "a0: &a0 {x: 1}\n" + "".join(f"a{n + 1}: &a{n + 1} {{<<: [{', '.join([f'*a{n}'] * 10)}]}}\n" for n in range(9)),
        "a: &a [*a]",
        "a: &a {<<: *a}",
        "a: " + "[" * 5000,
        "a: " + "{b: " * 5000,
        "- " * 5000 + "x",
    ],
    ids=["lists", "merges", "own alias", "own merge", "brackets", "braces", "dashes"],
)
def test_bombs_are_refused_quickly(text):
    started = time.monotonic()
    refusal(text)
    assert time.monotonic() - started < 10


def test_files_that_are_too_large_or_not_text_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "f.yaml"
    path.write_bytes(b"a: 1\nb: \xff\xfe")
    with pytest.raises(ConfigError) as caught:
        read(str(path))
    assert (caught.value.line, caught.value.message) == (2, "the file is not UTF-8")
    path.write_bytes(b"\xef\xbb\xbfa: 1")
    assert plain(read(str(path))) == {"a": 1}
    monkeypatch.setattr(document, "MAX_BYTES", 3)
    with pytest.raises(ConfigError, match="too large"):
        read(str(path))


@settings(max_examples=150)
@given(st.text(alphabet="ab:-[]{}&*!<#'\"|>%@`,? \n\t0123$~.\\", max_size=60) | st.text(max_size=30))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(ConfigError):
        assert isinstance(plain(text), dict)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_keys = st.sampled_from(["server", "providers", "models", "cache", "store", "level", "polling", "timeout_s", "x"])


@settings(max_examples=150)
@given(st.dictionaries(_keys, _json | st.lists(st.fixed_dictionaries({"name": _json, "targets": _json}), max_size=2)))
def test_any_mapping_is_loaded_or_refused(values):
    with contextlib.suppress(ConfigError):
        assert load_mapping(values, environ={}, probe=False).settings.models
