"""Where the matrix is played: upstreams, and a gateway as the product runs it, in one process on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import socket
import sqlite3
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import trustme
import uvicorn

from benchmarks.faults.cells import LIMITED_S
from penstock.client import AsyncClient
from penstock.core.usage import Usage
from penstock.server.app import Gateway
from penstock.server.early import early_protocol
from penstock.testing import InvoiceLine, UpstreamReply, UpstreamRequest, UpstreamServer, answer, chunks, json_reply
from penstock.testing.faultd import sse_reply

KEY = "canary-key-9f8e7d6c5b4a"
"""No error may contain it."""
WELL = "All gates are shut and the water is still."
WELL_USAGE = Usage(input_tokens=11, output_tokens=9)
CONNECTIONS = 32
"""`max_connections` of the providers."""

Script = Callable[[UpstreamRequest], UpstreamReply]


class Served:
    """A gateway on a free port, inside ``async with``."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.client = AsyncClient(config)
        self.port = 0

    async def __aenter__(self) -> Served:
        gateway = Gateway(self.client)
        listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.port = listening.getsockname()[1]
        self._server = _Server(
            uvicorn.Config(
                gateway,
                loop="none",
                http=early_protocol({path.encode(): route for path, route in gateway.hot.items()}),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=2,
            )
        )
        self._running = asyncio.create_task(self._server.serve(sockets=[listening]))
        await self._server.listening.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = True
        await self._running


class _Server(uvicorn.Server):
    """uvicorn that says when it listens, and leaves signals to whoever runs it."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Certificates:
    """What TLS upstreams show, from an authority in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self.ca_file = folder / "authority.pem"
        self._authority.cert_pem.write_to_path(self.ca_file)

    def context(self, host: str = "127.0.0.1", *, days: int = 30) -> ssl.SSLContext:
        """Return the server's side of TLS for `host`, valid for so many days from now."""
        until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(host, not_after=until).configure_cert(context)
        return context


class Stage:
    """Upstreams, good and bad, and the gateway, inside ``async with``.

    Attributes:
        faulty: The upstream of most faults; it does what `script` says.
        well: The one that always answers.
        limited: The one that never does.
    """

    def __init__(self, folder: Path, script: Script, models: Sequence[Mapping[str, Any]]) -> None:
        self._folder = folder
        self._models = models
        certificates = Certificates(folder)
        self._ca_file = str(certificates.ca_file)
        self.faulty = UpstreamServer(script)
        self.secure = UpstreamServer(script, tls=certificates.context())
        self.well = UpstreamServer(well)
        self.limited = UpstreamServer(
            json_reply({"error": {"message": "later"}}, status=429, headers={"retry-after": str(LIMITED_S)})
        )
        self._others = {
            "expired": UpstreamServer(well, tls=certificates.context(days=-1)),
            "wrong_host": UpstreamServer(well, tls=certificates.context("elsewhere.example")),
            "hangs_up": UpstreamServer(well, welcome="fin"),
            "resets": UpstreamServer(well, welcome="rst"),
            "mute": UpstreamServer(well, welcome="stall"),
        }
        self._closing = contextlib.AsyncExitStack()
        self._servers = (self.faulty, self.secure, self.well, self.limited)
        self._read = [0] * len(self._servers)
        self._lines: dict[str, list[InvoiceLine]] = {}

    @property
    def port(self) -> int:
        """Where the gateway listens."""
        return self.served.port

    async def __aenter__(self) -> Stage:
        for server in (*self._servers, *self._others.values()):
            await self._closing.enter_async_context(server)
        self.served = await self._closing.enter_async_context(Served(self._config()))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._closing.aclose()

    def lines(self, cell: str) -> list[InvoiceLine]:
        """What the upstreams were asked for the model `cell`, in order."""
        for number, server in enumerate(self._servers):
            for line in server.invoice[self._read[number] :]:
                self._lines.setdefault(line.request.json()["model"], []).append(line)
            self._read[number] = len(server.invoice)
        return sorted(self._lines.get(cell, ()), key=lambda line: (line.started_at, self._rank(line)))

    def _rank(self, line: InvoiceLine) -> int:
        """The order of upstreams in every route: uvloop's clock, with its milliseconds, cannot tell."""
        port = int(line.request.headers["host"].rpartition(":")[2])
        return [self.limited.port, self.faulty.port, self.secure.port, self.well.port].index(port)

    async def rows(self) -> tuple[dict[str, list[sqlite3.Row]], dict[str, list[sqlite3.Row]]]:
        """Return the record's rows of calls and of attempts, by request id."""
        await self.served.client.shared.stores.ledger.flush()
        with contextlib.closing(sqlite3.connect(self._folder / "penstock.db")) as database:
            database.row_factory = sqlite3.Row
            calls = database.execute("select * from calls order by id").fetchall()
            attempts = database.execute(
                "select calls.request_id, attempts.* from attempts join calls on calls.id = call_id order by position"
            ).fetchall()
        return _by_request(calls), _by_request(attempts)

    def _config(self) -> dict[str, Any]:
        patient = {"connect_s": 5, "first_byte_s": 20, "idle_s": 20, "total_s": 60}
        faulty, secure = self.faulty.origin, self.secure.origin
        others = {name: server.origin for name, server in self._others.items()}
        with socket.create_server(("127.0.0.1", 0)) as unused:
            closed = unused.getsockname()[1]
        providers: list[tuple[str, str, dict[str, Any]]] = [
            ("faulty", faulty, {}),
            ("impatient", faulty, {"timeouts": {**patient, "first_byte_s": 0.4, "idle_s": 0.4}}),
            ("hurried", faulty, {"timeouts": {**patient, "total_s": 0.5}}),
            ("cutting", faulty, {}),
            ("capped", faulty, {"max_response_bytes": 1024 * 1024}),
            ("secure", secure, {}),
            ("plaintext", faulty.replace("http:", "https:"), {}),
            ("expired", others["expired"], {}),
            ("wrong_host", others["wrong_host"], {}),
            ("refused", f"http://127.0.0.1:{closed}", {}),
            ("unknown_name", "http://nobody.invalid", {}),
            ("hangs_up", others["hangs_up"], {}),
            ("resets", others["resets"], {}),
            ("mute", others["mute"].replace("http:", "https:"), {"timeouts": {**patient, "connect_s": 0.4}}),
            *((f"well-{number}", self.well.origin, {}) for number in (1, 2)),
            *((f"limited-{number}", self.limited.origin, {}) for number in (1, 2)),
        ]
        common = {"kind": "openai", "api_key": KEY, "timeouts": patient, "max_connections": CONNECTIONS}
        return {
            "providers": [
                {
                    "name": name,
                    **common,
                    "base_url": f"{origin}/v1",
                    **({"ca_file": self._ca_file} if origin.startswith("https") else {}),
                    **more,
                }
                for name, origin, more in providers
            ],
            "models": [*self._models],
            "store": {"url": f"sqlite:///{self._folder}/penstock.db"},
            # A retry never fails for want of budget here, nor takes long.
            "retry": {"attempts": 2, "backoff_s": 0.005, "budget": 1.0},
        }


def well(request: UpstreamRequest) -> UpstreamReply:
    """Answer as a healthy upstream does."""
    if request.json().get("stream"):
        return sse_reply(chunks(WELL, usage=WELL_USAGE))
    return json_reply(answer(WELL, usage=WELL_USAGE))


def _by_request(rows: Sequence[sqlite3.Row]) -> dict[str, list[sqlite3.Row]]:
    found: dict[str, list[sqlite3.Row]] = {}
    for row in rows:
        found.setdefault(row["request_id"], []).append(row)
    return found
