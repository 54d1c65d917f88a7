"""Several workers on one address."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

CONFIG = """\
providers: [{{name: sim, kind: simulated, latency: {{first_token_s: 0.01, tokens_per_s: 0}}}}]
models: [{{name: fast, targets: [{{provider: sim, model: first}}]}}]
server: {{drain_s: 10, admin_key: sk-the-root-of-all-keys}}
prompts:
  built_in:
    greet:
      labels: {{production: 2}}
      model: fast
      versions: {{1: {{user: "Hello."}}, 2: {{user: "Welcome."}}}}
store: {{url: "sqlite:///{folder}/penstock.db"}}
"""
TWO = ("--workers", "2")
KEY = "sk-the-root-of-all-keys"


class Asked:
    """One request on a connection of its own."""

    def __init__(self, gateway, text: str, model: str = "fast", *, stream: bool = False, key: str = KEY):
        address = urlsplit(gateway.url)
        self.connection = http.client.HTTPConnection(address.hostname, address.port, timeout=20)
        body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream}
        headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
        self.connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)

    def __enter__(self) -> http.client.HTTPResponse:
        try:
            self.reply = self.connection.getresponse()
        except BaseException:
            self.connection.close()
            raise
        return self.reply

    def __exit__(self, *_):
        self.reply.close()
        self.connection.close()


def status(gateway, text: str = "hello", model: str = "fast", key: str = KEY) -> int:
    with Asked(gateway, text, model, key=key) as reply:
        reply.read()
        return reply.status


def call(gateway, path: str, body: object = None, key: str = KEY) -> dict:
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{gateway.url}{path}", data, headers), timeout=20) as reply:
        return json.load(reply)


def metric(gateway, name: str) -> float:
    """Return the sum of a metric's values."""
    asked = urllib.request.Request(f"{gateway.url}/metrics", headers={"authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(asked, timeout=20) as reply:
        lines = [line for line in reply.read().decode().splitlines() if line.startswith((f"{name}{{", f"{name} "))]
    assert lines, name
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def log(gateway) -> str:
    return (gateway.folder / "gateway.log").read_text()


def began(gateway) -> int:
    """Return how many workers have begun in place of others."""
    return len(re.findall(r"worker \d+ answers", log(gateway)))


def children(process: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{process}/task").iterdir():
        with contextlib.suppress(OSError):
            found += map(int, (task / "children").read_text().split())
    return sorted(found)


def lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(check, seconds: float = 20.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := check():
            return found
        time.sleep(0.02)
    raise AssertionError("did not happen in time")


def on_both(gateway, wanted) -> None:
    """Ask on new connections until the kernel has surely led to both workers."""
    assert {wanted(number) for number in range(24)} == {True}


@pytest.fixture(scope="module")
def two(start_gateway, tmp_path_factory):
    running = start_gateway(tmp_path_factory.mktemp("two"), CONFIG, *TWO)
    yield running
    assert running.stop() == 0


def test_both_answer_when_it_says_so(two):
    assert two.banner["workers"] == 2
    assert len(children(two.process.pid)) == 2
    assert call(two, "/health/ready")["status"] == "ready"
    on_both(two, lambda number: status(two, f"first {number}") == 200)


def test_metrics_are_of_both(two):
    assert metric(two, "penstock_worker_up") == 2
    before = metric(two, "penstock_requests_total")
    on_both(two, lambda number: status(two, f"counted {number}") == 200)
    for _ in range(4):
        assert metric(two, "penstock_requests_total") == before + 24
    assert metric(two, "penstock_client_connections") >= 1


def test_what_is_cleared_is_gone_in_both(two):
    def cached(number: int) -> bool:
        with Asked(two, "to be cleared") as reply:
            reply.read()
            return "; hit" in reply.headers["cache-status"]

    for _ in range(4):
        for number in range(16):
            cached(number)
        assert cached(0)
        assert [part["worker"] for part in call(two, "/admin/cache/stats")["workers"]] == [1, 2]
        assert call(two, "/admin/cache/clear", {})["answers"] >= 1
        assert not cached(0)
    call(two, "/admin/cache/clear", {})
    found = call(two, "/admin/cache/stats")
    assert (found["answers"], found["models"]) == (0, [])
    assert found["exact"]["hits"] == sum(part["exact"]["hits"] for part in found["workers"])


def test_nothing_is_cleared_by_half(two):
    """A worker that begins would have what the others cannot know of."""
    earlier = began(two)
    os.kill(children(two.process.pid)[1], signal.SIGKILL)

    def noticed() -> bool:
        with contextlib.suppress(OSError):  # a connection may have been the dying one's
            return metric(two, "penstock_worker_up") == 1
        return False

    until(noticed)
    with pytest.raises(urllib.error.HTTPError) as refused:
        call(two, "/admin/cache/clear", {})
    with refused.value as reply:
        assert (reply.code, json.load(reply)["error"]["code"]) == (503, "worker_gone")
    until(lambda: began(two) > earlier)
    assert call(two, "/admin/cache/clear", {})["object"] == "cache.cleared"


def test_answers_of_both_are_listed_once(two):
    for number in range(16):
        status(two, f"listed {number}")
    found = [entry["key"] for entry in call(two, "/admin/cache/entries?limit=1000")["data"]]
    assert len(found) == len(set(found)) == 16
    assert len(call(two, "/admin/cache/entries?limit=5")["data"]) == 5


def test_answers_of_both_are_exported_once(two):
    asked = urllib.request.Request(f"{two.url}/admin/cache/export", headers={"authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(asked, timeout=20) as reply:
        head, *answers = map(json.loads, reply.read().splitlines())
    assert head["format"] == "penstock-cache"
    listed = {entry["key"] for entry in call(two, "/admin/cache/entries?limit=1000")["data"]}
    assert len(answers) == len(listed)
    assert {answer["key"] for answer in answers} == listed


def test_a_key_is_known_and_ended_in_both_when_it_is_said_so(two):
    call(two, "/admin/teams", {"tenant": "acme"})
    for _ in range(3):
        made = call(two, "/admin/keys", {"name": "mine", "tenant": "acme"})
        assert {status(two, "with a key", key=made["key"]) for _ in range(8)} == {200}
        with pytest.raises(urllib.error.HTTPError) as refused:
            call(two, "/admin/cache/clear", {}, key=made["key"])
        assert refused.value.code == 403
        refused.value.close()
        call(two, f"/admin/keys/{made['id']}/revoke", {})
        assert {status(two, "with a key", key=made["key"]) for _ in range(8)} == {401}


def test_a_label_is_rolled_back_in_both(two):
    for version in ("1", "2"):
        call(two, "/admin/templates/greet/rollback", {"to": version})
        on_both(two, lambda _, now=version: call(two, "/admin/templates/greet")["labels"]["production"] == now)


def test_one_that_is_killed_under_requests_is_replaced_and_no_call_is_lost(two):
    before, starts = children(two.process.pid), metric(two, "penstock_worker_starts_total")
    assert status(two, "before the kill") == 200
    counted, earlier = metric(two, "penstock_requests_total"), began(two)
    answered: list[str] = []
    stop = threading.Event()

    def work(me: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            with (
                contextlib.suppress(OSError, http.client.HTTPException),
                Asked(two, f"killed {me} {number}") as reply,
            ):
                reply.read()
                if reply.status == 200:
                    answered.append(reply.headers["x-request-id"])

    threads = [threading.Thread(target=work, args=(me,)) for me in range(3)]
    for each in threads:
        each.start()
    until(lambda: len(answered) > 20)
    os.kill(before[0], signal.SIGKILL)
    at_the_time = len(answered)
    until(lambda: len(answered) > at_the_time + 20)
    until(lambda: began(two) > earlier)
    stop.set()
    for each in threads:
        each.join()
    after = children(two.process.pid)
    assert len(after) == 2
    assert before[1] in after
    assert before[0] not in after
    assert "(killed by signal 9)" in log(two)
    assert metric(two, "penstock_worker_starts_total") == starts + 1
    assert metric(two, "penstock_requests_total") >= counted

    def recorded() -> bool:
        with contextlib.closing(sqlite3.connect(two.folder / "penstock.db")) as database:
            rows = database.execute("select request_id from calls where outcome = 'ok'")
            return set(answered) <= {row[0] for row in rows}

    until(recorded)


def test_a_good_configuration_is_taken_by_all_and_a_bad_one_by_none(two):
    good = two.path.read_text()
    two.path.write_text(good.replace("name: fast", "name: quick"))
    two.process.send_signal(signal.SIGHUP)
    until(lambda: "configuration reloaded" in log(two))
    on_both(two, lambda number: (status(two, model="quick"), status(two, model="fast")) == (200, 404))
    for bad in ("models: [nonsense", good.replace("store:", "store: {{url: 'sqlite:///other.db'}}\nxx:")[:-1]):
        refused = log(two).count("keeps serving")
        two.path.write_text(bad)
        two.process.send_signal(signal.SIGHUP)
        until(lambda: log(two).count("keeps serving") > refused)  # noqa: B023 called at once
        on_both(two, lambda number: status(two, model="quick") == 200)
    reloads = log(two).count("configuration reloaded")
    two.path.write_text(good)
    two.process.send_signal(signal.SIGHUP)
    until(lambda: log(two).count("configuration reloaded") > reloads)
    on_both(two, lambda number: status(two) == 200)


def test_a_worker_that_begins_later_has_the_configuration_that_is_in_force(two):
    """Not what the file says by then, which was refused."""
    good = two.path.read_text()
    refused = log(two).count("keeps serving")
    two.path.write_text("models: [nonsense")
    until(lambda: log(two).count("keeps serving") > refused)
    earlier = began(two)
    os.kill(children(two.process.pid)[0], signal.SIGKILL)
    until(lambda: began(two) > earlier)
    on_both(two, lambda number: status(two) == 200)
    two.path.write_text(good)


def test_the_address_is_nobody_elses(two):
    port = urlsplit(two.url).port
    for workers in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "penstock", "serve", "--config", two.path, "--port", str(port),
             "--workers", workers],
            capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        assert done.returncode == 2
        assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in done.stderr
        assert done.stdout == ""


def test_an_address_that_another_program_shares_is_in_use(tmp_path):
    (tmp_path / "penstock.yaml").write_text(CONFIG.format(folder=tmp_path))
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        done = subprocess.run(
            [sys.executable, "-m", "penstock", "serve", "--port", str(other.getsockname()[1]), *TWO],
            capture_output=True, text=True, timeout=30, cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 2
    assert "Address already in use" in done.stderr


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_streams_of_all_end(make_gateway, how):
    gateway = make_gateway(CONFIG.replace("tokens_per_s: 0", "tokens_per_s: 40"), *TWO)
    workers = children(gateway.process.pid)
    with contextlib.ExitStack() as open_:
        streams = [open_.enter_context(Asked(gateway, f"a long story {number}", stream=True)) for number in range(6)]
        heads = [stream.read(10) for stream in streams]
        for process in (*workers, gateway.process.pid):
            os.kill(process, how)  # a terminal, and a service manager, may tell them all
        for head, stream in zip(heads, streams, strict=True):
            assert (head + stream.read()).rstrip().endswith(b"data: [DONE]")
    assert gateway.process.wait(timeout=20) == 0
    assert not any(map(lives, workers))
    assert "supervisor is gone" not in log(gateway)


def test_a_second_signal_ends_all_at_once(make_gateway):
    gateway = make_gateway(CONFIG.replace("tokens_per_s: 0", "tokens_per_s: 2"), *TWO)
    with Asked(gateway, "a long story", stream=True) as stream:
        stream.readline()
        gateway.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert gateway.process.poll() is None
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(timeout=5) == 0


def test_no_worker_outlives_its_supervisor(make_gateway, tmp_path):
    gateway = make_gateway(CONFIG, *TWO, environment={"TMPDIR": str(tmp_path)})
    workers = children(gateway.process.pid)
    assert list(tmp_path.glob("penstock-*"))
    gateway.process.kill()
    until(lambda: not any(map(lives, workers)))
    assert "the supervisor is gone" in log(gateway)
    assert not list(tmp_path.glob("penstock-*"))
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((urlsplit(gateway.url).hostname, urlsplit(gateway.url).port)).close()


@pytest.mark.parametrize(
    ("config", "code", "said"),
    [
        (CONFIG.replace("sqlite:///{folder}/penstock.db", "memory:"), 2, "memory: is each one's own"),
        (CONFIG.replace("penstock.db", "no/such/folder.db"), 1, "folder.db"),
    ],
)
def test_what_no_worker_can_begin_with_ends_all(tmp_path, config, code, said):
    (tmp_path / "penstock.yaml").write_text(config.format(folder=tmp_path))
    done = subprocess.run(
        [sys.executable, "-m", "penstock", "serve", "--port", "0", *TWO],
        capture_output=True, text=True, timeout=30, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_workers_that_die_at_the_start_end_all(tmp_path):
    (tmp_path / "penstock.yaml").write_text(CONFIG.format(folder=tmp_path))
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nif '-c' in sys.orig_argv and 'server.worker' in sys.orig_argv[-1]: os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "penstock", "serve", "--port", "0", *TWO],
        capture_output=True, text=True, timeout=30, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 1
    assert "ended 3 times before all had begun (killed by signal 9)" in done.stderr
    assert done.stdout == ""
