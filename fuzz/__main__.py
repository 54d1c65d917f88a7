"""Fuzz one target for some time: ``python -m fuzz TARGET [SECONDS]``. A finding is written to .peers/fuzz."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["penstock", "fuzz"]):
    from fuzz.targets import TARGETS


def main() -> None:
    """Run the target named by the first argument."""
    name, seconds = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "60"
    target = TARGETS[name]
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(target.seeds):
            (Path(corpus) / str(number)).write_bytes(seed)
        options = [
            f"-artifact_prefix={Path.cwd()}/.peers/fuzz/",
            f"-max_total_time={seconds}",
            "-max_len=1024",
            "-timeout=5",
            "-verbosity=0",
            "-print_final_stats=1",
        ]
        atheris.Setup([sys.argv[0], *options, corpus], target.check)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
