"""penstock demo: the gateway, and a few minutes of mixed traffic to look at."""

from __future__ import annotations

import http.client
import itertools
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

CONFIG = """\
# The demonstration's configuration: two simulated providers, one of which fails now and then.
providers:
  - {name: flaky, kind: simulated, latency: {first_token_s: 0.08, tokens_per_s: 400},
     faults: [{every: 7, kind: status, status: 503}, {every: 23, kind: status, status: 429, retry_after_s: 2}]}
  - {name: steady, kind: simulated, latency: {first_token_s: 0.15, tokens_per_s: 200}}
models:
  - {name: fast, targets: [{provider: flaky, model: sim-small}, {provider: steady, model: sim-large}]}
  - {name: "*", targets: [{provider: steady, model: sim-large}]}
store: {url: "sqlite:///penstock-demo.db"}
"""
TOPICS = ("tides", "rainbows", "bread", "bicycles", "glaciers", "bridges", "violins", "beehives", "sluices", "clocks")
QUESTIONS = ("How do {} work?", "Explain {} to a child.", "Who invented {}?", "Write a haiku about {}.")
WORKERS = 8


@click.command()
@click.option("--seconds", type=click.IntRange(1), default=180, show_default=True, help="How long to send requests.")
@click.option("--port", type=click.IntRange(0, 65535), default=4141, show_default=True, help="Port of the gateway.")
@click.option("--config", "path", type=click.Path(exists=True), help="Use this configuration; models fast and any.")
@click.option("--json", "as_json", is_flag=True, help="Print only the totals, as JSON.")
def demo(seconds: int, port: int, path: str | None, as_json: bool) -> None:
    """Serve, and send mixed traffic: repeats, streams, duplicates at once, embeddings, a provider that fails.

    Without --config, records go to penstock-demo.db in the working directory, so that `penstock usage` has something to
    show. Exit codes: 0 done, 2 the gateway did not start.
    """
    console = Console(stderr=as_json)
    with _gateway(path, port) as url:
        console.print(f"Penstock answers on {url}; sending mixed traffic for {seconds} s. Ctrl-C ends it.")
        traffic = Traffic(url, time.monotonic() + seconds)
        try:
            with Live(traffic.table(), console=console, refresh_per_second=4) as live:
                for _ in traffic.run():
                    live.update(traffic.table())
        except KeyboardInterrupt:
            traffic.stop()
    if as_json:
        print(json.dumps(traffic.totals()))
    else:
        where = "--store sqlite:///penstock-demo.db" if path is None else f"--config {path}"
        console.print(f"What was recorded: penstock usage {where} --by cache")


class Traffic:
    """Sends requests from a few threads and counts what comes back."""

    def __init__(self, url: str, until: float) -> None:
        self._address = urlsplit(url)
        self._until = until
        self._counts: Counter[str] = Counter()
        self._times: dict[str, list[float]] = {"hit": [], "miss": []}
        self._lock = threading.Lock()

    def run(self) -> Iterator[None]:
        """Send until the time is over; yields a few times a second."""
        threads = [threading.Thread(target=self._work, args=(seed,), daemon=True) for seed in range(WORKERS)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.25)
            yield

    def stop(self) -> None:
        """End soon."""
        self._until = 0.0

    def totals(self) -> dict[str, Any]:
        """Counts, and median times in milliseconds."""
        with self._lock:
            medians = {f"{kind}_ms": _median(times) for kind, times in self._times.items()}
            return {**self._counts, **medians}

    def table(self) -> Table:
        """The counts, for people."""
        totals = self.totals()
        rows = {
            "answered": totals.get("answered", 0),
            "from cache": totals.get("hit", 0),
            "joined a running call": totals.get("collapsed", 0),
            "needed a second attempt": totals.get("stepped over", 0),
            "failed": totals.get("failed", 0),
            "median of a cached answer": f"{totals['hit_ms']:.1f} ms",
            "median of a new answer": f"{totals['miss_ms']:.1f} ms",
        }
        table = Table("", "so far", title="mixed traffic")
        for name, value in rows.items():
            table.add_row(name, str(value))
        return table

    def _work(self, seed: int) -> None:
        # Workers in pairs draw the same questions at the same time, so that some requests coincide.
        chance = random.Random(seed // 2)
        connection = http.client.HTTPConnection(self._address.hostname or "", self._address.port, timeout=60)
        for number in itertools.count():
            if time.monotonic() >= self._until:
                break
            path, body = _request(chance, number)
            try:
                self._send(connection, path, body)
            except OSError:
                connection.close()
                self._count("failed")
            time.sleep(chance.uniform(0.02, 0.2))
        connection.close()

    def _send(self, connection: http.client.HTTPConnection, path: str, body: dict[str, Any]) -> None:
        start = time.monotonic()
        connection.request(
            "POST", path, json.dumps(body), {"content-type": "application/json", "x-penstock-tags": "demo"}
        )
        response = connection.getresponse()
        response.read()
        took = (time.monotonic() - start) * 1000
        if response.status != 200:
            self._count("failed")
            return
        status = response.headers.get("cache-status", "")
        kind = "hit" if "; hit" in status else "miss"
        with self._lock:
            self._counts["answered"] += 1
            self._counts["hit"] += kind == "hit"
            self._counts["collapsed"] += "collapsed" in status
            self._counts["stepped over"] += int(response.headers.get("x-penstock-attempts", "0")) > 1
            self._times[kind].append(took)

    def _count(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1


def _request(chance: random.Random, number: int) -> tuple[str, dict[str, Any]]:
    topic = chance.choice(TOPICS)
    if chance.random() < 0.1:
        return "/v1/embeddings", {"model": "any", "input": topic}
    question = chance.choice(QUESTIONS).format(topic)
    if chance.random() < 0.3:
        question += f" In {number} words."
    messages = [{"role": "user", "content": question}]
    return "/v1/chat/completions", {"model": "fast", "messages": messages, "stream": chance.random() < 0.5}


def _median(times: list[float]) -> float:
    return sorted(times)[len(times) // 2] if times else 0.0


@contextmanager
def _gateway(path: str | None, port: int) -> Iterator[str]:
    """Run `penstock serve` as a process of its own; yields its address."""
    with tempfile.TemporaryDirectory() as folder:
        if path is None:
            path = str(Path(folder) / "penstock.yaml")
            Path(path).write_text(CONFIG, encoding="utf-8")
        command = [sys.executable, "-m", "penstock", "serve", "--config", path, "--port", str(port), "--json"]
        process = subprocess.Popen([*command, "--log-level", "error"], stdout=subprocess.PIPE, text=True)
        try:
            line = process.stdout.readline() if process.stdout is not None else ""
            if not line:
                raise SystemExit(2)
            yield json.loads(line)["url"]
        finally:
            process.terminate()
            process.wait(timeout=60)
