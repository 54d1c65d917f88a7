"""Penstock as it is measured, what it says it did, and the upstream."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.processes import Server, free_port, running

PENSTOCK = (sys.executable, "-m", "penstock")
TENANT = "bench/load"
_UPSTREAM = Path(__file__).parent.with_name("upstream.py")
_ADMIN = "root-of-the-benchmark"
_PLENTY = 1_000_000_000
"""Requests and tokens a minute: counted, never reached."""


class Seen(NamedTuple):
    """Finished requests, by what became of them.

    Attributes:
        requests: All but those whose client left.
        failed: Those with another outcome than ``ok``.
        hits: Answered from the exact cache.
        semantic: Answered by meaning.
        joined: Answered together with another one.
    """

    requests: int
    failed: int
    hits: int
    semantic: int
    joined: int

    def since(self, before: Seen) -> Seen:
        """Return what came after `before`."""
        return Seen(*(now - then for now, then in zip(self, before, strict=True)))


def everything() -> dict[str, Any]:
    """Settings with all on that a production gateway has on, none of it ever the reason of a refusal.

    Keys are required; requests and tokens a minute are counted for the key, its team and every tenant; a budget is
    spent from; calls are priced. Exact cache, joining, the ledger in SQLite and metrics are on by default.
    """
    return {
        "server": {"admin_key": _ADMIN, "max_connections": 20_000},
        "limits": {"per_tenant": {"requests_per_minute": _PLENTY, "tokens_per_minute": _PLENTY}},
        "budgets": [{"scope": "organisation", "subject": "bench", "period": "month", "amount": 1_000_000}],
        "prices": [{"provider": "mock", "usd_per_million": {"input": 0.15, "output": 0.60}}],
    }


@contextmanager
def upstream(*options: str, core: int | str, folder: Path, port: int = 0) -> Iterator[Server]:
    """Run the upstream, beside one that has the same port if that is given."""
    port = port or free_port()
    command = [sys.executable, str(_UPSTREAM), str(port), *options]
    with running("upstream", command, f"http://127.0.0.1:{port}", core=core, folder=folder) as server:
        yield server


@contextmanager
def penstock(
    address: str,
    *,
    core: int | str,
    folder: Path,
    name: str = "penstock",
    settings: Mapping[str, Any] | None = None,
    workers: int = 1,
    under: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Run the gateway before the upstream at `address`, with a store of its own.

    Args:
        address: Host and port.
        core: A core, or taskset's list of them.
        folder: For its files.
        name: In results.
        settings: Beside provider, model and store. If they say something of the server, there is an admin key, and
            clients have one that is made by `penstock keys`.
        workers: How many.
        under: A command that runs it.
        environment: Beside this process's.
    """
    port = free_port()
    config = folder / f"{name}-{port}.json"
    provider = {"name": "mock", "kind": "openai-compatible", "base_url": f"http://{address}/v1", "api_key": "sk-mock"}
    settings = {
        "providers": [{**provider, "max_connections": 20_000}],
        "models": [{"name": "gpt-mock", "targets": [{"provider": "mock", "model": "gpt-mock"}]}],
        "store": {"url": f"sqlite:///{folder}/{name}-{port}.db"},
        **(settings or {}),
    }
    config.write_text(json.dumps(settings))
    key = _key(config) if "server" in settings else None
    command = [*under, *PENSTOCK, "serve", "--config", str(config), "--port", str(port), "--json"]
    command += ["--workers", str(workers)] if workers > 1 else []
    url = f"http://127.0.0.1:{port}"
    with running(
        name, command, url, core=core, folder=folder, ready="/health/ready", environment=environment
    ) as server:
        server.headers = {"authorization": f"Bearer {key}"} if key else {}
        server.admin = {"authorization": f"Bearer {_ADMIN}"} if key else {}
        yield server


def seen(server: Server) -> Seen:
    """Read what a Penstock has done since it started."""
    request = urllib.request.Request(f"{server.url}/metrics", headers=server.admin or {})
    with urllib.request.urlopen(request, timeout=30) as reply:
        page = reply.read().decode()
    requests = failed = 0
    cached = {"hit": 0, "semantic": 0, "collapsed": 0}
    for labels, value in re.findall(r"^penstock_requests_total\{([^}]*)\} (\S+)$", page, re.MULTILINE):
        fields = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        n = int(float(value))
        if fields["outcome"] == "client_closed":
            continue
        requests += n
        failed += n * (fields["outcome"] != "ok")
        if fields["cache"] in cached:
            cached[fields["cache"]] += n
    return Seen(requests, failed, cached["hit"], cached["semantic"], cached["collapsed"])


def _key(config: Path) -> str:
    limits = ["--requests-per-minute", str(_PLENTY), "--tokens-per-minute", str(_PLENTY), "--json"]
    _penstock("teams", "create", TENANT, "--config", str(config), *limits)
    made = json.loads(_penstock("keys", "create", "load", "--tenant", TENANT, "--config", str(config), *limits))
    return str(made["key"])


def _penstock(*arguments: str) -> str:
    done = subprocess.run([*PENSTOCK, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"penstock {' '.join(arguments[:2])}: {done.stderr or done.stdout}")
    return done.stdout
