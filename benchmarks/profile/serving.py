"""The gateway that is profiled, with everything on, and a client that sends it one request after the other."""

from __future__ import annotations

import os
import re
import socket
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.gateway import serving
from benchmarks.load import Bodies, chat_body, whole_request
from benchmarks.processes import Server

_CORES = sorted(os.sched_getaffinity(0))
GATEWAY, LOAD = _CORES[0], _CORES[-1]
"""Cores: two, if there are."""

KINDS = ("hit", "json", "sse")
"""An exact hit, a miss answered as JSON, a miss answered as a stream of 22 events."""

_PATIENCE_S = 60.0
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_DIGITS = 6


@contextmanager
def gateway(folder: Path, *, under: Sequence[str] = (), environment: dict[str, str] | None = None) -> Iterator[Server]:
    """Run a gateway, `under` another program if one is given, and its upstream.

    Plain hits get no rows of their own, as nearly all do under load; how many do would depend on the time it takes.
    """
    environment = {"PENSTOCK_STORE__HIT_ROWS_PER_S": "0", **(environment or {})}
    with (
        serving.upstream(core=LOAD, folder=folder) as upstream,
        serving.penstock(
            urlsplit(upstream.url).netloc, core=GATEWAY, folder=folder, settings=serving.everything(), under=under,
            environment=environment,
        ) as server,
    ):  # fmt: skip
        yield server


def bodies(kind: str) -> Bodies:
    """Return what is sent for `kind`."""
    return Bodies([chat_body(stream=kind == "sse")], "same" if kind == "hit" else "number")


class Client:
    """Sends requests over one connection and reads each answer to its end.

    Attributes:
        missed: Requests sent so far that were no hits.
    """

    def __init__(self, server: Server) -> None:
        at = urlsplit(server.url)
        self._socket = socket.create_connection((at.hostname, at.port), timeout=_PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._requests = {
            kind: whole_request(server, chat_body(stream=kind == "sse"), digits=_DIGITS) for kind in KINDS
        }
        self.missed = 0
        self._ask("hit", b"0" * _DIGITS)
        self.missed += 1

    def send(self, kind: str, n: int = 1) -> None:
        """Send `n` requests: hits are all the same, others differ from all before.

        Raises:
            RuntimeError: An answer is not a 200, or a hit where it should not be or the other way round.
        """
        for _ in range(n):
            number = 0 if kind == "hit" else self.missed
            answer = self._ask(kind, b"%0*d" % (_DIGITS, number))
            if (b"; hit" in answer) != (kind == "hit"):
                raise RuntimeError(f"{kind}: {answer[:600].decode(errors='replace')}")
            self.missed += kind != "hit"

    def _ask(self, kind: str, number: bytes) -> bytes:
        self._socket.sendall(self._requests[kind].replace(b"NUMBER", number))
        answer = b""
        while not _whole(answer):
            more = self._socket.recv(65536)
            if not more:
                break
            answer += more
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"{kind}: {answer[:600].decode(errors='replace')}")
        return answer

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def _whole(answer: bytes) -> bool:
    head, mark, body = answer.partition(b"\r\n\r\n")
    if not mark:
        return False
    length = _LENGTH.search(head)
    return len(body) >= int(length[1]) if length else body.endswith(b"0\r\n\r\n")


@contextmanager
def ledger_held(folder: Path) -> Iterator[None]:
    """Hold the database, as another process may, so that what is to be written gathers until the block ends."""
    with closing(_database(folder)) as database:
        database.execute("BEGIN IMMEDIATE")
        yield
        database.execute("ROLLBACK")


def settled(folder: Path, misses: int) -> None:
    """Wait until the ledger has the attempts of so many misses.

    Raises:
        RuntimeError: They are not there in time.
    """
    with closing(_database(folder)) as database:
        until = time.monotonic() + _PATIENCE_S
        while (found := database.execute("SELECT count(*) FROM attempts").fetchone()[0]) < misses:
            if time.monotonic() > until:
                raise RuntimeError(f"the ledger has got {found} of {misses} attempts")
            time.sleep(0.05)


def _database(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(next(folder.glob("penstock-*.db")), isolation_level=None, timeout=_PATIENCE_S)
