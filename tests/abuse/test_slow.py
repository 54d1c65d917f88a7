"""Clients that are slow to ask or slow to read: each ends by itself, and nobody else notices."""

import contextlib
import itertools
import json
import socket
import threading
import time

import pytest


def drip(wire, data: bytes, pause: float, most: float) -> None:
    """Send byte by byte until it is over or the other side has said something."""
    until = time.monotonic() + most
    wire.socket.setblocking(False)
    try:
        for byte in data:
            wire.socket.send(bytes([byte]))
            time.sleep(pause)
            try:
                if wire.socket.recv(1, socket.MSG_PEEK) or time.monotonic() > until:
                    break
            except BlockingIOError:
                continue
    except ConnectionError:
        pass
    wire.socket.settimeout(10)


def test_slow_headers(abused):
    with abused.wire() as wire:
        began = time.monotonic()
        drip(wire, b"GET /health/live HTTP/1.1\r\nhost: x\r\nx-a: " + b"a" * 1000, 0.05, 5)
        wire.refused(408, "request_timeout")
        assert 0.5 < time.monotonic() - began < 5


def test_headers_that_stop(abused):
    with abused.wire() as wire:
        wire.send("GET /health/live HTTP/1.1\r\nhost:")
        wire.refused(408, "request_timeout")


def test_slow_headers_on_a_connection_that_was_used(abused):
    with abused.wire() as wire:
        wire.send(abused.question("used before"), "POST /v1/chat")
        assert wire.response()[0] == 200
        wire.refused(408, "request_timeout")


def test_a_body_that_stops(abused):
    before = abused.attempts()
    asked = abused.question("never to be answered")
    for sent in (
        asked[:-10],
        asked[: asked.index(b"\r\n\r\n") + 4],
        asked.replace(b"host: x", b"host: x\r\nexpect: 1")[:-9],
    ):
        with abused.wire() as wire:
            wire.send(sent)
            wire.refused(408, "request_timeout")
    large = abused.question("x" * 500_000)
    with abused.wire() as wire:
        wire.send(large[:400_000])
        wire.refused(408, "request_timeout")
    assert abused.attempts() == before


def test_a_chunked_body_that_stops(abused):
    with abused.wire() as wire:
        wire.send(f"POST {abused.path} HTTP/1.1\r\nhost: x\r\n{abused.key}transfer-encoding: chunked\r\n\r\n5\r\n{{")
        wire.refused(408, "request_timeout")


def test_a_body_that_only_drips_chunk_extensions(abused):
    with abused.wire() as wire:
        wire.send(f"POST {abused.path} HTTP/1.1\r\nhost: x\r\n{abused.key}transfer-encoding: chunked\r\n\r\n1;a=")
        drip(wire, b"a" * 1000, 0.05, 5)
        wire.refused(408, "request_timeout")


def test_a_slow_body_that_keeps_coming_is_read(abused):
    asked = abused.question("slow but steady")
    with abused.wire() as wire:
        cut = len(asked) - 8
        wire.send(asked[:cut])
        for byte in asked[cut:]:
            time.sleep(0.2)
            wire.send(bytes([byte]))
        assert wire.response()[0] == 200


def test_nothing_at_all(abused):
    with abused.wire() as wire:
        assert wire.closed()


def test_slow_clients_cost_others_nothing(abused):
    wires = [abused.wire() for _ in range(100)]
    for n, wire in enumerate(wires):
        wire.send(abused.question("held")[: 20 if n % 2 else -5])
    slowest = 0.0
    until = time.monotonic() + 1.2
    while time.monotonic() < until:
        slowest = max(slowest, abused.well())
    assert slowest < 1
    for wire in wires:
        wire.refused(408, "request_timeout")
        wire.__exit__()


class Flood:
    """An upstream whose answers are long: as a stream without an end, else of 30 MB."""

    def __init__(self):
        self.sent = 0
        self._stopping = False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def stop(self):
        self._stopping = True
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self):
        while not self._stopping:
            try:
                accepted, _ = self._listening.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=(accepted,)))
            self._threads[-1].start()

    def _serve(self, accepted):
        with accepted, contextlib.suppress(OSError):
            accepted.settimeout(0.2)
            asked = b""
            while b"\r\n\r\n" not in asked or not asked.endswith(b"}"):
                asked += accepted.recv(100_000)
            if b'"stream":true' in asked:
                head = b"content-type: text/event-stream\r\n\r\n"
                piece = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
                piece["choices"] = [{"index": 0, "delta": {"content": "word " * 10_000}, "finish_reason": None}]
                pieces = itertools.repeat(b"data: %b\n\n" % json.dumps(piece).encode())
            else:
                whole = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
                message = {"role": "assistant", "content": "word " * 6_000_000}
                whole["choices"] = [{"index": 0, "message": message, "finish_reason": "stop"}]
                body = json.dumps(whole).encode()
                head = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
                pieces = (body[at : at + 50_000] for at in range(0, len(body), 50_000))
            accepted.sendall(b"HTTP/1.1 200 OK\r\n" + head)
            for piece in pieces:
                while piece and not self._stopping:
                    with contextlib.suppress(TimeoutError):
                        sent = accepted.send(piece)
                        self.sent += sent
                        piece = piece[sent:]
                if self._stopping:
                    return


@pytest.fixture(scope="module")
def flood():
    upstream = Flood()
    yield upstream
    upstream.stop()


@pytest.fixture(scope="module")
def flooded(start_gateway, tmp_path_factory, abused, flood):
    """A gateway in front of that upstream."""
    config = f"""\
providers:
  - {{{{name: flood, kind: openai, base_url: "http://127.0.0.1:{flood.port}/v1", api_key: sk-x, proxy: none}}}}
models: [{{{{name: m, targets: [{{{{provider: flood, model: m}}}}]}}}}]
server: {{{{write_timeout_s: 1.5}}}}
store: {{{{url: "memory:"}}}}
"""
    running = start_gateway(tmp_path_factory.mktemp("flooded"), config)
    yield type(abused)(running)
    assert running.stop() == 0
    assert "Traceback" not in (running.folder / "gateway.log").read_text()


def active(gateway) -> float:
    page = gateway.ask(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")[2].decode()
    return float(next(line for line in page.splitlines() if line.startswith("penstock_active_requests ")).split()[1])


def test_a_client_that_does_not_read_is_cut_off_and_fills_no_memory(flooded, flood):
    clients, kernel = 8, 20_000_000
    before = flooded.memory()
    wires = [flooded.wire(buffer=4096) for _ in range(clients)]
    for n, wire in enumerate(wires):
        wire.send(flooded.question(f"client {n}", stream=True))
    time.sleep(0.3)
    peak, sent, until = flooded.memory(), -1, time.monotonic() + 10
    while flood.sent != sent or active(flooded) < clients:
        assert time.monotonic() < until, "the upstream is read although the clients do not"
        sent = flood.sent
        time.sleep(0.4)
        peak = max(peak, flooded.memory())
    until = time.monotonic() + 10
    while time.monotonic() < until and active(flooded):
        peak = max(peak, flooded.memory())
        time.sleep(0.1)
    assert active(flooded) == 0
    assert peak - before < clients * 10_000_000, "more than is gathered for the cache"
    for wire in wires:
        received = 0
        with contextlib.suppress(ConnectionError):
            while piece := wire.socket.recv(1_000_000):
                received += len(piece)
        assert received < kernel
        wire.__exit__()


def test_an_answer_nobody_reads_ends_the_connection(flooded):
    with flooded.wire(buffer=4096) as wire:
        wire.send(flooded.question("whole"))
        until = time.monotonic() + 10
        while not active(flooded) and time.monotonic() < until:
            time.sleep(0.02)
        while active(flooded) and time.monotonic() < until:
            time.sleep(0.02)
        held = flooded.connections()
        while flooded.connections() >= held and time.monotonic() < until:
            time.sleep(0.1)
        assert flooded.connections() < held


def test_a_stream_without_end_fills_no_memory(flooded):
    before, peak, received = flooded.memory(), 0, 0
    with flooded.wire() as wire:
        wire.send(flooded.question("without end", stream=True))
        while received < 50_000_000:
            received += len(wire.socket.recv(1_000_000))
            peak = max(peak, flooded.memory())
    assert peak - before < 20_000_000


def test_a_client_that_reads_slowly_gets_it_all(flooded):
    with flooded.wire() as wire:
        wire.send(flooded.question("whole, slowly"))
        received = 0
        until = time.monotonic() + 4
        while time.monotonic() < until:
            received += len(wire.socket.recv(200_000))
            time.sleep(0.1)
        while received < 30_000_000:
            received += len(wire.socket.recv(1_000_000))
