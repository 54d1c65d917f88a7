import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.wire.upstream_errors import error_from_status, read_retry_after, redact


def error(status, headers=None, **fields):
    return error_from_status(status, headers or {}, **{"message": "no", "provider": "near", **fields})


@pytest.mark.parametrize(
    ("status", "code", "retryable", "elsewhere"),
    [
        (400, "vendor_code", False, False),
        (401, "upstream_auth", False, True),
        (402, "upstream_auth", False, True),
        (403, "upstream_auth", False, True),
        (404, "vendor_code", False, True),
        (408, "upstream_timeout", True, True),
        (409, "upstream_error", True, True),
        (413, "vendor_code", False, False),
        (418, "upstream_error", False, True),
        (422, "vendor_code", False, False),
        (429, "rate_limit_exceeded", False, True),
        (301, "upstream_invalid", False, True),
        (500, "upstream_error", True, True),
        (503, "upstream_error", True, True),
        (529, "upstream_error", True, True),
    ],
)
def test_the_status_decides_where_the_request_may_go_next(status, code, retryable, elsewhere):
    made = error(status, code="vendor_code", param="model")
    assert (made.code, made.retryable, made.elsewhere) == (code, retryable, elsewhere)
    assert (made.status_code, made.param, made.provider) == (status, "model", "near")


def test_statuses_without_a_vendor_code_get_one():
    assert [error(status).code for status in (400, 404, 413, 422)] == [
        "invalid_request", "not_found", "request_too_large", "invalid_request",
    ]  # fmt: skip


def test_an_upstreams_401_tells_which_key_to_check():
    assert error(401).message == "provider near answered 401: no (check its key and account)"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT", "date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT", "date": "Wed, 21 Oct 2015 07:28:30 GMT"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "²"}, None),
        ({"retry-after": "9" * 400}, None),
    ],
)
def test_retry_after(headers, seconds):
    assert read_retry_after(headers) == seconds


@given(st.text())
def test_no_retry_after_breaks_it(text):
    assert (read_retry_after({"retry-after": text, "retry-after-ms": text, "date": text}) or 0.0) >= 0.0


@pytest.mark.parametrize(
    "secret",
    ["sk-abcdef123456", "sk-proj-abc***wxyz", "sk-ant-api03-AAAAbbbb", "gsk_1234567890", "AIza" + "b" * 35, "0f" * 16],
)
def test_keys_are_taken_out_of_messages(secret):
    assert secret not in error(401, message=f"Incorrect API key provided: {secret}.").message


def test_other_words_stay():
    text = "model: claude-opus-4-7 for task-management (request req_011CSHoEeqs5C35K2UUqR7Fy)"
    assert redact(text) == text
