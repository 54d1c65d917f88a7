import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import InvalidRequest
from penstock.server import controls

TAGS, METADATA, TIMEOUT, ID = b"x-penstock-tags", b"x-penstock-metadata", b"x-penstock-timeout", b"x-request-id"


def test_only_known_headers_are_kept_and_the_last_of_each():
    raw = [(b"accept", b"*/*"), (TAGS, b"a"), (b"authorization", b"Bearer k"), (TAGS, b"b")]
    assert controls.pick(raw) == {TAGS: b"b", b"authorization": b"Bearer k"}


@pytest.mark.parametrize("given_id", [b"abc-123", b"x" * 128, b"~!@#"])
def test_a_usable_request_id_is_taken_over(given_id):
    assert controls.request_id({ID: given_id}) == given_id.decode()


@pytest.mark.parametrize("given_id", [None, b"", b"x" * 129, b"two words", b"\xc3\xa9", b"tab\t", b"\x7f"])
def test_another_is_replaced_by_a_fresh_one(given_id):
    headers = {} if given_id is None else {ID: given_id}
    first, second = controls.request_id(headers), controls.request_id(headers)
    assert re.fullmatch(r"req_[0-9a-f]+", first)
    assert first != second


@pytest.mark.parametrize(("raw", "seconds"), [(b"2.5", 2.5), (b"30", 30.0), (b" 1e2 ", 100.0)])
def test_timeout(raw, seconds):
    assert controls.timeout_s({TIMEOUT: raw}) == seconds


@pytest.mark.parametrize("raw", [b"", b"soon", b"0", b"-1", b"nan", b"inf", b"1 s", b"\xff"])
def test_a_timeout_must_be_positive(raw):
    with pytest.raises(InvalidRequest) as caught:
        controls.timeout_s({TIMEOUT: raw})
    assert (caught.value.code, caught.value.param) == ("invalid_header", "x-penstock-timeout")
    assert "positive number of seconds" in caught.value.message


def test_tags():
    assert controls.tags({TAGS: b"search, chat ,,  "}) == ("search", "chat")
    assert controls.tags({TAGS: b",".join([b"x" * 64] * 20)}) == ("x" * 64,) * 20


@pytest.mark.parametrize("raw", [b"x" * 65, b",".join([b"x"] * 21)])
def test_too_many_or_too_long_tags(raw):
    with pytest.raises(InvalidRequest, match="at most 20 labels of at most 64 characters"):
        controls.tags({TAGS: raw})


def test_metadata():
    assert controls.metadata({METADATA: b"team=search, q=a=b ,empty="}) == {"team": "search", "q": "a=b", "empty": ""}
    assert controls.metadata({METADATA: b"n=1,n=2"}) == {"n": "2"}


@pytest.mark.parametrize(
    "raw",
    [b"novalue", b"=value", b"a=1,", b"x" * 65 + b"=1", b"a=" + b"x" * 513, b",".join(b"n%d=1" % n for n in range(21))],
)
def test_what_is_no_metadata(raw):
    with pytest.raises(InvalidRequest) as caught:
        controls.metadata({METADATA: raw})
    assert (caught.value.code, caught.value.param) == ("invalid_header", "x-penstock-metadata")


def test_nothing_is_said_by_default():
    assert controls.timeout_s({}) is None
    assert controls.tags({}) == ()
    assert controls.metadata({}) is None


@given(st.binary(max_size=100))
def test_any_bytes_are_read_or_refused_as_the_clients_fault(raw):
    for read, name in ((controls.timeout_s, TIMEOUT), (controls.tags, TAGS), (controls.metadata, METADATA)):
        with contextlib.suppress(InvalidRequest):
            read({name: raw})
    assert controls.request_id({ID: raw}).isascii()


@pytest.mark.parametrize(("raw", "allowed"), [(None, True), (b"none", False), (b" None ", False)])
def test_fallback_can_be_declined(raw, allowed):
    assert controls.fallback({} if raw is None else {b"x-penstock-fallback": raw}) is allowed


@pytest.mark.parametrize("raw", [b"", b"yes", b"big"])
def test_and_nothing_else_said_of_it(raw):
    with pytest.raises(InvalidRequest) as caught:
        controls.fallback({b"x-penstock-fallback": raw})
    assert caught.value.param == "x-penstock-fallback"


def test_an_operation_is_metadata():
    operation = b"x-penstock-operation"
    assert controls.metadata({operation: b" next-question "}) == {"operation": "next-question"}
    both = {operation: b"b", METADATA: b"team=x,operation=a"}
    assert controls.metadata(both) == {"team": "x", "operation": "b"}


@pytest.mark.parametrize("raw", [b"", b" ", b"x" * 65])
def test_an_operation_needs_a_short_name(raw):
    with pytest.raises(InvalidRequest) as caught:
        controls.metadata({b"x-penstock-operation": raw})
    assert caught.value.param == "x-penstock-operation"


@pytest.mark.parametrize(("raw", "mode"), [(None, None), (b"on", "on"), (b" OFF ", "off"), (b"shadow", "shadow")])
def test_a_request_may_say_whether_it_is_answered_by_meaning(raw, mode):
    assert controls.semantic({} if raw is None else {b"x-penstock-semantic": raw}) == mode


@pytest.mark.parametrize("raw", [b"", b"yes", b"on,off", b"1"])
def test_other_modes_of_matching_are_refused(raw):
    with pytest.raises(InvalidRequest, match="off, shadow or on") as caught:
        controls.semantic({b"x-penstock-semantic": raw})
    assert caught.value.param == "x-penstock-semantic"
