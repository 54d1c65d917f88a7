"""What is authorised is the route that is taken, however its path is written."""

import pytest

VARIANTS = [
    "/v1/chat/completions",
    "/v1/%63hat/completions",
    "/%76%31/%63%68%61%74/completions",
    "/v1/chat%2Fcompletions",
    "/v1/chat/completions/",
    "/v1/chat/completions;a=b",
    "/v1;a=b/chat/completions",
    "/v1/chat/completions?",
    "/v1/chat/completions?key=sk-abuse",
    "/v1/chat/completions?authorization=Bearer%20sk-abuse",
    "/v1//chat/completions",
    "//v1/chat/completions",
    "/./v1/chat/completions",
    "/health/../v1/chat/completions",
    "/health/%2e%2e/v1/chat/completions",
    "/health/live/..;/v1/chat/completions",
    "/V1/CHAT/COMPLETIONS",
    "/v1/chat/completions%20",
    "/v1/chat/completions%00",
    "/v1/chat/completions%23",
    "/v1/chat/completions%3f",
    "/v1/ch%c3%a1t/completions",
    "/v1/%ff",
    "/v1/%zz",
    "/v1\\chat\\completions",
    "http://localhost/v1/chat/completions",
    "http://x/health/live/../../v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/models",
    "/v1/models/a",
    "/v1/models/..%2fchat",
    "/v1/chat/completions/some",
    "/v1/chat/completions/some/messages",
    "/metrics",
    "/metrics/",
]


@pytest.mark.parametrize("key", ["", "authorization: Bearer sk-wrong\r\n"], ids=["without a key", "with a wrong key"])
@pytest.mark.parametrize("method", ["POST", "GET", "HEAD", "DELETE", "PUT"])
def test_no_way_of_writing_a_path_gets_past_the_key(abused, method, key):
    before = abused.attempts()
    body = abused.question("let me in").partition(b"\r\n\r\n")[2]
    for target in VARIANTS:
        with abused.wire() as wire:
            wire.send(f"{method} {target} HTTP/1.1\r\nhost: x\r\n{key}content-length: {len(body)}\r\n\r\n", body)
            status, headers, answer = wire.response(bodiless=method == "HEAD")
            assert status in (400, 401, 404, 405), target
            assert headers["x-request-id"]
            if method != "HEAD":
                abused.shape(answer)
    assert abused.attempts() == before


@pytest.mark.parametrize(
    "target",
    ["/v1/chat/completions", "/v1/%63hat/completions", "/v1/chat/completions?a=b", "http://x/v1/chat/completions"],
)
@pytest.mark.parametrize("host", ["x", "x:80", "[::1]", "y.example"])
def test_with_the_key_each_way_to_a_route_leads_there(abused, target, host):
    asked = abused.question("with a key", path=target).replace(b"host: x", f"host: {host}".encode())
    assert abused.ask(asked)[0] == 200


@pytest.mark.parametrize(
    "key",
    [
        "authorization: Bearer\r\n",
        "authorization: Bearer \r\n",
        "authorization: bearer sk-abuse, Bearer sk-wrong\r\n",
        "authorization: Basic sk-abuse\r\n",
        "authorization: sk-abuse\r\n",
        "authorization: Bearer sk-abus\r\n",
        "authorization: Bearer sk-abuse2\r\n",
        "authorization: Bearer sk-abuse sk-abuse\r\n",
        "authorization: Bearer " + "a" * 30_000 + "\r\n",
        "authorization: Bearer \xff\xfe\r\n",
        "authorization: Bearer sk-abuse\r\nauthorization: Bearer sk-wrong\r\n",
        "x-api-key: \r\n",
        "x-api-key: sk-wrong\r\n",
        "x-penstock-tenant: a\r\n",
        "cookie: authorization=sk-abuse\r\n",
        "x-forwarded-for: 127.0.0.1\r\n",
        "x-original-url: /health/live\r\n",
    ],
)
def test_hostile_keys(abused, key):
    with abused.wire() as wire:
        wire.send(abused.question("hostile key", key="").replace(b"\r\n", b"\r\n" + key.encode("latin-1"), 1))
        status, _, body = wire.response()
    assert status == 401
    assert abused.shape(body)["code"] in ("missing_api_key", "invalid_api_key")
