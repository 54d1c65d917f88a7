"""What is measured of whom."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from benchmarks import peers
from benchmarks.gateway import paraphrases
from benchmarks.gateway.serving import everything, penstock
from benchmarks.load import Bodies, chat_body
from benchmarks.processes import Server
from benchmarks.upstream import whole

Answered = Literal["upstream", "exact", "semantic"]


class Row(NamedTuple):
    """One thing measured.

    Attributes:
        name: In results.
        connections: Kept open at the same time.
        bodies: Returns what is sent to a server.
        answered: By what all must be answered; Penstock's are checked.
        stream: Streams are asked for.
        timed: Measured by `benchmarks.first_byte` instead of wrk, on one connection.
    """

    name: str
    connections: int
    bodies: Callable[[Server], Bodies]
    answered: Answered = "upstream"
    stream: bool = False
    timed: bool = False


class Start(Protocol):
    """Runs a server before the upstream at an address, pinned to a core or some."""

    def __call__(self, address: str, /, *, core: str, folder: Path) -> AbstractContextManager[Server]: ...


class Place(NamedTuple):
    """Where things run.

    Attributes:
        gateway: Cores of the server.
        others: Cores of the load and of the upstream.
        n: How many threads the load has, with as many connections each as a row says, and how many upstreams there are.
    """

    gateway: str = "0"
    others: str = "1"
    n: int = 1


class Subject(NamedTuple):
    """A server and what is measured of it.

    Attributes:
        name: Of the server, in results.
        start: Runs it; None for the upstream itself.
        rows: In their order.
        slow: Left out of quick runs.
        patience: How many times as long each row is measured: for servers of few requests a second.
        place: Where it runs.
    """

    name: str
    start: Start | None
    rows: tuple[Row, ...]
    slow: bool = False
    patience: int = 1
    place: Place = Place()


_LARGE = 190
"""Paragraphs that make 20 KB."""


def _chat(server: Server, *, stream: bool = False, paragraphs: int = 4) -> Bodies:
    return Bodies([chat_body(stream=stream, model=server.model, paragraphs=paragraphs)])


def _known(server: Server, *, paragraphs: int = 4) -> Bodies:
    return _chat(server, paragraphs=paragraphs)._replace(vary="same")


_STREAM = partial(_chat, stream=True)
HIT = Row("hit", 64, _known, "exact")
HIT_20K = Row("hit_20k", 64, partial(_known, paragraphs=_LARGE), "exact")
JSON_1, JSON_64 = Row("json_1", 1, _chat), Row("json_64", 64, _chat)
JSON_20K = Row("json_20k", 64, partial(_chat, paragraphs=_LARGE))
SSE_1, SSE_64 = Row("sse_1", 1, _STREAM, stream=True), Row("sse_64", 64, _STREAM, stream=True)
FIRST_BYTE = Row("first_byte", 1, _STREAM, stream=True, timed=True)
SEMANTIC = Row("semantic", 64, paraphrases.taught, "semantic")
PROXIED = (JSON_1, JSON_64, SSE_1, SSE_64)


def _constant(_address: str, /, *, core: str, folder: Path) -> AbstractContextManager[Server]:
    return peers.nginx_constant(json.dumps(whole()).encode(), core=core, folder=folder)


def _penstock(name: str, *, workers: int = 1, **more: object) -> Start:
    return partial(penstock, name=name, settings={**everything(), **more}, workers=workers)


SUBJECTS = (
    Subject("upstream", None, (JSON_1, SSE_1, FIRST_BYTE)),
    Subject("nginx-constant", _constant, (HIT, HIT_20K)),
    Subject("nginx-proxy", peers.nginx_proxy, (*PROXIED, JSON_20K, FIRST_BYTE)),
    Subject("haproxy", peers.haproxy, (*PROXIED, FIRST_BYTE)),
    Subject("penstock", _penstock("penstock"), (HIT, HIT_20K, *PROXIED, JSON_20K, FIRST_BYTE)),
    Subject("penstock-semantic", _penstock("penstock-semantic", cache={"semantic": {"mode": "on"}}), (SEMANTIC,)),
    Subject("penstock-defaults", partial(penstock, name="penstock-defaults"), (HIT, JSON_64, SSE_64)),
    Subject("sglang", peers.sglang, (JSON_1, JSON_64, SSE_64)),
    Subject("tensorzero", peers.tensorzero, (JSON_1, JSON_64, SSE_64)),
    Subject("portkey", peers.portkey, (JSON_64,), slow=True),
    Subject("litellm", partial(peers.litellm, cache=False), (JSON_64,), slow=True, patience=2),
    Subject("litellm-cache", partial(peers.litellm, cache=True), (HIT,), slow=True, patience=2),
    # Two cores are all there are, so load and upstream share them: everything has one core, or two of each have both.
    Subject("one-core", _penstock("one-core"), (JSON_64, HIT), place=Place("0", "0")),
    Subject("two-cores", _penstock("two-cores", workers=2), (JSON_64, HIT), place=Place("0-1", "0-1", 2)),
)
"""In the order in which each repetition measures them."""
