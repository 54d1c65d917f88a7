"""The gateway's side of HTTP: its protocol with an application behind it that answers as soon as it can."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any, cast

import httptools
import uvicorn
from uvicorn.server import ServerState

from penstock.server.early import early_protocol
from penstock.server.guard import BODY, ENDED, HEAD
from penstock.server.hot import Again, Client, Under

_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
_START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}
_TURNS = 12

_HOST = b" HTTP/1.1\r\nhost: x\r\n"
_KNOWN = b"POST /k" + _HOST + b"content-length: 3\r\n\r\n"
_CHUNKED = b"transfer-encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nx: y\r\n\r\n"
_UPGRADE = b"expect: 100-continue\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"

SERVING_SEEDS = (
    b"\x40" + _KNOWN + b"hit" + _KNOWN + b"new",
    b"\x07POST /a" + _HOST + _CHUNKED + b"GET /b" + _HOST + b"\r\n",
    b"\x20POST /unread" + _HOST + b"content-length: 9\r\n\r\n123456789GET /a HTTP/1.0\r\n\r\n",
    b"\x10GET /a" + _HOST + _UPGRADE + b"GET //b" + _HOST + b"\r\n",
    b"\x30GET /unread" + _HOST + _CHUNKED * 2,
    b"\x32" + (_KNOWN + b"new") * 3 + b"POST /k" + _HOST + b"content-length: 5\r\n\r\nother" + _KNOWN + b"hit",
)


class _Late:
    """A request on the short way, answered in a later turn of the event loop."""

    over = False

    def __init__(self, client: Client) -> None:
        self._client = client
        self._left = False

    def run(self) -> None:
        asyncio.get_running_loop().call_soon(self._answer)

    def resume(self) -> None:
        pass

    def cancel(self, _: asyncio.CancelledError, *, tell: bool = False) -> None:
        self._left = not tell

    def _answer(self) -> None:
        self.over = True
        if not self._left:
            self._client.reply(lambda _: _OK)


class _Known:
    """Answers one body on the spot, and another on the short way."""

    def __init__(self) -> None:
        self.again: Again | None = lambda _: _OK

    def known(self, _: Any, body: bytes, __: Any) -> tuple[bytes | None, object]:
        return (_OK if body == b"hit" else None), (body if body == b"new" else None)

    def begin(self, _: object, client: Client) -> Under:
        return _Late(client)


async def _app(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] != "/unread":
        while (message := await receive())["type"] == "http.request" and message["more_body"]:
            pass
    await send(dict(_START))
    await send({"type": "http.response.body", "body": b""})


class _Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = self.ended = False

    def write(self, data: bytes) -> None:
        assert not self.ended, "written after the end"
        if not self.closed:
            self.written.append(data)

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, _: str) -> None:
        return None

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


class _Responses:
    """Counts the responses in bytes, and keeps the bodies."""

    def __init__(self, data: bytes) -> None:
        self.count = 0
        self.bodies: list[bytes] = []
        parser = httptools.HttpResponseParser(self)
        parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        self.bodies.append(data)

    def on_message_complete(self) -> None:
        self.count += 1


class _NoErrors(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            raise AssertionError(record.getMessage()) from (record.exc_info or (None, None))[1]


logging.getLogger("uvicorn.error").addHandler(_NoErrors())
logging.getLogger("penstock.server").addHandler(_NoErrors())
_config = uvicorn.Config(_app, http=early_protocol({b"/k": _Known()}), ws="none", lifespan="off", log_config=None)
_config.load()


def serving(data: bytes) -> None:
    """Whatever is sent, what comes back is a row of whole responses, and nothing is left waiting for ever."""
    step, rest = data[:1] or b"\x00", data[1:]
    size = step[0] % 97 + 1
    asyncio.run(_serve([rest[at : at + size] for at in range(0, len(rest), size)]))


async def _serve(parts: list[bytes]) -> None:
    asyncio.get_running_loop().set_exception_handler(_raise)
    state, transport = ServerState(), _Transport()
    protocol = cast("Any", early_protocol({b"/k": _Known()}))(config=_config, server_state=state, app_state={})
    protocol.connection_made(transport)
    for part in parts:
        if transport.closed:
            break
        protocol.data_received(part)
        await asyncio.sleep(0)
    for _ in range(_TURNS):
        await asyncio.sleep(0)
    limits = protocol.watchman.limits()
    if protocol.state in (HEAD, BODY):
        # The client stops in the middle.
        protocol.look(protocol.since + 1000, limits)
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        assert protocol.state == ENDED or transport.closed, protocol.state
    assert not state.tasks, "a request is left waiting"
    answers = _Responses(b"".join(transport.written))
    for body in answers.bodies:
        assert json.loads(body)["error"].keys() == {"message", "type", "param", "code"}
    protocol.connection_lost(None)
    await asyncio.sleep(0)
    if protocol.watchman._timer is not None:
        protocol.watchman._timer.cancel()


def _raise(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    raise AssertionError(context["message"]) from context.get("exception")
