"""Whether a request costs more instructions than is recorded in ``benchmarks/instructions.json``.

Builds of Python and of the C library differ by tens of percent, so counts are compared with those of the same build
only; where none are recorded, nothing is compared, and that is said.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).resolve().parent.parent / "instructions.json"
LIMIT = 0.10
"""How much dearer a row may be than its record. Repetitions differ by 2 to 4 %."""

MEND = "If the cost is meant, record it: python -m benchmarks.profile --record"

Counts = Mapping[str, int]


class Compared(NamedTuple):
    """A row beside its record.

    Attributes:
        row: Its name.
        found: Instructions per request now.
        recorded: What is recorded; None for a row that is new.
    """

    row: str
    found: int
    recorded: int | None

    @property
    def more(self) -> float:
        """By which share it is dearer than recorded; negative if cheaper."""
        return self.found / self.recorded - 1 if self.recorded else 0.0

    @property
    def failed(self) -> bool:
        return self.recorded is not None and self.found > self.recorded * (1 + LIMIT)

    def __str__(self) -> str:
        if self.recorded is None:
            return f"{self.row}: {self.found:,} instructions per request, not recorded yet. {MEND}"
        said = f"{self.row}: {self.found:,} instructions per request, recorded {self.recorded:,} ({self.more:+.1%})"
        if self.failed:
            return f"{said}: more than {LIMIT:.0%} dearer. {MEND}"
        return f"{said}: so much cheaper that it should be recorded anew" if self.more < -LIMIT else said


def build() -> str:
    """Name what absolute counts depend on beside Penstock and its dependencies."""
    libc = " ".join(platform.libc_ver())
    return f"Python {platform.python_version()}, {platform.python_compiler()}, {libc}, {platform.machine()}"


def compare(found: Counts, recorded: Counts) -> list[Compared]:
    """Put each row beside its record."""
    return [Compared(row, number, recorded.get(row)) for row, number in found.items()]


def read(file: Path = FILE) -> dict[str, dict[str, int]]:
    """Return what is recorded, by build and row."""
    found: dict[str, dict[str, int]] = json.loads(file.read_text()) if file.exists() else {}
    return found


def write(found: Counts, file: Path = FILE) -> None:
    """Record `found` for this build, keeping what is recorded for others."""
    file.write_text(json.dumps({**read(file), build(): dict(found)}, indent=2) + "\n")
