import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import ProviderError
from penstock.wire.openai_errors import parse_error, read_reset


def body(message="why", **fields):
    return json.dumps({"error": {"message": message, "type": None, "param": None, "code": None, **fields}}).encode()


@pytest.mark.parametrize(
    ("status", "code", "retryable", "elsewhere"),
    [
        (400, "own_code", False, False),
        (401, "upstream_auth", False, True),
        (402, "upstream_auth", False, True),
        (403, "upstream_auth", False, True),
        (404, "own_code", False, True),
        (408, "upstream_timeout", True, True),
        (409, "upstream_error", True, True),
        (413, "own_code", False, False),
        (422, "own_code", False, False),
        (429, "rate_limit_exceeded", False, True),
        (500, "upstream_error", True, True),
        (502, "upstream_error", True, True),
        (503, "upstream_error", True, True),
        (504, "upstream_error", True, True),
        (529, "upstream_error", True, True),
    ],
)
def test_the_status_decides(status, code, retryable, elsewhere):
    error = parse_error(status, {}, body("why it failed", code="own_code", param="temperature"), "up")
    assert (error.status_code, error.code, error.retryable, error.elsewhere) == (status, code, retryable, elsewhere)
    assert (error.provider, error.param) == ("up", "temperature")
    assert "why it failed" in error.message


def test_a_client_error_keeps_the_words_of_the_upstream():
    error = parse_error(400, {}, body("Invalid value: 'x'.", code="invalid_value", param="messages[0].role"), "up")
    assert (error.message, error.code, error.param) == ("Invalid value: 'x'.", "invalid_value", "messages[0].role")


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b'{"error":"plain words"}', "plain words"),
        (b'{"detail":"Not Found"}', "Not Found"),
        (b'{"detail":[{"loc":["body","n"],"msg":"too many"}]}', "too many"),
        (b'{"object":"error","message":{"detail":[{"msg":"Extra inputs"}]},"code":null}', "Extra inputs"),
        (b'[{"error":{"code":400,"message":"bad argument"}}]', "bad argument"),
        (b"<html><body>Bad Request</body></html>", "no reason"),
        (b"", "no reason"),
        (b"[]", "no reason"),
        (b"3", "no reason"),
    ],
)
def test_errors_of_every_shape_are_read(raw, says):
    error = parse_error(400, {}, raw, "up")
    assert says in error.message
    assert error.code == "invalid_request"


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        (400, {"code": "context_length_exceeded"}),
        (400, {"message": "This model's maximum context length is 4096 tokens.", "code": 400}),
        (400, {"type": "exceed_context_size_error"}),
        (413, {"message": "input exceeds the context window"}),
    ],
)
def test_a_larger_window_may_be_elsewhere(status, fields):
    error = parse_error(status, {}, body(**fields), "up")
    assert (error.code, error.elsewhere, error.retryable) == ("context_length_exceeded", True, False)


@pytest.mark.parametrize("field", ["code", "type"])
def test_a_used_up_quota_is_told_from_a_rate_limit(field):
    error = parse_error(429, {}, body(**{field: "insufficient_quota"}), "up")
    assert (error.code, error.retryable, error.elsewhere) == ("insufficient_quota", False, True)


@pytest.mark.parametrize("secret", ["sk-abcdefghijklmnop", "sk-proj-Ab*****************xY", "sk-ant-api03-aaaa-bbbbbb"])
def test_keys_are_not_repeated(secret):
    for status in (400, 401, 500):
        error = parse_error(status, {}, body(f"Incorrect API key provided: {secret}."), "up")
        assert secret not in error.message
        assert "Incorrect API key" in error.message


def test_known_secrets_are_not_repeated():
    error = parse_error(403, {}, body("token hunter2hunter2 is unknown"), "up", secrets=("hunter2hunter2",))
    assert "hunter2" not in error.message


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:10 GMT", "date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 10.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "7", "x-ratelimit-reset": "99"}, 7.0),
        ({"x-ratelimit-reset": "1.5"}, 1.5),
        ({"x-ratelimit-reset-requests": "6m0s", "x-ratelimit-remaining-requests": "0"}, 360.0),
        (
            {
                "x-ratelimit-reset-requests": "1h",
                "x-ratelimit-remaining-requests": "12",
                "x-ratelimit-reset-tokens": "1m30.5s",
                "x-ratelimit-remaining-tokens": "0",
            },
            90.5,
        ),
        ({"x-ratelimit-reset-requests": "20ms"}, 0.02),
        ({"x-ratelimit-reset": "1d2h"}, 93600.0),
        ({"x-ratelimit-reset": "tomorrow"}, None),
        ({"x-ratelimit-reset": ""}, None),
    ],
)
def test_when_to_come_back(headers, seconds):
    error = parse_error(429, headers, body(), "up")
    assert error.retry_after == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(("text", "seconds"), [("1700000030", 30.0), ("1700000030500", 30.5), ("1600000000", 0.0)])
def test_a_reset_may_be_a_time(text, seconds):
    assert read_reset({"x-ratelimit-reset": text}, now=1_700_000_000.0) == pytest.approx(seconds)


junk = st.text(max_size=30) | st.from_regex(r"\A[0-9]{1,40}(\.[0-9]{0,20})?(ms|s|m|h|d)?\Z")
NAMES = ["retry-after", "retry-after-ms", "date", "x-ratelimit-reset", "x-ratelimit-reset-tokens"]


@given(st.dictionaries(st.sampled_from(NAMES), junk))
def test_no_header_breaks_it(headers):
    wait = parse_error(429, headers, body(), "up").retry_after
    assert wait is None or (wait >= 0 and math.isfinite(wait))


@given(st.integers(400, 599), st.binary(max_size=60) | st.text().map(lambda text: json.dumps({"error": text}).encode()))
def test_any_failure_becomes_an_error(status, raw):
    error = parse_error(status, {}, raw, "up")
    assert isinstance(error, ProviderError)
    assert error.message
    assert error.status_code == status
