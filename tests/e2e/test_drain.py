"""SIGTERM, and what becomes of whatever is under way."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from urllib.parse import urlsplit

import pytest

from penstock.testing import UpstreamServer, chunks, faults, json_reply, sse_reply

CONFIG = """\
providers: [{{name: sim, kind: simulated, latency: {{first_token_s: 0.05, tokens_per_s: TOKENS}}}}]
models: [{{name: fast, targets: [{{provider: sim, model: first}}]}}]
server: {{drain_s: GRACE, reload: false}}
store: {{url: "sqlite:///{folder}/penstock.db"}}
"""
SLOW = CONFIG.replace("TOKENS", "2")


@pytest.fixture
def connect():
    made: list[http.client.HTTPConnection] = []

    def make(gateway) -> http.client.HTTPConnection:
        address = urlsplit(gateway.url)
        made.append(http.client.HTTPConnection(address.hostname, address.port, timeout=20))
        return made[-1]

    yield make
    for connection in made:
        connection.close()


def post(connection: http.client.HTTPConnection, text: str = "Tell me a long story", *, stream: bool = False):
    body = {"model": "fast", "messages": [{"role": "user", "content": text}], "stream": stream}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})


def terminate(gateway) -> float:
    gateway.process.send_signal(signal.SIGTERM)
    return time.monotonic()


def outcomes(gateway) -> list[str]:
    with contextlib.closing(sqlite3.connect(gateway.folder / "penstock.db")) as database:
        return [row[0] for row in database.execute("select outcome from calls")]


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_longer_than_the_grace_is_told_so(make_gateway, connect, stream):
    gateway = make_gateway(SLOW.replace("GRACE", "1"))
    connection = connect(gateway)
    post(connection, stream=stream)
    time.sleep(0.3)
    since = terminate(gateway)
    reply = connection.getresponse()
    text = reply.read().decode()
    assert gateway.process.wait(timeout=10) == 0
    assert time.monotonic() - since < 5
    if stream:
        frames = [line for line in text.split("\n\n") if line]
        assert json.loads(frames[-1].removeprefix("data: "))["error"]["code"] == "shutting_down"
        assert "[DONE]" not in text
        assert len(frames) > 1
    else:
        assert reply.status == 503
        assert json.loads(text)["error"]["code"] == "shutting_down"
        assert reply.headers["x-should-retry"] == "false"
        assert reply.headers["x-request-id"]
    assert outcomes(gateway) == ["shutting_down"]


async def test_the_upstream_of_a_stream_that_is_cut_off_is_closed(make_gateway):
    config = """\
providers: [{{name: up, kind: openai-compatible, base_url: "ORIGIN/v1"}}]
models: [{{name: fast, targets: [{{provider: up, model: m}}]}}]
server: {{drain_s: 0.5}}
store: {{url: "memory:"}}
"""
    async with UpstreamServer(lambda _: sse_reply(chunks("word " * 200), gap_s=0.2)) as upstream:
        gateway = make_gateway(config.replace("ORIGIN", upstream.origin))
        script = (
            "import sys, urllib.request as u, json\n"
            "body = json.dumps({'model': 'fast', 'stream': True, 'messages': [{'role': 'user', 'content': 'x'}]})\n"
            "reply = u.urlopen(u.Request(sys.argv[1], body.encode(), {'content-type': 'application/json'}))\n"
            "print(reply.readline().decode(), flush=True)\n"
            "print(reply.read().decode())\n"
        )
        client = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, f"{gateway.url}/v1/chat/completions", stdout=subprocess.PIPE
        )
        await client.stdout.readline()
        terminate(gateway)
        rest, _ = await client.communicate()
        assert b"shutting_down" in rest
        assert b"[DONE]" not in rest
        assert await asyncio.to_thread(gateway.process.wait, 10) == 0


async def test_other_routes_that_are_cut_off_say_so_in_the_same_shape(make_gateway, connect):
    config = """\
providers: [{{name: up, kind: openai-compatible, base_url: "ORIGIN/v1"}}]
models: [{{name: fast, targets: [{{provider: up, model: m}}]}}]
server: {{drain_s: 0.3}}
store: {{url: "memory:"}}
"""
    async with UpstreamServer(faults.slow_head(json_reply({}), 10.0)) as upstream:
        gateway = make_gateway(config.replace("ORIGIN", upstream.origin))
        connection = connect(gateway)
        connection.request("GET", "/v1/models", headers={"x-request-id": "req-listing"})
        await upstream.wait_until(lambda: bool(upstream.invoice))
        terminate(gateway)
        reply = await asyncio.to_thread(connection.getresponse)
        error = json.loads(reply.read())["error"]
        assert (reply.status, error["code"], error["type"]) == (503, "shutting_down", "server_error")
        assert reply.headers["x-request-id"] == "req-listing"
        assert reply.headers["content-type"] == "application/json"
        assert await asyncio.to_thread(gateway.process.wait, 10) == 0
    assert "Traceback" not in (gateway.folder / "gateway.log").read_text()


def test_idle_connections_are_closed_and_no_others_accepted(make_gateway, connect):
    gateway = make_gateway(SLOW.replace("GRACE", "3"))
    idle, busy = connect(gateway), connect(gateway)
    idle.request("GET", "/health/live")
    idle.getresponse().read()
    post(busy, stream=True)
    reply = busy.getresponse()
    since = terminate(gateway)
    assert idle.sock.recv(1) == b""
    assert 0.3 < time.monotonic() - since < 2.5, "not at once: a request could be on its way"
    with pytest.raises(OSError, match="refused"):
        connect(gateway).connect()
    reply.read()
    assert gateway.process.wait(timeout=10) == 0


def test_a_connection_in_use_gets_one_more_answer_and_is_closed(make_gateway, connect):
    gateway = make_gateway(CONFIG.replace("TOKENS", "0").replace("GRACE", "5"))
    connections = [connect(gateway) for _ in range(3)]
    for number, connection in enumerate(connections):
        post(connection, f"before {number}")
        assert connection.getresponse().read()
    terminate(gateway)
    time.sleep(0.15)
    for connection, text in zip(connections, ["before 0", "after", None], strict=True):
        if text is None:
            connection.request("GET", "/health/ready")
        else:
            post(connection, text)
        reply = connection.getresponse()
        body = json.loads(reply.read())
        assert reply.status == (503 if text is None else 200)
        assert reply.headers["connection"] == "close"
        if text is None:
            assert body["status"] == "not ready"
            assert set(body["error"]) == {"message", "type", "param", "code"}
            assert reply.headers["x-request-id"]
    assert gateway.process.wait(timeout=10) == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(make_gateway, connect, second):
    gateway = make_gateway(SLOW.replace("GRACE", "30"))
    connection = connect(gateway)
    post(connection, stream=True)
    connection.getresponse().readline()
    terminate(gateway)
    time.sleep(0.4)
    assert gateway.process.poll() is None
    since = time.monotonic()
    gateway.process.send_signal(second)
    gateway.process.wait(timeout=10)
    assert time.monotonic() - since < 3


def test_reload_changes_the_grace_and_names_what_needs_a_restart(make_gateway, connect):
    gateway = make_gateway(SLOW.replace("GRACE", "30"))
    text = gateway.path.read_text()
    gateway.path.write_text(
        text.replace("drain_s: 30", "drain_s: 0.5, host: localhost, port: 9").replace("reload: false", "reload: true")
    )
    gateway.process.send_signal(signal.SIGHUP)
    end = time.monotonic() + 10
    while "configuration reloaded" not in (log := (gateway.folder / "gateway.log").read_text()):
        assert time.monotonic() < end, log
        time.sleep(0.05)
    time.sleep(0.1)
    log = (gateway.folder / "gateway.log").read_text()
    assert "server.host was changed" in log
    assert "server.reload was changed" in log
    assert "server.port was changed" not in log, "an argument, which holds"
    connection = connect(gateway)
    post(connection, stream=True)
    connection.getresponse().readline()
    since = terminate(gateway)
    assert gateway.process.wait(timeout=10) == 0
    assert time.monotonic() - since < 5


def test_clients_that_connected_before_the_end_are_answered(make_gateway):
    """They are in the listening socket's queue when it closes."""
    gateway = make_gateway(CONFIG.replace("TOKENS", "0").replace("GRACE", "5"))
    address = urlsplit(gateway.url)
    os.kill(gateway.process.pid, signal.SIGSTOP)
    waiting = [socket.create_connection((address.hostname, address.port)) for _ in range(20)]
    for each in waiting:
        each.sendall(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
    gateway.process.send_signal(signal.SIGTERM)
    os.kill(gateway.process.pid, signal.SIGCONT)
    for each in waiting:
        with each:
            assert each.makefile("rb").readline() == b"HTTP/1.1 200 OK\r\n"
    assert gateway.process.wait(timeout=10) == 0


ROWS = 20_000


def fill(path) -> None:
    """Make the store as large as one that has been used."""
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("create temp table numbers as with recursive c(n) as "
                         f"(select 1 union all select n + 1 from c where n < {ROWS}) select n from c")  # fmt: skip
        names = {
            table: [row[1] for row in database.execute(f"pragma table_info({table})")] for table in ("calls", "answers")
        }
        others = ", ".join(f'"{name}"' for name in names["calls"] if name not in ("id", "request_id"))
        database.execute(f"insert into calls (id, request_id, {others}) select id + n, request_id || n, {others} "
                         "from calls, numbers where id = (select min(id) from calls)")  # fmt: skip
        others = ", ".join(f'"{name}"' for name in names["answers"] if name != "key")
        database.execute(f"insert into answers (key, {others}) select randomblob(32), {others} "
                         "from (select * from answers limit 1), numbers")  # fmt: skip


def test_a_start_after_kill_9_is_quick_and_has_everything(make_gateway, connect):
    config = CONFIG.replace("TOKENS", "0").replace("GRACE", "1")
    before = make_gateway(config)
    connection = connect(before)
    post(connection, "the first")
    connection.getresponse().read()
    assert before.stop() == 0
    fill(before.folder / "penstock.db")
    config = config.replace("{folder}", str(before.folder))
    first = make_gateway(config)
    connection, kept = connect(first), []
    for number in range(50):
        post(connection, f"kept {number}")
        kept.append(json.loads(connection.getresponse().read())["choices"])
    time.sleep(1)  # written at most this late
    post(connection, "in the midst of it", stream=True)
    first.process.kill()
    first.process.wait()

    since = time.monotonic()
    second = make_gateway(config)
    connection = connect(second)
    for number, choices in enumerate(kept):
        post(connection, f"kept {number}")
        reply = connection.getresponse()
        assert json.loads(reply.read())["choices"] == choices
        assert "; hit" in reply.headers["cache-status"]
        if number == 0:
            took_s = time.monotonic() - since
            assert took_s < 15, "a second or so, were the machine idle"
    assert second.stop() == 0
    with contextlib.closing(sqlite3.connect(before.folder / "penstock.db")) as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
    assert outcomes(before).count("ok") >= ROWS + 1 + 50 + 50
