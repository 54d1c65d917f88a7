import json

import pytest

from penstock.core.errors import (
    BudgetExceeded,
    ConfigError,
    DeadlineExceeded,
    InvalidRequest,
    NotCached,
    PenstockError,
    ProviderError,
    RateLimited,
    Refused,
    StoreError,
)
from penstock.server.errors import INTERNAL, render


def upstream(status=None, **fields):
    return ProviderError("no", status_code=status, **fields)


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        (InvalidRequest("no"), 400, "invalid_request_error", "invalid_request"),
        (InvalidRequest("no", code="missing_api_key", status_code=401), 401, "authentication_error", "missing_api_key"),
        (InvalidRequest("no", code="model_not_found", status_code=404), 404, "not_found_error", "model_not_found"),
        (InvalidRequest("no", status_code=405), 405, "invalid_request_error", "invalid_request"),
        (InvalidRequest("no", status_code=413), 413, "invalid_request_error", "invalid_request"),
        (RateLimited("no"), 429, "rate_limit_error", "rate_limit_exceeded"),
        (BudgetExceeded("no"), 429, "rate_limit_error", "insufficient_quota"),
        (DeadlineExceeded("no"), 504, "server_error", "upstream_timeout"),
        (NotCached("no"), 504, "server_error", "not_cached"),
        (Refused("no", code="shutting_down"), 503, "server_error", "shutting_down"),
        (StoreError("no"), 503, "server_error", "store_error"),
        (ConfigError("no"), 500, "server_error", "invalid_config"),
        (PenstockError("no"), 500, "server_error", "internal_error"),
        (INTERNAL, 500, "server_error", "internal_error"),
        (upstream(), 502, "server_error", "upstream_error"),
        (upstream(500), 502, "server_error", "upstream_error"),
        (upstream(503), 502, "server_error", "upstream_error"),
        (upstream(401, code="upstream_auth"), 502, "server_error", "upstream_auth"),
        (upstream(403, code="upstream_auth"), 502, "server_error", "upstream_auth"),
        (upstream(404, code="upstream_auth"), 502, "server_error", "upstream_auth"),
        (upstream(408, code="upstream_timeout"), 504, "server_error", "upstream_timeout"),
        (upstream(code="upstream_timeout"), 504, "server_error", "upstream_timeout"),
        (upstream(code="upstream_connect"), 502, "server_error", "upstream_connect"),
        (upstream(429, code="rate_limit_exceeded"), 429, "rate_limit_error", "rate_limit_exceeded"),
        (upstream(429, code="insufficient_quota"), 429, "rate_limit_error", "insufficient_quota"),
        (upstream(400, code="context_length_exceeded"), 400, "invalid_request_error", "context_length_exceeded"),
        (upstream(404, code="model_not_found"), 404, "not_found_error", "model_not_found"),
        (upstream(409), 409, "invalid_request_error", "upstream_error"),
        (upstream(413, code="request_too_large"), 413, "invalid_request_error", "request_too_large"),
        (upstream(422, code="invalid_request"), 422, "invalid_request_error", "invalid_request"),
        (upstream(418), 502, "server_error", "upstream_error"),
    ],
)
def test_the_map(error, status, kind, code):
    found, headers, body = render(error)
    said = json.loads(body)["error"]
    assert set(said) == {"message", "type", "param", "code"}
    assert (found, said["type"], said["code"]) == (status, kind, code)
    assert dict(headers)[b"content-type"] == b"application/json"


def test_message_and_param_are_the_errors():
    _, _, body = render(InvalidRequest("'n' must be ≥ 1", param="n", code="invalid_value"))
    assert json.loads(body)["error"] == {
        "message": "'n' must be ≥ 1",
        "type": "invalid_request_error",
        "param": "n",
        "code": "invalid_value",
    }


@pytest.mark.parametrize(
    ("error", "retry_after", "should_retry"),
    [
        (RateLimited("no", retry_after=1.2), b"2", None),
        (upstream(429, code="rate_limit_exceeded", retry_after=0.0), b"0", None),
        (upstream(503, retry_after=3.0), b"3", None),
        (RateLimited("no"), None, b"false"),
        (upstream(503), None, b"false"),
        (NotCached("no"), None, b"false"),
        (InvalidRequest("no"), None, None),
        (upstream(404), None, None),
    ],
)
def test_clients_are_told_whether_and_when_to_come_back(error, retry_after, should_retry):
    headers = dict(render(error)[1])
    assert headers.get(b"retry-after") == retry_after
    assert headers.get(b"x-should-retry") == should_retry


def test_where_the_store_is_stays_in_the_log(caplog):
    status, _, body = render(StoreError("/var/lib/secret.db: disk I/O error"))
    assert status == 503
    assert b"secret" not in body
    assert json.loads(body)["error"]["code"] == "store_error"
    assert "/var/lib/secret.db: disk I/O error" in caplog.text
