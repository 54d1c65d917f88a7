"""Secrets and prompts stay where they belong: not in logs, errors, metrics; keys not in the database either.

Every secret and every text is a word of its own that occurs nowhere else, and the upstream repeats in its errors all it
was sent, headers included.
"""

import http.server
import itertools
import json
import re
import threading
import time

import pytest
from click.testing import CliRunner

from penstock.cli import main

CLIENT_KEY, FOREIGN_KEY = "sk-canary-client-3f9a", "sk-canary-foreign-77b1"
PROVIDER_KEY, ANTHROPIC_KEY, OLLAMA_KEY = "sk-canary-provider-a81c", "canary-anthropic-9d20", "canary-ollama-55e6"
ADMIN_KEY, STORE_SECRET = "sk-canary-admin-17e0", "canary-store-secret-4be2-0123456789abcdef"
HEADER, QUERY, PROXY_PASSWORD = "canary-header-c4d7", "canary-query-08be", "canary-proxy-61fa"
SECRETS = [
    ADMIN_KEY,
    STORE_SECRET,
    CLIENT_KEY,
    FOREIGN_KEY,
    PROVIDER_KEY,
    ANTHROPIC_KEY,
    OLLAMA_KEY,
    HEADER,
    QUERY,
    PROXY_PASSWORD,
]
PROMPT, SYSTEM, ANSWER, METADATA = "canaryprompt1b7", "canarysystem9e4", "canaryanswer5c2", "canarymetadata8d"
TEXTS = [PROMPT, SYSTEM, ANSWER, METADATA]

CONFIG = """\
providers:
  - {{{{name: openai, kind: openai, base_url: "{url}/v1", api_key: {PROVIDER_KEY}, headers: {{{{x-secret: {HEADER}}}}},
     query: {{{{token: {QUERY}}}}}, proxy: none}}}}
  - {{{{name: anthropic, kind: anthropic, base_url: "{url}/anthropic/v1", api_key: {ANTHROPIC_KEY}, proxy: none}}}}
  - {{{{name: ollama, kind: ollama, base_url: "{url}/ollama", api_key: {OLLAMA_KEY}, proxy: none}}}}
  - {{{{name: gone, kind: openai, base_url: "http://127.0.0.1:9/v1", api_key: {PROVIDER_KEY}, proxy: none}}}}
  - {{{{name: proxied, kind: openai, base_url: "http://127.0.0.1:9/v1", api_key: {PROVIDER_KEY},
     proxy: "http://user:{PROXY_PASSWORD}@127.0.0.1:9"}}}}
models: [{{{{name: both, targets: [{{{{provider: gone, model: m}}}}, {{{{provider: openai, model: m-500}}}}]}}}}]
server: {{{{admin_key: {ADMIN_KEY}, keys: [{{{{key: {CLIENT_KEY}, tenant: a}}}}],
  body_timeout_s: 0.5, header_timeout_s: 0.5}}}}
retry: {{{{attempts: 1}}}}
breaker: {{{{failures: 1000}}}}
store: {{{{url: "sqlite:///{{folder}}/penstock.db", secret: {STORE_SECRET}}}}}
"""


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers a model named ``m-STATUS`` with that status, and with all it was told."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        asked = self.rfile.read(int(self.headers["content-length"])).decode()
        status = int(re.search(r"m-(\d+)", asked)[1])
        said = f"echoed {self.path} {dict(self.headers.items())} {asked}"
        if status == 200:
            message = {"role": "assistant", "content": ANSWER}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            answer = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        elif status == 299:
            status, answer = 200, f"<html>{said}"
        elif status == 298:
            status, answer = 200, {"error": {"message": said, "type": "server_error", "code": "oops"}}
        else:
            answer = {"error": {"message": f"{self.headers.get('authorization')} {said}", "type": "x", "code": "y"}}
        body = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def upstream():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


STATUSES = (200, 298, 299, 400, 401, 403, 404, 408, 413, 418, 422, 429, 500, 502, 503, 529)
KEY = f"authorization: Bearer {CLIENT_KEY}\r\n"
GET = "GET {} HTTP/1.1\r\nhost: x\r\n{}\r\n"


def made_keys(gateway):
    """Make keys over HTTP and from the command line; only what makes them says them."""

    def made(path, **body):
        post = gateway.post(json.dumps(body).encode(), key=f"x-api-key: {ADMIN_KEY}\r\n", path=path)
        status, _, answer = gateway.ask(post)
        assert status == 201
        return json.loads(answer)

    made("/admin/teams", tenant="canary/team")
    keys = [made("/admin/keys", name=f"key {role}", tenant="canary/team", role=role) for role in ("user", "admin")]
    keys.append(made(f"/admin/keys/{keys[0]['id']}/rotate"))
    keys.append(json.loads(penstock(gateway, "keys", "create", "key cli", "--tenant", "canary/team", "--json")))
    return {each["id"]: each["key"] for each in keys}


def penstock(gateway, *arguments):
    done = CliRunner().invoke(main, [*arguments, "--config", str(gateway.folder / "penstock.yaml")])
    assert done.exit_code == 0, done.output
    return done.stdout


def accounts(keys):
    """Everything the admin API says, to those who may and those who may not."""
    texts = [ADMIN_KEY, CLIENT_KEY, FOREIGN_KEY, *keys.values()]
    for text, path in itertools.product(texts, ("whoami", "keys", "teams", *(f"keys/{ident}" for ident in keys))):
        yield GET.format(f"/admin/{path}", f"authorization: Bearer {text}\r\n").encode()


def exports(gateway, keys):
    """Everything the command line says."""
    ident = next(iter(keys))
    yield penstock(gateway, "keys", "list", "--json")
    yield penstock(gateway, "keys", "show", ident)
    yield penstock(gateway, "keys", "revoke", ident)
    yield penstock(gateway, "teams", "list")
    yield penstock(gateway, "usage", "--by", "key,model,outcome", "--recent", "1000", "--json")
    for form in ("csv", "jsonl"):
        yield penstock(gateway, "usage", "export", "-", "--format", form)
    for form in ("text", "json", "csv", "html"):
        yield penstock(gateway, "usage", "report", "--by", "key,model", "--format", form)
    shown = CliRunner().invoke(main, ["config", "show", str(gateway.folder / "penstock.yaml"), "--json"])
    assert "admin_key" in shown.output
    yield shown.output


def requests(post):
    """Everything that goes well or wrong."""

    def chat(model, *, key=KEY, **fields):
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": PROMPT}]
        body = json.dumps({"model": model, "messages": messages, **fields}).encode()
        return post(body, key=key, extra=f"x-penstock-metadata: note={METADATA}\r\n")

    for provider, status, stream in itertools.product(("openai", "anthropic", "ollama"), STATUSES, (False, True)):
        yield chat(f"{provider}/m-{status}", stream=stream)
    for model in ("gone/m-200", "proxied/m-200", "both", "unknown/m-200"):
        yield chat(model)
    yield chat("openai/m-200", store=True, metadata={"note": METADATA})
    yield chat("openai/m-200", key=f"authorization: Bearer {FOREIGN_KEY}\r\n")
    yield chat("openai/m-200", temperature="x", stream=7)
    yield chat("openai/m-200", stream_options=PROMPT)
    yield chat("openai/m-200")[:-4]
    yield chat("openai/m-200").replace(b'"messages"', b'"messages')
    yield chat("openai/m-200").replace(b'"model"', b'"model":1,"model"')
    yield chat("openai/m-200").replace(b"host: x", f"host: {FOREIGN_KEY}/{PROMPT}".encode())
    yield chat("openai/m-200").replace(b"host: x", f"x-a:{PROMPT}\x01{FOREIGN_KEY}".encode())
    for path in ("/v1/models", "/health/ready", "/openapi.json", "/metrics"):
        yield GET.format(path, KEY).encode()
    for path in ("/metrics", "/admin/health", "/admin/alerts", "/admin/alerts/history"):
        yield GET.format(path, f"x-api-key: {ADMIN_KEY}\r\n").encode()


def bytes_of_database(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and "penstock.db" in str(path.relative_to(folder))]
    return b"".join(path.read_bytes() for path in files)


@pytest.mark.usefixtures("logging_kept")
def test_no_canary_sings(start_gateway, abused, upstream, tmp_path):
    running = start_gateway(tmp_path, CONFIG.format(url=upstream, **globals()), "--log-level", "debug")
    gateway = type(abused)(running)
    try:
        keys = made_keys(gateway)
        secrets = [*SECRETS, *keys.values()]
        asked = itertools.chain(requests(gateway.post), accounts(keys))
        heard = [(status, f"{headers} {body.decode()}") for status, headers, body in map(gateway.ask, asked)]
        said = list(exports(gateway, keys))
        running.path.write_text(running.path.read_text() + "\nnonsense: true\n")
        time.sleep(1.5)
        stored = bytes_of_database(tmp_path)
    finally:
        assert running.stop() == 0
    log = (tmp_path / "gateway.log").read_text()
    stored += bytes_of_database(tmp_path)
    assert {status for status, _ in heard} >= {200, 400, 401, 404, 408, 429, 502}
    assert sum(ANSWER in text for status, text in heard if status == 200) >= 3, "the control: texts do arrive"
    assert "nonsense" in log, "the control: the log is written"
    assert ANSWER.encode() in stored, "the control: the database is"

    assert all(any(ident in text for text in said) for ident in keys), "the control: keys are listed"
    assert "key.create" in log, "the control: changes are logged"
    shown = [json.dumps(running.banner), log, *said, *(text for _, text in heard)]
    for secret in secrets:
        assert not [text for text in shown if secret in text], secret
        assert secret.encode() not in stored, secret
    metrics = next(text for _, text in heard if "penstock_requests_total" in text)
    # A provider's words about a client's own request are that client's to see; Penstock's own repeat nothing.
    own = [text for status, text in heard if status >= 400 and "echoed" not in text]
    assert len(own) >= 10
    for text in TEXTS:
        assert not [where for where in (log, metrics, *own) if text in where], text
    for text in (PROMPT, SYSTEM, ANSWER):
        assert not [where for where in said if text in where], text
