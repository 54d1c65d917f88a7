"""What the process uses of the machine, read from Linux's /proc; elsewhere what the standard library knows."""

from __future__ import annotations

import contextlib
import os
import resource
import threading
import time
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


class Process:
    """Reads what `penstock.insight.measures.GAUGES` says of memory, processor, threads and descriptors."""

    def __init__(self, memory_bytes: int | None = None) -> None:
        """`memory_bytes` is what the process may use; by default what its control group or the machine has."""
        self._memory_bytes = memory_bytes or memory_allowed()
        self._cpu_s: float | None = None
        self._at = 0.0

    def gauges(self, now: float) -> dict[str, float]:
        """Return the values of now, a time on a monotonic clock; what cannot be known is left out."""
        found = {"threads": float(threading.active_count())}
        memory = memory_used()
        if memory is not None:
            found["memory_share"] = memory / self._memory_bytes
        cpu_s = time.process_time()
        if self._cpu_s is not None and now > self._at:
            found["cpu_share"] = (cpu_s - self._cpu_s) / (now - self._at)
        self._cpu_s, self._at = cpu_s, now
        with contextlib.suppress(OSError):
            allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            found["descriptors_share"] = len(os.listdir("/proc/self/fd")) / max(allowed, 1)
        return found


def memory_used() -> int | None:
    """Bytes of memory the process has now; None where that cannot be read."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return None


def memory_allowed() -> int:
    """Bytes the process may use: its control group's limit, if it has one, or the machine's memory."""
    machine = os.sysconf("SC_PHYS_PAGES") * _PAGE
    for path in _LIMITS:
        with contextlib.suppress(OSError, ValueError):
            return min(int(path.read_text()), machine)
    return machine
