"""Start, reload, drain, stop and crash of a running gateway."""

import contextlib
import http.client
import json
import os
import signal
import sqlite3
import threading
import time
import urllib.request
from urllib.parse import urlsplit

import pytest

SLOW = """\
providers:
  - {{name: sim, kind: simulated, latency: {{first_token_s: 0.3, tokens_per_s: 40}}}}
models:
  - {{name: fast, targets: [{{provider: sim, model: first}}]}}
store: {{url: "sqlite:///{folder}/penstock.db"}}
"""


class Asked:
    """One request on a connection of its own."""

    def __init__(self, url: str, text: str, *, stream: bool = False, model: str = "fast"):
        address = urlsplit(url)
        self.connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
        body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream}
        self.connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})

    def __enter__(self):
        self.reply = self.connection.getresponse()
        return self.reply

    def __exit__(self, *_):
        self.reply.close()
        self.connection.close()


def ask(url: str, text: str, **more) -> tuple[int, str, dict]:
    with Asked(url, text, **more) as reply:
        return reply.status, reply.headers.get("cache-status", ""), json.load(reply)


def get(url: str) -> tuple[int, dict]:
    with urllib.request.urlopen(url, timeout=10) as reply:
        return reply.status, json.load(reply)


def until(check, seconds: float = 10.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := check():
            return found
        time.sleep(0.05)
    raise AssertionError("did not happen in time")


def test_health_metrics_and_description(make_gateway):
    gateway = make_gateway(SLOW)
    assert get(f"{gateway.url}/health/live")[0] == 200
    assert get(f"{gateway.url}/health/ready")[1]["status"] == "ready"
    ask(gateway.url, "counted")
    with urllib.request.urlopen(f"{gateway.url}/metrics", timeout=10) as reply:
        page = reply.read().decode()
    assert 'penstock_requests_total{cache="miss",model="fast",operation="chat",outcome="ok"} 1.0' in page
    assert get(f"{gateway.url}/openapi.json")[1]["openapi"].startswith("3.1")


def test_sigterm_lets_a_stream_end_and_exits_with_zero(make_gateway):
    gateway = make_gateway(SLOW)
    with Asked(gateway.url, "a long story", stream=True) as reply:
        assert reply.read(10)
        gateway.process.send_signal(signal.SIGTERM)
        rest = reply.read().decode()
    assert rest.rstrip().endswith("data: [DONE]")
    assert gateway.process.wait(timeout=20) == 0


def test_sigterm_turns_readiness_off(make_gateway):
    gateway = make_gateway(SLOW)
    address = urlsplit(gateway.url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
    connection.connect()
    with Asked(gateway.url, "a long story", stream=True) as reply:
        reply.read(10)
        gateway.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        try:
            connection.request("GET", "/health/ready")
            assert connection.getresponse().status == 503
        except OSError:
            pass  # refusing the connection says the same
        finally:
            connection.close()
        reply.read()


@pytest.mark.parametrize("how", ["signal", "change"])
def test_reload(make_gateway, how):
    gateway = make_gateway(SLOW)
    with Asked(gateway.url, "started before", stream=True) as running:
        running.read(1)
        gateway.path.write_text(gateway.path.read_text().replace("name: fast", "name: quick"))
        if how == "signal":
            gateway.process.send_signal(signal.SIGHUP)
        until(lambda: ask(gateway.url, "hello", model="quick")[0] == 200)
        assert ask(gateway.url, "hello", model="fast")[0] == 404
        assert running.read().decode().rstrip().endswith("data: [DONE]")


def test_a_bad_file_keeps_the_old_configuration(make_gateway):
    gateway = make_gateway(SLOW)
    gateway.path.write_text("models: [nonsense")
    gateway.process.send_signal(signal.SIGHUP)
    until(lambda: "keeps serving" in (gateway.folder / "gateway.log").read_text())
    assert ask(gateway.url, "still here")[0] == 200


def test_reload_under_load_drops_nothing(make_gateway):
    gateway = make_gateway(SLOW.replace("first_token_s: 0.3, tokens_per_s: 40", "first_token_s: 0.01, tokens_per_s: 0"))
    statuses: list[int] = []
    stop = threading.Event()

    def work(number: int) -> None:
        while not stop.is_set():
            statuses.append(ask(gateway.url, f"{number} {len(statuses)}")[0])

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for _ in range(10):
        time.sleep(0.1)
        gateway.process.send_signal(signal.SIGHUP)
    stop.set()
    for worker in workers:
        worker.join()
    assert len(statuses) > 100
    assert set(statuses) == {200}


def test_what_was_paid_for_survives_a_restart(make_gateway):
    first = make_gateway(SLOW)
    _, _, before = ask(first.url, "keep this")
    first.stop()
    second = make_gateway(SLOW.replace("{folder}", str(first.folder).replace("{", "{{")))
    _, cache, after = ask(second.url, "keep this")
    assert "; hit" in cache
    assert after["choices"] == before["choices"]


def test_records_survive_kill_9(make_gateway):
    gateway = make_gateway(SLOW.replace("tokens_per_s: 40", "tokens_per_s: 0"))
    for number in range(5):
        ask(gateway.url, f"question {number}")
    time.sleep(0.5)
    os.kill(gateway.process.pid, signal.SIGKILL)
    gateway.process.wait()
    with contextlib.closing(sqlite3.connect(gateway.folder / "penstock.db")) as database:
        assert database.execute("select count(*) from calls where outcome = 'ok'").fetchone() == (5,)
        assert database.execute("select count(*) from attempts").fetchone() == (5,)


def test_a_client_that_hangs_up_ends_the_upstream_call(make_gateway):
    gateway = make_gateway(SLOW)
    asked = Asked(gateway.url, "too slow for me")
    time.sleep(0.15)
    asked.connection.close()

    def recorded():
        with urllib.request.urlopen(f"{gateway.url}/metrics", timeout=10) as reply:
            return 'outcome="client_closed"' in reply.read().decode()

    until(recorded, 3)
