"""The last line of every benchmark."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def finish(figures: dict[str, Any], *, started: float, n: int) -> None:
    """Print `figures` with what identifies the run: commit, machine, n, seconds."""
    print(
        json.dumps(
            {
                **figures,
                "commit": commit(),
                "machine": machine(),
                "n": n,
                "seconds": round(time.monotonic() - started, 1),
            }
        ),
        flush=True,
    )


def machine() -> str:
    """Name the processor, its cores and the Python."""
    return f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def commit() -> str:
    """Name the commit that is checked out."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()
