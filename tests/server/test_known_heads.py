"""Heads that came before are not parsed again, and nobody can tell."""

import json
import socket
import time

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server.test_early import CONFIG, Wire, request

from penstock.server.known_heads import KnownHeads

ROUTE = object()


@pytest.fixture(scope="module")
def gateway(start_gateway, tmp_path_factory):
    config = CONFIG.replace("server: {{", "server: {{body_timeout_s: 1, ")
    running = start_gateway(tmp_path_factory.mktemp("heads"), config)
    yield running
    running.stop()


class Read:
    """What the parser finds in some bytes."""

    def __init__(self, data: bytes) -> None:
        self.url, self.fields, self.bodies, self.begun = b"", [], [], 0
        httptools.HttpRequestParser(self).feed_data(data)

    def on_message_begin(self):
        self.begun += 1

    def on_url(self, url):
        self.url += url

    def on_header(self, name, value):
        self.fields.append((name.lower(), value))

    def on_body(self, body):
        self.bodies.append(body)


def content(answer: tuple[int, dict[str, str], bytes]) -> str:
    assert answer[0] == 200, answer
    return json.loads(answer[2])["choices"][0]["message"]["content"]


def test_what_is_asked_with_a_known_head_is_answered_for_itself(gateway):
    with Wire(gateway.url) as wire:
        for text in ("a", "bb", "one that is longer" + " " * 300, "a"):
            wire.send(request(text))
            assert text.strip() in content(wire.response())


def test_a_head_and_its_body_may_come_one_after_the_other(gateway):
    with Wire(gateway.url) as wire:
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(4):
            asked = request(f"parts {number}", key="sk-b")
            end = asked.index(b"\r\n\r\n") + 4
            for part in (asked[:end], asked[end : end + 9], asked[end + 9 :]):
                wire.send(part)
                time.sleep(0.01)  # so that they are read one by one
            assert f"parts {number}" in content(wire.response())


def test_what_comes_with_the_rest_of_a_body_is_the_next_request(gateway):
    first, second, third = (request(f"following {number}") for number in range(3))
    end = first.index(b"\r\n\r\n") + 4
    with Wire(gateway.url) as wire:
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire.send(request("known from now on"))
        wire.response()
        wire.send(first[:end])
        time.sleep(0.01)  # so that the head is read alone
        wire.send(first[end:] + second + third)
        for number in range(3):
            assert f"following {number}" in content(wire.response())


def test_a_body_that_does_not_come_is_refused_in_time(gateway):
    with Wire(gateway.url) as wire:
        wire.send(request("comes"))
        wire.response()
        wire.send(request("does not come")[:-5])
        status, headers, body = wire.response()
    assert (status, json.loads(body)["error"]["code"], headers["connection"]) == (408, "request_timeout", "close")


def test_a_head_that_is_known_does_not_let_in_whom_it_should_not(gateway):
    with Wire(gateway.url) as wire:
        wire.send(request("mine"))
        wire.response()
        wire.send(request("mine too", key="sk-c"))
        assert wire.response()[0] == 401


def test_what_takes_the_normal_way_has_its_own_length(gateway):
    with Wire(gateway.url) as wire:
        for text in ("short", "kept because it is longer"):
            wire.send(request(text, store=True))
            assert text in content(wire.response())


HEADS = st.lists(
    st.sampled_from(
        [b"content-length: 12", b"Content-Length: 12", b"content-length:12", b"x-foo: content-length: 30", b"host: x",
         b"transfer-encoding: chunked", b"x-request-id: 7", b"x-strength: 30", b"content-length: 012",
         b"content-length: 30", b"x: y\r\n folded"]
    ),
    max_size=5,
)  # fmt: skip


@given(HEADS, HEADS, st.sampled_from([12, 30, 18]), st.sampled_from([12, 30, 18]))
def test_only_what_the_parser_would_say_is_known(first, second, size, other):
    heads = KnownHeads()

    def raw(lines, size):
        return b"\r\n".join([b"POST /v1 HTTP/1.1", *lines, b"", b"x" * size])

    data = raw(first, size)
    try:
        read = Read(data)
    except httptools.HttpParserError:
        return
    if read.begun != 1:
        return
    heads.remember(data, data.find(b"\r\n\r\n") + 4, len(b"".join(read.bodies)), ROUTE, read.url, read.fields)
    again = raw(second, other)
    found = heads.find(again, again.find(b"\r\n\r\n") + 4)
    if found is None:
        assert first != second or size == other != 12 or b"content-length: 12" not in first or len(first) > 1
        return
    known, length = found
    read = Read(again[: again.find(b"\r\n\r\n") + 4] + b"x" * length)
    assert (known.url, len(b"".join(read.bodies)), read.begun) == (read.url, length, 1)
    assert known.fields_for(b"x" * length) == [
        (name, b"%d" % length if name == b"content-length" else value) for name, value in read.fields
    ]


def test_a_length_that_is_said_otherwise_is_not_known():
    heads = KnownHeads()
    data = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"
    end = data.index(b"\r\n\r\n") + 4
    heads.remember(data, end, 2, ROUTE, b"/", Read(data).fields)
    for text, expected in ((b"2", 2), (b"123", 123), (b"", None), (b"+2", None), (b"2 ", None), (b"12345678", None)):
        other = data[: end - 5] + text + b"\r\n\r\n"
        found = heads.find(other, len(other))
        assert (found and found[1]) == expected, text


@pytest.mark.parametrize("name", ["content-length", "Content-Length"])
def test_a_name_is_known_as_clients_write_it(name):
    heads = KnownHeads()
    data = f"POST / HTTP/1.1\r\nhost: x\r\n{name}: 2\r\n\r\n{{}}".encode()
    end = data.index(b"\r\n\r\n") + 4
    heads.remember(data, end, 2, ROUTE, b"/", Read(data).fields)
    found = heads.find(data.replace(b": 2\r", b": 30\r"), end + 1)
    assert found is not None
    assert found[1] == 30
