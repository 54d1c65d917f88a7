"""Start, reload, drain, stop and crash of a running gateway."""

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


def ask(url: str, text: str, *, stream: bool = False, model: str = "fast", **fields):
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
    body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream, **fields}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
    return connection.getresponse()


def get(url: str) -> tuple[int, dict]:
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


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
    ask(gateway.url, "counted").read()
    with urllib.request.urlopen(f"{gateway.url}/metrics", timeout=10) as reply:
        page = reply.read().decode()
    assert 'penstock_requests_total{cache="miss",model="fast",operation="chat",outcome="ok"} 1.0' in page
    assert get(f"{gateway.url}/openapi.json")[1]["openapi"].startswith("3.1")


def test_sigterm_lets_a_stream_end_and_exits_with_zero(make_gateway):
    gateway = make_gateway(SLOW)
    reply = ask(gateway.url, "a long story", stream=True)
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
    reply = ask(gateway.url, "a long story", stream=True)
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
    running = ask(gateway.url, "started before", stream=True)
    running.read(1)
    gateway.path.write_text(gateway.path.read_text().replace("name: fast", "name: quick"))
    if how == "signal":
        gateway.process.send_signal(signal.SIGHUP)
    until(lambda: ask(gateway.url, "hello", model="quick").status == 200)
    assert ask(gateway.url, "hello", model="fast").status == 404
    assert running.read().decode().rstrip().endswith("data: [DONE]")


def test_a_bad_file_keeps_the_old_configuration(make_gateway):
    gateway = make_gateway(SLOW)
    gateway.path.write_text("models: [nonsense")
    gateway.process.send_signal(signal.SIGHUP)
    until(lambda: "keeps serving" in (gateway.folder / "gateway.log").read_text())
    assert ask(gateway.url, "still here").status == 200


def test_reload_under_load_drops_nothing(make_gateway):
    gateway = make_gateway(SLOW.replace("first_token_s: 0.3, tokens_per_s: 40", "first_token_s: 0.01, tokens_per_s: 0"))
    statuses: list[int] = []
    stop = threading.Event()

    def work(number: int) -> None:
        while not stop.is_set():
            reply = ask(gateway.url, f"{number} {len(statuses)}")
            reply.read()
            statuses.append(reply.status)

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
    text = json.load(ask(first.url, "keep this"))["choices"]
    first.stop()
    second = make_gateway(SLOW.replace("{folder}", str(first.folder).replace("{", "{{")))
    reply = ask(second.url, "keep this")
    assert "; hit" in reply.headers["cache-status"]
    assert json.load(reply)["choices"] == text


def test_records_survive_kill_9(make_gateway):
    gateway = make_gateway(SLOW.replace("tokens_per_s: 40", "tokens_per_s: 0"))
    for number in range(5):
        ask(gateway.url, f"question {number}").read()
    time.sleep(0.5)
    os.kill(gateway.process.pid, signal.SIGKILL)
    gateway.process.wait()
    with sqlite3.connect(gateway.folder / "penstock.db") as database:
        assert database.execute("select count(*) from calls where outcome = 'ok'").fetchone() == (5,)
        assert database.execute("select count(*) from attempts").fetchone() == (5,)
    database.close()


def test_a_client_that_hangs_up_ends_the_upstream_call(make_gateway):
    gateway = make_gateway(SLOW)
    address = urlsplit(gateway.url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
    body = {"model": "fast", "messages": [{"role": "user", "content": "too slow for me"}]}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
    time.sleep(0.15)
    connection.close()

    def recorded():
        with urllib.request.urlopen(f"{gateway.url}/metrics", timeout=10) as reply:
            return 'outcome="client_closed"' in reply.read().decode()

    until(recorded, 3)
