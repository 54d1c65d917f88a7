"""A gateway with short time limits, an upstream that counts, and connections of raw bytes."""

import contextlib
import json
import os
import re
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

CONFIG = """\
providers:
  - {{name: sim, kind: simulated, latency: {{first_token_s: 0.01, tokens_per_s: 0}}}}
models: [{{name: "*", targets: [{{provider: sim, model: sim}}]}}]
server:
  admin_key: sk-abuse-administrator
  keys: [{{key: sk-abuse, tenant: a}}]
  max_body_bytes: 4000000
  header_timeout_s: 0.6
  body_timeout_s: 0.6
  write_timeout_s: 1.5
  max_connections: 200
store: {{url: "memory:"}}
"""
PATH = "/v1/chat/completions"
KEY = "authorization: Bearer sk-abuse\r\n"
ADMIN = "authorization: Bearer sk-abuse-administrator\r\n"


class Wire:
    """A raw connection."""

    def __init__(self, url: str, timeout: float = 15, buffer: int | None = None):
        address = urlsplit(url)
        self.socket = socket.socket()
        if buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(timeout)
        self.socket.connect((address.hostname, address.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def send(self, *parts: str | bytes) -> None:
        self.socket.sendall(b"".join(part.encode() if isinstance(part, str) else part for part in parts))

    def response(self, *, bodiless: bool = False) -> tuple[int, dict[str, str], bytes]:
        first = self.file.readline()
        if not first:
            raise EOFError("closed without an answer")
        status, headers = int(first.split()[1]), {}
        while (line := self.file.readline().rstrip()) != b"":
            name, _, value = line.decode().partition(":")
            headers[name] = value.strip()
        body = b""
        if bodiless:
            return status, headers, body
        if headers.get("transfer-encoding") == "chunked":
            while size := int(self.file.readline(), 16):
                body += self.file.read(size)
                self.file.readline()
            self.file.readline()
        else:
            body = self.file.read(int(headers["content-length"]))
        return status, headers, body

    def refused(self, status: int, code: str) -> dict[str, str]:
        """Read an error in OpenAI's shape after which the connection is closed."""
        found, headers, body = self.response()
        shown = shape(body)
        assert (found, shown["code"]) == (status, code), shown
        assert headers["x-request-id"]
        assert headers["content-type"] == "application/json"
        assert headers["connection"] == "close"
        assert self.closed()
        return shown

    def closed(self) -> bool:
        """The other side says no more; a reset is as good."""
        with contextlib.suppress(ConnectionError):
            return self.file.read(1) == b""
        return True


def shape(body: bytes) -> dict[str, str]:
    document = json.loads(body)
    assert set(document) == {"error"}
    assert set(document["error"]) == {"message", "type", "param", "code"}
    return document["error"]


def question(text: str = "hello", *, extra: str = "", key: str = KEY, path: str = PATH, **fields) -> bytes:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}], **fields}).encode()
    return post(body, extra=extra, key=key, path=path)


def post(body: bytes, *, extra: str = "", key: str = KEY, path: str = PATH) -> bytes:
    return f"POST {path} HTTP/1.1\r\nhost: x\r\n{key}{extra}content-length: {len(body)}\r\n\r\n".encode() + body


class Abused:
    """A gateway, what can be sent to it, and what it did."""

    key = KEY
    path = PATH
    post = staticmethod(post)
    question = staticmethod(question)
    shape = staticmethod(shape)

    def __init__(self, running):
        self.url = running.url
        self.pid = running.process.pid
        self.folder = running.folder

    def wire(self, **more) -> Wire:
        return Wire(self.url, **more)

    def ask(self, data: bytes) -> tuple[int, dict[str, str], bytes]:
        with self.wire() as wire:
            wire.send(data)
            return wire.response()

    def attempts(self) -> float:
        """Calls made upstream so far."""
        _, _, page = self.ask(f"GET /metrics HTTP/1.1\r\nhost: x\r\n{ADMIN}\r\n".encode())
        found = re.findall(r"^penstock_attempts_total\{[^}]*\} (\S+)$", page.decode(), re.MULTILINE)
        return sum(map(float, found))

    def memory(self) -> int:
        """Resident bytes."""
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text())[1]) * 1024

    def connections(self) -> int:
        """Open sockets."""
        return sum(
            os.readlink(entry).startswith("socket:")
            for entry in Path(f"/proc/{self.pid}/fd").iterdir()
            if os.path.lexists(entry)
        )

    def well(self) -> float:
        """Answers still come, and how long one takes."""
        began = time.monotonic()
        assert self.ask(question(f"still well {began}"))[0] == 200
        return time.monotonic() - began


@pytest.fixture(scope="module")
def abused(start_gateway, tmp_path_factory):
    running = start_gateway(tmp_path_factory.mktemp("abused"), CONFIG)
    yield Abused(running)
    code = running.stop()
    log = (running.folder / "gateway.log").read_text()
    assert code == 0, log
    assert "Traceback" not in log, log
