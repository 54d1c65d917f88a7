"""`frames.c`, compiled, and how a gateway that has loaded it is told what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import time
from pathlib import Path

from benchmarks.profile.parts import Parts

_SOURCE = Path(__file__).with_name("frames.c")
_PATIENCE_S = 60.0


class Inside:
    """Compiles the library into `folder`, which is also where it is told what to do and answers.

    Attributes:
        environment: Of a gateway that shall load it.

    Raises:
        SystemExit: There is no compiler, or no headers of this Python.
    """

    def __init__(self, folder: Path, parts: Parts) -> None:
        self._folder = folder
        library = folder / "frames.so"
        compiler = shutil.which("cc")
        if compiler is None:
            raise SystemExit("no C compiler: run sudo apt-get install build-essential python3-dev")
        subprocess.run(
            [compiler, "-O2", "-shared", "-fPIC", "-fno-optimize-sibling-calls", "-fno-ipa-icf", "-Wl,-z,lazy",
             f"-I{sysconfig.get_paths()['include']}", "-o", str(library), str(_SOURCE)],
            check=True,
        )  # fmt: skip
        (folder / "parts").write_text(parts.table())
        os.mkfifo(folder / "commands")
        self.environment = {"LD_PRELOAD": str(library), "PROFILE_FOLDER": str(folder), "PYTHONHASHSEED": "0"}

    def ask(self, command: str) -> list[list[str]]:
        """Have `command`, a letter that `frames.c` explains, obeyed; returns the fields of each line it wrote.

        Raises:
            RuntimeError: It was not obeyed in time.
        """
        answer = self._folder / "answer"
        answer.unlink(missing_ok=True)
        with (self._folder / "commands").open("w") as commands:
            commands.write(command)
        until = time.monotonic() + _PATIENCE_S
        while not answer.exists():
            if time.monotonic() > until:
                raise RuntimeError(f"the library in the gateway did not obey {command!r}")
            time.sleep(0.01)
        return [line.split("\t") for line in answer.read_text().splitlines()]
