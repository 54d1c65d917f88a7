"""What a user who makes a mistake sees."""

import http.client
import json
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

LITERAL = """\
providers: [{{name: sim, kind: simulated}}]
models: [{{name: fast, targets: [{{provider: sim, model: sim}}]}}]
server: {{max_body_bytes: 2000, keys: [{{key: sk-first, tenant: a}}, {{key: sk-second, tenant: b}}]}}
store: {{url: "memory:"}}
"""


def post(url: str, body: bytes, path: str = "/v1/chat/completions", key: str = "sk-first", **headers: str):
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if key:
        named["authorization"] = f"Bearer {key}"
    connection.request("POST", path, body, {"content-type": "application/json", **named})
    reply = connection.getresponse()
    text = reply.read()
    connection.close()
    return reply, json.loads(text)["error"] if reply.status != 200 else json.loads(text)


@pytest.fixture(scope="module")
def url(start_gateway, tmp_path_factory):
    running = start_gateway(tmp_path_factory.mktemp("bad"), LITERAL)
    yield running.url
    running.stop()


GOOD = {"model": "fast", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (b"{not json", 400, "invalid_json", None),
        (b"[]", 400, None, None),
        (b"", 400, "invalid_json", None),
        (b'{"model": "fast"}', 400, "missing_required_parameter", "messages"),
        (json.dumps({**GOOD, "messages": []}).encode(), 400, None, "messages"),
        (json.dumps({**GOOD, "messages": "hello"}).encode(), 400, "invalid_type", "messages"),
        (json.dumps({**GOOD, "model": 7}).encode(), 400, "invalid_type", "model"),
        (json.dumps({**GOOD, "model": "fats"}).encode(), 404, "model_not_found", "model"),
        (json.dumps({**GOOD, "stream": "yes"}).encode(), 400, "invalid_type", "stream"),
        (json.dumps({**GOOD, "cache": 5}).encode(), 400, None, "cache"),
        (json.dumps({**GOOD, "pad": "x" * 3000}).encode(), 413, "request_too_large", None),
    ],
)
def test_bodies(url, body, status, code, param):
    reply, error = post(url, body)
    assert reply.status == status, error
    assert set(error) == {"message", "type", "param", "code"}
    assert reply.headers["x-request-id"]
    assert reply.headers["content-type"] == "application/json"
    if code is not None:
        assert error["code"] == code
    if param is not None:
        assert error["param"].startswith(param)


def test_unknown_model_names_the_known_ones_and_the_nearest(url):
    _, error = post(url, json.dumps({**GOOD, "model": "fats"}).encode())
    assert "'fast'" in error["message"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x_penstock_timeout", "soon"),
        ("x_penstock_timeout", "-1"),
        ("x_penstock_tags", "x" * 100),
        ("x_penstock_metadata", "novalue"),
    ],
)
def test_headers(url, name, value):
    reply, error = post(url, json.dumps(GOOD).encode(), **{name: value})
    assert (reply.status, error["code"]) == (400, "invalid_header")
    assert error["param"] == name.replace("_", "-")


@pytest.mark.parametrize(("key", "code"), [("", "missing_api_key"), ("sk-wrong", "invalid_api_key")])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"])
def test_keys(url, key, code, path):
    reply, error = post(url, json.dumps(GOOD).encode(), path=path, key=key)
    assert (reply.status, error["code"]) == (401, code)


def test_tenants_share_nothing(url):
    body = json.dumps({**GOOD, "messages": [{"role": "user", "content": "whose is it"}]}).encode()
    statuses = [post(url, body, key=key)[0].headers["cache-status"] for key in ("sk-first", "sk-first", "sk-second")]
    assert ["hit" in status for status in statuses] == [False, True, False]


def test_unknown_path_and_method(url):
    reply, error = post(url, b"{}", path="/v1/nonsense")
    assert (reply.status, error["code"]) == (404, "not_found")
    reply, error = post(url, b"{}", path="/v1/models")
    assert (reply.status, error["code"]) == (405, "method_not_allowed")


def serve(tmp_path, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "penstock.yaml"
    path.write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "penstock", "serve", "--config", str(path), *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=tmp_path,
    )


def test_port_in_use(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = serve(tmp_path, LITERAL.format(), "--port", str(port))
    assert done.returncode == 2
    assert f"127.0.0.1:{port}" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("modles: []", "did you mean"),
        ("models: [", "penstock.yaml:1"),
        ("server: {port: abc}\nproviders: []", "server.port"),
        ("providers: [{name: p, kind: simulated}]\nmodels: [{name: m, targets: [{provider: q}]}]", "p"),
    ],
)
def test_invalid_configuration(tmp_path, text, said):
    done = serve(tmp_path, text)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "penstock.yaml"], "nothing half-started"


def test_refuses_other_addresses_without_keys(tmp_path):
    done = serve(tmp_path, LITERAL.format().split("server:")[0] + 'store: {url: "memory:"}', "--host", "0.0.0.0")
    assert done.returncode == 2
    assert "server.keys" in done.stderr


def test_missing_file(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "penstock", "serve", "--config", str(tmp_path / "no.yaml")],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert "no.yaml" in done.stderr
