"""The lead engine as a process."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from benchmarks.processes import free_port

EXAMPLES = Path(__file__).parents[2] / "examples"
PATH = f"{EXAMPLES}{os.pathsep}{EXAMPLES.parent / 'src'}"
QUICK = {"SIMULATED_SMALL_SECONDS": "0", "SIMULATED_LARGE_SECONDS": "0", "SIMULATED_TOKENS_PER_SECOND": "0"}


class Engine:
    """`python -m lead_engine` in a folder of its own."""

    def __init__(self, folder, **environ):
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "engine.log"
        clean = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "OLLAMA_HOST")}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lead_engine"],
                cwd=folder,
                env={
                    **clean,
                    **QUICK,
                    "PORT": str(self.port),
                    "PYTHONPATH": PATH,
                    **environ,
                },
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + 40
        while time.monotonic() < until and self.process.poll() is None:
            try:
                self.get("/health")
            except urllib.error.HTTPError:
                return
            except OSError:
                time.sleep(0.05)
            else:
                return
        self.stop()
        pytest.fail(self.log.read_text())

    def ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"content-type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=50) as answer:
            return answer.read()

    def get(self, path):
        return json.loads(self.ask("GET", path))

    def post(self, path, body=None):
        return json.loads(self.ask("POST", path, body))

    def refused(self, method, path, body=None):
        with pytest.raises(urllib.error.HTTPError) as caught:
            self.ask(method, path, body)
        with caught.value as error:
            return error.code, json.loads(error.read())

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


def wait_for(happened):
    until = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.05)
