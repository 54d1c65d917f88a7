"""A client on a raw socket: it sees what went over the wire, and can leave at any moment."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from typing import Any, NamedTuple

_LINGER_ZERO = struct.pack("ii", 1, 0)
_DONE = "[DONE]"
PATIENCE_S = 15.0
"""A client gives up after this long; nothing in the matrix takes a third of it."""


class Heard(NamedTuple):
    """An answer as it arrived.

    Attributes:
        status: 0 when there was none.
        headers: Lower-case names.
        body: Without its framing.
        complete: The framing was closed as it should.
        seconds: From the request to the end.
        ended_at: When that was, on the event loop's clock.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    complete: bool
    seconds: float
    ended_at: float

    def events(self) -> list[Any]:
        """The data of an event stream's events, decoded; ``[DONE]`` as it is."""
        data = [event.removeprefix("data: ") for event in self.body.decode().split("\n\n") if event]
        return [text if text == _DONE else json.loads(text) for text in data]


class Saying(NamedTuple):
    """What an answer said, stream or not.

    Attributes:
        text: All content.
        finish: The finish reason, if there was one.
        error: The error object, if there was one.
        done: A stream ended with ``[DONE]``, a JSON answer was whole.
        usage: Usage was told.
    """

    text: str
    finish: str | None
    error: dict[str, Any] | None
    done: bool
    usage: bool


def understand(heard: Heard, *, stream: bool) -> Saying:
    """Read what was heard; raises `ValueError` for what no client could read."""
    if heard.status != 200:
        return Saying("", None, json.loads(heard.body)["error"], done=False, usage=False)
    if not stream:
        document = json.loads(heard.body)
        choice = document["choices"][0]
        return Saying(choice["message"]["content"], choice["finish_reason"], None, done=True, usage="usage" in document)
    text, finish, error, done, usage = "", None, None, False, False
    for event in heard.events():
        if done or error is not None:
            raise ValueError("there is something after the end of the stream")
        if event == _DONE:
            done = True
            continue
        error = event.get("error")
        usage = usage or bool(event.get("usage"))
        for choice in event.get("choices") or ():
            text += choice["delta"].get("content") or ""
            finish = choice["finish_reason"] or finish
    return Saying(text, finish, error, done, usage)


class Asking:
    """One connection; requests on it follow each other."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connected = False

    async def send(self, model: str, *, stream: bool, request_id: str = "", **headers: str) -> None:
        """Connect if need be and send a question to `model`; `request_id` is its name unless given."""
        if not self._connected:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
            self._connected = True
        document = {"model": model, "messages": [{"role": "user", "content": "Is the gate shut?"}], "stream": stream}
        body = json.dumps(document).encode()
        fields = {"host": "gateway", "content-type": "application/json", "x-request-id": request_id or model}
        fields |= {"content-length": str(len(body))} | {name.replace("_", "-"): text for name, text in headers.items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._started = time.monotonic()
        self._writer.write(f"POST /v1/chat/completions HTTP/1.1\r\n{head}\r\n".encode() + body)

    async def hear(self) -> Heard:
        """Wait for the whole answer, but not for ever."""
        status, headers, body, complete = 0, dict[str, str](), b"", False
        try:
            async with asyncio.timeout(PATIENCE_S):
                status, headers = await self.head()
                if "content-length" in headers:
                    body = await self._reader.readexactly(int(headers["content-length"]))
                else:
                    while piece := await self.chunk():
                        body += piece
            complete = True
        except asyncio.IncompleteReadError as error:
            body += error.partial
        except (ConnectionError, TimeoutError):
            pass
        return Heard(
            status, headers, body, complete, time.monotonic() - self._started, asyncio.get_running_loop().time()
        )

    async def head(self) -> tuple[int, dict[str, str]]:
        """Wait for the head."""
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = (line.partition(":") for line in lines[1:] if line)
        return int(lines[0].split(" ")[1]), {name.lower(): value.strip() for name, _, value in fields}

    async def chunk(self) -> bytes:
        """Wait for the next chunk; the last one is empty."""
        size = int(await self._reader.readline() or b"0", 16)
        data = await self._reader.readexactly(size + 2)
        return data[:-2]

    async def leave(self, how: str = "fin") -> float:
        """Close the connection; return when (event loop time)."""
        self._connected = False
        if how == "rst":
            raw = self._writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
            self._writer.transport.abort()
        else:
            self._writer.close()
        return asyncio.get_running_loop().time()


async def ask(port: int, model: str, *, stream: bool, request_id: str = "", **headers: str) -> Heard:
    """Ask and hear the whole answer."""
    asking = Asking(port)
    await asking.send(model, stream=stream, request_id=request_id, **headers)
    try:
        return await asking.hear()
    finally:
        await asking.leave()
