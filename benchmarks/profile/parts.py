"""Which part of the gateway a file belongs to.

Attribution is by file, so that it survives changes inside one: time and instructions count for the innermost frame
whose file is listed here. C code counts for the frame that called it; files that are not listed, most of the standard
library, count for their callers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from penstock import layers

LOOP = "event loop, C parts of the protocols"
"""What uvloop and httptools do before a frame of another part runs, and what belongs to no part."""

_LAYERS = sorted(path.stem for path in Path(layers.__file__).parent.glob("*.py"))

FILES: tuple[tuple[str, str], ...] = (
    *((f"penstock/layers/{name}.py", f"layer {name}") for name in _LAYERS),
    ("penstock/server/early.py", "protocol"),
    ("penstock/server/guard.py", "protocol"),
    ("penstock/server/watchman.py", "protocol"),
    ("penstock/server/seen.py", "protocol"),
    ("penstock/server/cycle.py", "protocol"),
    ("uvicorn/", "protocol"),
    ("penstock/server/auth.py", "keys"),
    ("penstock/server/permissions.py", "keys"),
    ("penstock/access/", "keys"),
    ("penstock/accounts/", "keys"),
    ("penstock/server/controls.py", "request headers"),
    ("penstock/server/", "surface, response head"),
    ("penstock/wire/", "formats: decode, encode"),
    ("penstock/core/", "request, response, call"),
    ("penstock/telemetry/", "metrics"),
    ("penstock/monitoring/", "metrics"),
    ("penstock/stores/", "ledger"),
    ("penstock/caching/neighbourhood.py", "layer neighbours"),
    ("penstock/caching/passing_on.py", "layer neighbours"),
    ("penstock/caching/lead.py", "layer coalesce"),
    ("penstock/caching/seat.py", "layer coalesce"),
    ("penstock/caching/flight.py", "layer coalesce"),
    ("penstock/caching/", "layer exact_cache"),
    ("penstock/semantic/", "layer semantic_cache"),
    ("penstock/matching/", "layer semantic_cache"),
    ("penstock/embedders/", "layer semantic_cache"),
    ("penstock/context/", "layer shape_context"),
    ("penstock/budgeting/", "layer budget"),
    ("penstock/cascading/", "layer cascade"),
    ("penstock/routing/health.py", "layer breaker"),
    ("penstock/routing/breaker.py", "layer breaker"),
    ("penstock/limiting/", "layer limit"),
    ("penstock/pricing/", "layer attempt"),
    ("penstock/routing/table.py", "pipeline"),
    ("penstock/routing/", "layer failover"),
    ("penstock/providers/transport/", "transport"),
    ("penstock/providers/", "provider"),
    ("penstock/", "pipeline"),
    ("sqlalchemy/", "SQLAlchemy, SQLite"),
    ("sqlite3/", "SQLAlchemy, SQLite"),
    ("asyncio/", LOOP),
)
"""Start of a file's path below its source folder -> part; the first that fits."""

BESIDE = "other threads: "
KERNEL = "kernel, for "
"""Put before a part's name where it ran in another thread than the event loop's, or in a system call."""


class Parts:
    """What is told apart.

    Attributes:
        files: As `FILES`.
        names: The parts; that of a stack without any known file first.
    """

    def __init__(self, files: Sequence[tuple[str, str]] = FILES) -> None:
        self.files = files
        self.names = list(dict.fromkeys([LOOP, *(part for _, part in files)]))

    @classmethod
    def files_of_source(cls) -> Parts:
        """Return those in which each file of Penstock is a part of its own."""
        source = Path(layers.__file__).parents[2]
        own = [str(path.relative_to(source)) for path in sorted(source.rglob("*.py"))]
        return cls([*((path, path) for path in own), *FILES])

    def table(self) -> str:
        """Return `files` as `frames.c` reads them."""
        return "".join(f"{self.names.index(part)}\t{start}\n" for start, part in self.files)
