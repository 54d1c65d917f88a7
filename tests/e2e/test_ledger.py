"""What is in the ledger after a gateway was killed, and what happens when nothing can be written down."""

import asyncio
import json
import os
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from penstock.testing import UpstreamServer, answer, json_reply

QUESTION = {"model": "m", "messages": [{"role": "user", "content": "Why?"}], "max_tokens": 40}


def rows(gateway, columns):
    connection = sqlite3.connect(gateway.folder / "penstock.db")
    found = connection.execute(f"SELECT {columns} FROM calls").fetchall()
    connection.close()
    return found


@pytest.fixture
def again(start_gateway):
    """Start a gateway where another one was killed."""
    started = []

    def again(gateway):
        assert gateway.process.wait(30) == -signal.SIGKILL
        gateway.stop()
        started.append(start_gateway(gateway.folder, gateway.path.read_text().replace("{", "{{").replace("}", "}}")))
        return started[-1]

    yield again
    for gateway in started:
        gateway.stop()


def recovered(gateway):
    page = httpx.get(f"{gateway.url}/metrics").text.splitlines()
    found = {line.partition('"')[2].partition('"')[0]: line.rpartition(" ")[2] for line in page if "recovered{" in line}
    return float(found["settled"]), float(found["interrupted"])


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_was_read_is_in_the_ledger_though_the_process_was_killed_before_the_database_had_it(
    make_gateway, again, stream
):
    gateway = make_gateway(environment={"PENSTOCK_FAILPOINT": "ledger-insert.before:1"})
    reply = httpx.post(f"{gateway.url}/v1/chat/completions", json={**QUESTION, "stream": stream})
    assert reply.status_code == 200
    assert ("[DONE]" in reply.text) is stream
    second = again(gateway)
    ((name, outcome, tokens, source),) = rows(second, "request_id, outcome, output_tokens, usage_source")
    assert (name, outcome, source) == (reply.headers["x-request-id"], "ok", "provider")
    assert tokens > 0
    assert recovered(second) == (1, 0)


def test_a_call_that_was_running_when_the_process_was_killed_is_there_as_an_estimate(make_gateway, again):
    gateway = make_gateway(environment={"PENSTOCK_FAILPOINT": "spool-append.after:1"})
    with pytest.raises(httpx.TransportError):
        httpx.post(f"{gateway.url}/v1/chat/completions", json=QUESTION, headers={"x-request-id": "mine"})
    second = again(gateway)
    found = rows(second, "request_id, outcome, usage_source, input_tokens > 0, output_tokens, provider")
    assert found == [("mine", "interrupted", "estimate", 1, 40, "sim")]
    assert recovered(second) == (0, 1)
    assert "1 that were running" in (second.folder / "gateway.log").read_text()


CONFIG = """\
providers:
  - {{name: one, kind: openai-compatible, base_url: "{origin}/v1"}}
  - {{name: two, kind: openai-compatible, base_url: "{origin}/v1"}}
models: [{{name: m, targets: [{{provider: one, model: m}}, {{provider: two, model: m}}]}}]
cache: {{exact: {{enabled: false}}}}
store: {{url: "sqlite:///{folder}/small/penstock.db"}}
"""


@pytest.fixture
def small_disk(tmp_path):
    """A command prefix that runs something with a file system of 8 MiB in `small`."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        if os.environ.get("CI") == "true":
            pytest.fail("unshare -rm does not work here")
        pytest.skip("unshare -rm does not work here")
    (tmp_path / "small").mkdir()
    return f"mount -t tmpfs -o size=8m none {shlex.quote(str(tmp_path / 'small'))} && exec "


async def test_with_a_full_disk_nothing_is_sent_until_there_is_room_again(small_disk, tmp_path):
    async with UpstreamServer(json_reply(answer("Well."))) as upstream, httpx.AsyncClient(timeout=30) as client:
        config = tmp_path / "penstock.yaml"
        config.write_text(CONFIG.format(origin=upstream.origin, folder=tmp_path))
        command = [sys.executable, "-m", "penstock", "serve", "--config", str(config), "--port", "0", "--json"]
        process = await asyncio.create_subprocess_exec(
            "unshare", "-rm", "sh", "-c", small_disk + shlex.join(command),
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            url = json.loads(await process.stdout.readline())["url"]
            filler = Path(f"/proc/{process.pid}/root{tmp_path}/small/filler")
            await check_full_disk(client, url, upstream, filler)
        finally:
            process.terminate()
            await process.wait()


def fill(path):
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


async def check_full_disk(client, url, upstream, filler):
    metadata = {"x-penstock-metadata": ",".join(f"{name}={'x' * 500}" for name in range(20))}  # so that few fill it

    async def ask():
        return await client.post(f"{url}/v1/chat/completions", json=QUESTION, headers=metadata)

    assert (await ask()).status_code == 200
    with pytest.raises(OSError, match="space"):
        fill(filler)
    for _ in range(200):
        sent = len(upstream.requests)
        refused = await ask()
        if refused.status_code != 200:
            break
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "ledger_unavailable"
    assert refused.headers["retry-after"] == "5"
    assert len(upstream.requests) == sent
    filler.unlink()
    assert (await ask()).status_code == 200
