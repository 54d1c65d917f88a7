"""How soon can Penstock be used, and how much room does it take?

`python -m benchmarks.startup --json`

The default install goes into an environment of its own, as a user has it, and everything is measured there: the
disk's cache is warm. Times of imports are the processor time of a Python process that imports and ends, less that of
one that does nothing, in turns; the time to be ready is from the start of `penstock serve`, on its defaults and without
any provider, to the first 200 of `/health/ready`, and the processor time until then. Memory is the resident set.
Figures are medians; `--check` compares the least disturbed run. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.outcome import ROOT, finish
from benchmarks.processes import free_port, say

IMPORTS = {
    "import_ms": "import penstock",
    "import_client_ms": "from penstock import AsyncClient, Client",
    "first_answer_ms": (
        "from penstock import Client\n"
        "near = {'name': 'near', 'kind': 'simulated', 'latency': {'first_token_s': 0, 'tokens_per_s': 0}}\n"
        "config = {'providers': [near], 'models': [{'name': 'm', 'targets': [{'provider': 'near', 'model': 'm'}]}],"
        " 'store': {'url': 'memory:'}}\n"
        "with Client(config) as client: client.chat('Why?', model='m')"
    ),
}
PEERS = {"import_litellm_ms": (ROOT / ".peers" / "litellm" / "bin" / "python", "import litellm")}
"""Figure: the environment it is measured in, if that is there, and the program."""
MOST = {
    "import_ms": 150.0,
    "import_client_ms": 150.0,
    "ready_ms": 1000.0,
    "ready_new_database_ms": 1000.0,
    "packages": 30.0,
    "installed_mb": 130.0,
    "resident_mb": 80.0,
    "resident_after_requests_mb": 80.0,
}
REQUESTS = 40
Figures = dict[str, list[float]]
"""Of each run."""
_INSTALLED = ("src", "pyproject.toml", "README.md", "LICENSE")
_PATIENCE_S = 60.0
_PEERS_ENVIRONMENT = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # else it waits for a list of prices from the network


def install(folder: Path) -> tuple[Path, int, float]:
    """Make an environment with the default install; return its Python, the packages and the megabytes it adds."""
    say("installing the default install into an environment of its own")
    environment, source = folder / "environment", folder / "source"
    source.mkdir()
    for name in _INSTALLED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(ROOT / name, source)
    subprocess.run([ROOT / "scripts" / "environment", sys.executable, environment], check=True)
    python = environment / "bin" / "python"
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]

    def size() -> tuple[int, int]:
        listed = subprocess.run([*pip, "list", "--format", "freeze"], capture_output=True, text=True, check=True)
        used = subprocess.run(["du", "-sk", environment], capture_output=True, text=True, check=True)
        return len(listed.stdout.splitlines()), int(used.stdout.split()[0])

    packages, kilobytes = size()
    subprocess.run(
        [*pip, "install", "--quiet", "-c", str(ROOT / "constraints.txt"), str(source)],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    with_packages, with_kilobytes = size()
    return python, with_packages - packages, (with_kilobytes - kilobytes) / 1024


def processor_ms(python: Path, program: str) -> float:
    """How much processor time Python takes for a program."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([python, "-c", program], check=True, env=_environment(), cwd=python.parent)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime) * 1000


def imports(python: Path, runs: int) -> Figures:
    """Measure what importing and a first answer take."""
    programs = {name: (python, program) for name, program in IMPORTS.items()}
    programs |= {name: peer for name, peer in PEERS.items() if peer[0].exists()}
    took: Figures = {name: [] for name in programs}
    for number in range(runs + 1):
        for name, (interpreter, program) in programs.items():
            milliseconds = processor_ms(interpreter, program) - processor_ms(interpreter, "pass")
            if number:  # the first one reads the disk and compiles
                took[name].append(milliseconds)
    return took


class Served:
    """`penstock serve` in a folder, until the block ends."""

    def __init__(self, python: Path, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self._port = free_port()
        self._command = [str(python), "-m", "penstock", "serve", "--port", str(self._port), "--json"]
        self._folder = folder
        self._environment = {**_environment(), **(environment or {})}
        self.ready_ms = 0.0

    def __enter__(self) -> Served:
        log = (self._folder / "serve.log").open("wb")
        began = time.perf_counter()
        self._process = subprocess.Popen(self._command, cwd=self._folder, stdout=log, stderr=log, env=self._environment)
        while not self._ready():
            if self._process.poll() is not None or time.perf_counter() - began > _PATIENCE_S:
                raise RuntimeError(f"it did not start: {(self._folder / 'serve.log').read_text(errors='replace')}")
            time.sleep(0.002)
        self.ready_ms = (time.perf_counter() - began) * 1000
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(_PATIENCE_S)

    def _ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=5) as connection:
                connection.sendall(b"GET /health/ready HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n")
                return b" 200 " in connection.recv(64)
        except OSError:
            return False

    def processor_ms(self) -> float:
        """The processor time used so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")

    def resident_mb(self) -> float:
        """The resident set."""
        found = re.search(r"^VmRSS:\s+(\d+)", Path(f"/proc/{self._process.pid}/status").read_text(), re.MULTILINE)
        return int(found.group(1)) / 1024 if found else 0.0

    def ask(self, number: int) -> None:
        """Send one request."""
        asked = {"model": "m", "stream": number % 2 == 1, "messages": [{"role": "user", "content": f"Why {number}?"}]}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/v1/chat/completions",
            json.dumps(asked).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=_PATIENCE_S) as answered:
            answered.read()


def served(python: Path, folder: Path, runs: int) -> Figures:
    """Measure how long the gateway takes to be ready, and how much memory it has."""
    figures: Figures = {
        name: []
        for name in (
            "ready_new_database_ms",
            "ready_ms",
            "ready_processor_ms",
            "resident_mb",
            "resident_after_requests_mb",
        )
    }
    for number in range(runs):
        place = folder / f"served-{number}"
        place.mkdir()
        with Served(python, place) as new:
            figures["ready_new_database_ms"].append(new.ready_ms)
        with Served(python, place) as known:
            figures["ready_ms"].append(known.ready_ms)
            figures["ready_processor_ms"].append(known.processor_ms())
            time.sleep(1)  # what runs in the background at the start is done
            figures["resident_mb"].append(known.resident_mb())
            for asked in range(REQUESTS):
                known.ask(asked)
            figures["resident_after_requests_mb"].append(known.resident_mb())
    return figures


def _environment() -> dict[str, str]:
    """The environment without what would configure a gateway."""
    return {
        name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ
    } | _PEERS_ENVIRONMENT


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--json", action="store_true", help="accepted for uniformity: the last line always is JSON")
    parser.add_argument("--data", help="accepted for uniformity: no data is read")
    parser.add_argument("-n", type=int, default=7, help="runs of each (default 7)")
    parser.add_argument(
        "--python", type=Path, help="the Python of an environment that has Penstock, in place of a new one"
    )
    parser.add_argument("--check", action="store_true", help="fail when a figure is over its limit")
    options = parser.parse_args()
    started = time.monotonic()
    with TemporaryDirectory() as name:
        folder = Path(name)
        figures: Figures = {}
        python = options.python and options.python.absolute()
        if python is None:
            python, packages, megabytes = install(folder)
            figures |= {"packages": [packages], "installed_mb": [megabytes]}
        say(f"imports, {options.n} of each")
        figures |= imports(python, options.n)
        say(f"penstock serve, {options.n} times on a new database and as often on that one")
        figures |= served(python, folder, options.n)
    medians = {name: round(statistics.median(each), 1) for name, each in figures.items()}
    finish(medians, started=started, n=options.n)
    over = [
        f"{name} {min(figures[name]):.1f} > {most:g}"
        for name, most in MOST.items()
        if min(figures.get(name, [0])) > most
    ]
    if options.check and over:
        raise SystemExit(f"over the limit: {', '.join(over)}")


if __name__ == "__main__":
    main()
