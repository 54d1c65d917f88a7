"""Known answers leave early, and nobody can tell but by the clock."""

import asyncio
import json
import signal
import socket
import time
from urllib.parse import urlsplit

import pytest
import uvicorn
from uvicorn.server import ServerState

from penstock.server.early import early_protocol

CONFIG = """\
providers:
  - {{name: sim, kind: simulated, latency: {{first_token_s: 0.02, tokens_per_s: 0}}}}
models: [{{name: "*", targets: [{{provider: sim, model: sim}}]}}]
server: {{admin_key: sk-the-administrator, keys: [{{key: sk-a, tenant: a}}, {{key: sk-b, tenant: b}}]}}
store: {{url: "memory:"}}
"""
PATH = "/v1/chat/completions"


@pytest.fixture(scope="module")
def gateway(start_gateway, tmp_path_factory):
    running = start_gateway(tmp_path_factory.mktemp("early"), CONFIG)
    yield running
    running.stop()


def request(text: str, *, key: str = "sk-a", stream: bool = False, extra: str = "", **fields) -> bytes:
    body = json.dumps(
        {"model": "m", "messages": [{"role": "user", "content": text}], "stream": stream, **fields}
    ).encode()
    head = (
        f"POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n{extra}content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Wire:
    """A raw connection that reads one response at a time."""

    def __init__(self, url: str):
        address = urlsplit(url)
        self.socket = socket.create_connection((address.hostname, address.port), timeout=10)
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def response(self) -> tuple[int, dict[str, str], bytes]:
        status = int(self.file.readline().split()[1])
        headers = {}
        while (line := self.file.readline().rstrip()) != b"":
            name, _, value = line.decode().partition(":")
            headers[name] = value.strip()
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.file.readline(), 16):
                body += self.file.read(size)
                self.file.readline()
            self.file.readline()
        else:
            body = self.file.read(int(headers["content-length"]))
        return status, headers, body


@pytest.mark.parametrize("stream", [False, True])
def test_the_early_way_says_what_the_normal_way_says(gateway, stream):
    asked = request(f"twice {stream}", stream=stream)
    unusual = request(f"twice {stream}", stream=stream, extra="connection: close\r\n")
    with Wire(gateway.url) as wire:
        wire.send(asked)
        first = wire.response()
        wire.send(asked)
        early = wire.response()
    with Wire(gateway.url) as wire:
        wire.send(unusual)
        normal = wire.response()
    assert first[0] == early[0] == normal[0] == 200
    assert early[2] == normal[2]
    assert set(early[1]) == set(normal[1]) - {"connection"}
    assert early[1]["cache-status"].startswith("Penstock-Exact; hit")
    assert early[1]["content-type"] == normal[1]["content-type"]


def test_a_hundred_pipelined_requests_are_answered_in_order(gateway):
    known = [request(f"known {number}") for number in range(5)]
    with Wire(gateway.url) as wire:
        texts = []
        for one in known:
            wire.send(one)
            texts.append(json.loads(wire.response()[2])["choices"])
        fresh = [request(f"fresh {number}") for number in range(20)]
        wire.send(b"".join(known[n % 5] if n % 5 else fresh[n // 5] for n in range(100)))
        for n in range(100):
            status, headers, body = wire.response()
            assert status == 200
            choices = json.loads(body)["choices"]
            if n % 5:
                assert choices == texts[n % 5]
                assert "hit" in headers["cache-status"]
            else:
                assert f"fresh {n // 5}" in choices[0]["message"]["content"]


def test_requests_sent_before_the_answer_is_there_are_answered_in_order(gateway):
    asked = [request(f"ahead {number}") for number in range(4)]
    with Wire(gateway.url) as wire:
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire.send(asked[0])
        for one in asked[1:]:
            time.sleep(0.003)  # so that it is not read together with the one before
            wire.send(one[:100])
            wire.send(one[100:])
        for number in range(4):
            status, _, body = wire.response()
            assert status == 200
            assert f"ahead {number}" in json.loads(body)["choices"][0]["message"]["content"]


def test_a_request_may_arrive_in_any_pieces(gateway):
    asked = request("in pieces")
    with Wire(gateway.url) as wire:
        wire.send(asked)
        _, _, whole = wire.response()
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for cut in range(1, len(asked), 7):
            wire.send(asked[:cut])
            wire.send(asked[cut:])
            status, headers, body = wire.response()
            assert (status, body) == (200, whole)
            assert "hit" in headers["cache-status"]


def test_known_answers_are_only_for_their_tenant_and_for_known_keys(gateway):
    with Wire(gateway.url) as wire:
        wire.send(request("private"))
        wire.response()
        wire.send(request("private", key="sk-b"))
        assert "fwd=miss" in wire.response()[1]["cache-status"]
        wire.send(request("private", key="sk-wrong"))
        assert wire.response()[0] == 401


def test_who_wants_no_cached_answer_gets_none(gateway):
    with Wire(gateway.url) as wire:
        wire.send(request("fresh please"))
        wire.response()
        wire.send(request("fresh please", extra="cache-control: no-cache\r\n"))
        assert "fwd=request" in wire.response()[1]["cache-status"]
        wire.send(request("fresh please", extra="cache-control: no-store\r\n"))
        assert "fwd=bypass" in wire.response()[1]["cache-status"]


def test_a_large_body_takes_the_normal_way(gateway):
    asked = request("x" * 600_000)
    with Wire(gateway.url) as wire:
        for expected in ("fwd=miss", "hit"):
            wire.send(asked)
            status, headers, _ = wire.response()
            assert status == 200
            assert expected in headers["cache-status"]


def test_expect_continue(gateway):
    asked = request("expected", extra="expect: 100-continue\r\n")
    head, _, body = asked.partition(b"\r\n\r\n")
    with Wire(gateway.url) as wire:
        wire.send(head + b"\r\n\r\n")
        assert wire.file.readline().startswith(b"HTTP/1.1 100")
        wire.file.readline()
        wire.send(body)
        assert wire.response()[0] == 200


def test_a_model_name_cannot_write_headers(gateway):
    with Wire(gateway.url) as wire:
        wire.send(request("inject", model="sim/a\r\nx-evil: 1 é"))
        status, headers, _ = wire.response()
    assert status == 200
    assert "x-evil" not in headers
    assert headers["x-penstock-model"] == "a%0D%0Ax-evil: 1 %C3%A9"


def test_hits_are_counted(gateway):
    with Wire(gateway.url) as wire:
        for _ in range(3):
            wire.send(request("count me", tags=["x"]))
            wire.response()
        wire.send(b"GET /metrics HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-the-administrator\r\n\r\n")
        page = wire.response()[2].decode()
    hits = next(line for line in page.splitlines() if line.startswith("penstock_requests_total") and '"hit"' in line)
    assert float(hits.split()[-1]) >= 2


def repeat(wire: Wire, data: bytes, times: int = 3) -> list[tuple[int, dict[str, str], bytes]]:
    """Send the same bytes again and again, each time after the answer to the one before."""
    answers = []
    for _ in range(times):
        wire.send(data)
        answers.append(wire.response())
    return answers


@pytest.mark.parametrize("stream", [False, True])
def test_the_same_bytes_are_a_new_request_each_time(gateway, stream):
    asked = request(f"the same bytes {stream}", stream=stream)
    with Wire(gateway.url) as wire:
        first, second, *others = repeat(wire, asked, 5)
    with Wire(gateway.url) as wire:
        others += repeat(wire, asked, 2)
    answers = [second, *others]
    assert {answer[2] for answer in answers} == {second[2]}
    assert len({answer[1]["x-request-id"] for answer in [first, *answers]}) == 7
    assert {frozenset(answer[1]) for answer in answers} == {frozenset(second[1])}
    assert all(answer[1]["cache-status"].startswith("Penstock-Exact; hit") for answer in answers)


def test_bytes_that_were_a_request_are_a_body_when_they_are_sent_as_one(gateway):
    known = request("a request or a body")
    with Wire(gateway.url) as wire:
        repeat(wire, known)
        head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-a\r\ncontent-length: {len(known)}\r\n\r\n"
        wire.send(head.encode())
        wire.send(known)
        status, _, body = wire.response()
        assert (status, json.loads(body)["error"]["code"]) == (400, "invalid_json")
        assert repeat(wire, known, 1)[0][0] == 200


def test_two_requests_in_one_piece_are_not_taken_for_one(gateway):
    known = request("one of two")
    with Wire(gateway.url) as wire:
        repeat(wire, known)
        for _ in range(3):
            wire.send(known + known)
            for _ in range(2):
                assert "hit" in wire.response()[1]["cache-status"]


def test_what_was_cleared_is_not_repeated(gateway):
    known = request("cleared in between")
    clear = b"POST /admin/cache/clear HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-the-administrator\r\n"
    with Wire(gateway.url) as wire:
        repeat(wire, known)
        wire.send(clear + b"content-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
        assert wire.response()[0] == 200
        missed, hit = repeat(wire, known, 2)
    assert "fwd=miss" in missed[1]["cache-status"]
    assert "hit" in hit[1]["cache-status"]


def test_a_key_that_was_removed_repeats_nothing(start_gateway, tmp_path):
    config = CONFIG.format()
    gateway = start_gateway(tmp_path, CONFIG)
    try:
        known = request("not for ever", key="sk-b")
        with Wire(gateway.url) as wire:
            assert "hit" in repeat(wire, known)[2][1]["cache-status"]
            (tmp_path / "penstock.yaml").write_text(config.replace(", {key: sk-b, tenant: b}", ""))
            gateway.process.send_signal(signal.SIGHUP)
            assert _becomes(lambda: repeat(wire, known, 1)[0][0], 401)
    finally:
        gateway.stop()


def _becomes(look, expected) -> bool:
    return any(look() == expected or time.sleep(0.05) for _ in range(200))


class OneAnswer:
    """A hot route that knows the answer to everything."""

    again = None

    def known(self, headers, body, default):
        return b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nknown", None


@pytest.mark.parametrize("before", [0, 1], ids=["a head that is new", "a head that came before"])
async def test_a_known_answer_is_the_last_of_a_connection_that_drains(before):
    config = uvicorn.Config(None, ws="none", lifespan="off", log_config=None)
    config.load()
    kind = early_protocol({PATH.encode(): OneAnswer()})
    made = asyncio.get_running_loop().create_future()

    def make():
        made.set_result(kind(config=config, server_state=ServerState(), app_state={}))
        return made.result()

    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        protocol = await made
        for number in range(before + 1):
            protocol.draining = number == before
            writer.write(request(f"asked {number}"))
            if number < before:
                await reader.readuntil(b"known")
        assert await reader.read() == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nknown"
        writer.close()
