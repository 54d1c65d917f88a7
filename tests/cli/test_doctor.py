import http.server
import json
import os
import socket
import sqlite3
import threading
from email.utils import formatdate

import pytest
from click.testing import CliRunner

from penstock.cli import doctor, main
from penstock.cli.reaching import Reached

NOW = doctor.RELEASED_AT + 1000


class Upstream(http.server.BaseHTTPRequestHandler):
    """Lists models for the key sk-good."""

    def do_GET(self):
        if self.path.startswith("/redirect"):
            self.answer(302, b"", location="http://127.0.0.1:9/")
        elif self.path.startswith("/broken"):
            self.answer(503, b"")
        elif self.path == "/api/tags":
            self.answer(200, json.dumps({"models": [{"name": "llama3.2:latest"}]}).encode())
        elif self.path == "/health/live":
            self.answer(200, b"{}")
        elif self.headers.get("authorization") == "Bearer sk-good" or self.headers.get("x-api-key") == "sk-good":
            self.answer(200, json.dumps({"data": [{"id": "gpt-4o-mini"}]}).encode())
        else:
            self.answer(401, b"")

    def answer(self, status, body, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def upstream():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def examine(tmp_path, monkeypatch):
    """Runs the doctor on a configuration; returns the exit code and the findings by check."""
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def run(text, *arguments):
        (tmp_path / "penstock.yaml").write_text(text if "server" in text else "server: {port: 0}\n" + text)
        result = CliRunner().invoke(main, ["doctor", "--json", *arguments])
        findings = json.loads(result.stdout)
        return result.exit_code, {finding["check"]: finding for finding in findings}

    return run


def test_a_simulated_gateway_is_fine(examine):
    code, found = examine("providers: [{name: sim, kind: simulated}]")
    assert code == 0
    assert {found[name]["status"] for name in ("python", "configuration", "address", "store", "provider sim")} == {"ok"}
    assert not os.path.exists("penstock.db")


def test_each_line_says_how_to_mend_it(examine, free_port):
    code, found = examine(f"providers: [{{name: near, kind: ollama, base_url: 'http://127.0.0.1:{free_port}'}}]")
    assert code == 1
    assert found["provider near"]["status"] == "fail"
    assert "does not answer" in found["provider near"]["detail"]
    assert found["provider near"]["mend"]


def test_a_configuration_that_does_not_load_is_a_failure_not_a_crash(examine):
    code, found = examine("levl: high\ntimeout_s: -1")
    assert code == 1
    assert found["configuration"]["status"] == "fail"
    assert "provider" not in " ".join(found)


def test_providers_are_asked_with_their_key(examine, upstream):
    code, found = examine(
        "providers:\n"
        f"- {{name: good, kind: openai, base_url: '{upstream}/v1', api_key: sk-good}}\n"
        f"- {{name: claude, kind: anthropic, base_url: '{upstream}', api_key: sk-good}}\n"
        f"- {{name: wrong, kind: openai, base_url: '{upstream}/v1', api_key: sk-bad}}\n"
        f"- {{name: near, kind: ollama, base_url: '{upstream}'}}\n"
        f"- {{name: ill, kind: vllm, base_url: '{upstream}/broken'}}\n"
        f"- {{name: moved, kind: vllm, base_url: '{upstream}/redirect', api_key: sk-good}}\n"
        "models:\n"
        "- {name: a, targets: [{provider: good, model: gpt-4o-mini}, {provider: near, model: llama3.2}]}\n"
        "- {name: b, targets: [{provider: near, model: 'qwen:1b'}, {provider: claude, model: claude-x}]}\n"
        "- {name: c, cascade: {stages: [near/phi-9, a]}}\n"
    )
    statuses = {name.removeprefix("provider "): finding["status"] for name, finding in found.items()}
    assert code == 1
    assert statuses["good"] == "ok"
    assert (statuses["claude"], statuses["near"], statuses["ill"]) == ("warn", "warn", "warn")
    assert statuses["wrong"] == "fail"
    assert "refuses the key (401)" in found["provider wrong"]["detail"]
    assert found["provider near"]["mend"] == "ollama pull qwen:1b"
    assert found["provider near"]["detail"].endswith("qwen:1b, phi-9")
    assert "claude-x" in found["provider claude"]["detail"]
    assert "sk-" not in json.dumps(found)


def test_a_missing_key_is_a_warning(examine):
    code, found = examine(
        "providers: [{name: openai, kind: openai}, {name: sim, kind: simulated}]\n"
        "models: [{name: a, targets: [{provider: openai}, {provider: sim}]}]"
    )
    assert code == 0
    assert found["provider openai"]["status"] == "warn"
    assert "OPENAI_API_KEY" in found["provider openai"]["mend"]


def test_a_port_in_use_is_a_failure_unless_a_gateway_uses_it(examine, upstream):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        threading.Thread(target=lambda: other.accept()[0].close(), daemon=True).start()
        code, found = examine(f"server: {{port: {port}}}")
    assert (code, found["address"]["status"]) == (1, "fail")
    assert f"127.0.0.1:{port} is in use" in found["address"]["detail"]
    code, found = examine(f"server: {{port: {upstream.rpartition(':')[2]}}}")
    assert (code, found["address"]["status"]) == (0, "ok")


def test_an_open_address_without_keys_is_a_failure(examine):
    code, found = examine("server: {host: 0.0.0.0, port: 0}")
    assert (code, found["address"]["status"]) == (1, "fail")
    code, found = examine("server: {host: 0.0.0.0, port: 0, keys: [{key: k}]}")
    assert (code, found["address"]["status"]) == (0, "ok")


def test_an_address_of_another_machine_is_a_failure(examine):
    code, found = examine("server: {host: 192.0.2.1, port: 0, keys: [{key: k}]}")
    assert (code, found["address"]["status"]) == (1, "fail")


@pytest.mark.parametrize(
    ("workers", "store", "status", "said"),
    [
        (1, "memory:", None, ""),
        (2, "memory:", "fail", "each one's own"),
        (256, "sqlite:///{}/penstock.db", "warn", "256 on"),
    ],
)
def test_several_workers_are_checked(examine, tmp_path, workers, store, status, said):
    code, found = examine(
        f"server: {{port: 0, workers: {workers}}}\nstore: {{url: '{store.format(tmp_path)}'}}\n"
        "providers: [{name: sim, kind: simulated}]"
    )
    assert code == (1 if status == "fail" else 0)
    assert found.get("workers", {}).get("status") == status
    assert said in found.get("workers", {}).get("detail", "")


def test_the_store_is_checked_without_changing_it(examine, tmp_path):
    with sqlite3.connect(tmp_path / "penstock.db") as database:
        database.execute("create table t (x)")
    database.close()
    assert examine("store: {url: 'sqlite:///penstock.db'}")[1]["store"]["status"] == "ok"

    database = sqlite3.connect(tmp_path / "penstock.db", isolation_level=None)
    database.execute("begin immediate")
    assert examine("store: {url: 'sqlite:///penstock.db'}")[1]["store"]["status"] == "warn"
    database.close()

    (tmp_path / "penstock.db").write_bytes(b"not a database, but long enough to be taken for one" * 50)
    assert examine("store: {url: 'sqlite:///penstock.db'}")[1]["store"]["status"] == "fail"
    assert examine("store: {url: 'sqlite:///no/where.db'}")[1]["store"]["status"] == "fail"
    assert examine("store: {url: 'memory:'}")[1]["store"]["status"] == "warn"


@pytest.mark.parametrize(
    ("dates", "now", "status"),
    [
        ([], NOW, "ok"),
        ([], 0.0, "fail"),
        ([NOW - 5], NOW, "ok"),
        ([NOW + 3600], NOW, "warn"),
        ([NOW - 3600], NOW, "warn"),
    ],
)
def test_the_clock_is_compared_with_the_providers(dates, now, status):
    reached = [Reached(200, date=formatdate(date, usegmt=True)) for date in dates]
    assert doctor.check_clock([*reached, Reached(), Reached(200, date="rubbish")], now).status == status


def test_it_prints_a_table_for_people(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "penstock.yaml").write_text("server: {port: 0}\nproviders: [{name: sim, kind: simulated}]")
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].split() == ["status", "check", "detail", "mend"]
