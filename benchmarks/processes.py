"""Starting servers pinned to a core, and reading what they use. Only processes started here are ended."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def say(text: str) -> None:
    """Report progress."""
    print(text, file=sys.stderr, flush=True)


def free_port() -> int:
    """Return a port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A process, its children included.

    Attributes:
        url: Where it listens, without a path.
        path: Of chat completions.
        model: What the model is called there.
        headers: What clients send, besides what HTTP needs.
        admin: The header of somebody who may read `/metrics`; None if it is no Penstock.
        log: Where its output goes.
    """

    def __init__(self, name: str, process: subprocess.Popen[bytes], url: str) -> None:
        self.name = name
        self.process = process
        self.url = url
        self.path = "/v1/chat/completions"
        self.model = "gpt-mock"
        self.headers: dict[str, str] = {}
        self.admin: dict[str, str] | None = None
        self.log = Path(os.devnull)

    def said(self) -> str:
        """Return the end of its output."""
        return self.log.read_text(errors="replace")[-2000:]

    @property
    def address(self) -> str:
        """Host and port."""
        return self.url.removeprefix("http://")

    @property
    def port(self) -> int:
        """The port."""
        return int(self.url.rpartition(":")[2])

    def cpu_s(self) -> float:
        """Processor seconds used so far."""
        total = 0
        for pid in self._tree():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
                total += int(fields[11]) + int(fields[12])
        return total / _TICK

    def memory_mb(self) -> float:
        """Proportional set size."""
        total = 0
        for pid in self._tree():
            with contextlib.suppress(OSError):
                found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
                total += int(found.group(1)) if found else 0
        return total / 1024

    def stop(self) -> None:
        """End it and its children."""
        pids = self._tree()
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in pids:
                with contextlib.suppress(OSError):
                    os.kill(pid, number)
            until = time.monotonic() + 8
            while time.monotonic() < until and self.process.poll() is None:
                time.sleep(0.05)
            if self.process.poll() is not None:
                return

    def _tree(self) -> list[int]:
        found = [self.process.pid]
        for pid in found:
            with contextlib.suppress(OSError):
                for thread in os.listdir(f"/proc/{pid}/task"):
                    children = Path(f"/proc/{pid}/task/{thread}/children").read_text().split()
                    found += [int(child) for child in children if int(child) not in found]
        return found


@contextlib.contextmanager
def running(
    name: str,
    command: Sequence[str],
    url: str | Path,
    *,
    core: int | str,
    folder: Path,
    ready: str = "/",
    environment: Mapping[str, str] | None = None,
    wait_s: float = 120.0,
) -> Iterator[Server]:
    """Run `command` pinned to `core` (a number, or taskset's list of them) until the block ends.

    Waits until `url` + `ready` answers anything. Of a server that chooses its address, `url` is a file that it writes.

    Raises:
        RuntimeError: It ended or did not answer in time; the message has the end of its output.
    """
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            stdout=output,
            stderr=output,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    server = Server(name, process, url if isinstance(url, str) else "")
    server.log = log
    try:
        until = time.monotonic() + wait_s
        while not _answers(server.url + ready):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{name} did not start:\n{server.said()}")
            time.sleep(0.05)
            if isinstance(url, Path) and url.exists():
                server.url = url.read_text().strip()
        yield server
    finally:
        server.stop()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            reply.read()
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):  # nothing there yet, not even an address
        return False
    return True
