"""Asking once, and whether the answer is the upstream's."""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence
from typing import Any

from benchmarks.processes import Server
from benchmarks.upstream import events, whole


class Client:
    """One connection to a server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection = http.client.HTTPConnection(server.address, timeout=60)
        self._headers = {**server.headers, "content-type": "application/json"}

    def ask(self, body: bytes) -> tuple[str, bytes]:
        """Return the header `cache-status`, if any, and the answer's body.

        Raises:
            RuntimeError: The status is not 200.
        """
        self._connection.request("POST", self._server.path, body, self._headers)
        reply = self._connection.getresponse()
        answer = reply.read()
        if reply.status != 200:
            raise RuntimeError(f"{self._server.name} answers {reply.status}: {answer[:300]!r}")
        return reply.headers["cache-status"] or "", answer

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def check(server: Server, body: bytes, *, stream: bool) -> None:
    """Ask once.

    Raises:
        RuntimeError: The answer is not the upstream's, word for word.
    """
    client = Client(server)
    _, answer = client.ask(body)
    client.close()
    expected = _said(events()) if stream else whole()["choices"][0]["message"]["content"]
    found = _said(_events(answer)) if stream else json.loads(answer)["choices"][0]["message"]["content"]
    if found != expected:
        raise RuntimeError(f"{server.name} answers something else: {answer[:300]!r} … {answer[-300:]!r}")


def _events(answer: bytes) -> list[bytes]:
    return [event + b"\n\n" for event in answer.replace(b"\r\n", b"\n").split(b"\n\n") if event]


def _said(stream: Sequence[bytes]) -> str:
    """Return the text of a stream that ends as it should."""
    if stream[-1] != b"data: [DONE]\n\n":
        raise RuntimeError(f"a stream ends with {stream[-1]!r}")
    chunks: list[dict[str, Any]] = [json.loads(event.removeprefix(b"data: ")) for event in stream[:-1]]
    texts = [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", [])[:1]]
    return "".join(texts)
