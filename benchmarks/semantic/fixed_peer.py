"""GPTCache, the package, in an environment of its own under `.peers`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.outcome import ROOT
from benchmarks.processes import say
from benchmarks.semantic.data import Memo, Stream
from benchmarks.semantic.neighbours import dense

VERSION, NUMPY = "0.1.44", "2.4.6"
DEFAULT = 0.8
"""Its `similarity_threshold`, a share of the largest squared distance: 0.8 is a cosine of 0.6."""

_HOME = ROOT / ".peers" / "gptcache"


def cosine_of(threshold: float) -> float:
    """Return the cosine that its threshold is: squared distances of unit vectors are 0 to 4."""
    return 1 - 2 * (1 - threshold)


def threshold_of(cosine: float) -> float:
    """Return its threshold for a cosine."""
    return 1 - (1 - cosine) / 2


def play(stream: Stream, embedder: Memo, threshold: float) -> list[int | None]:
    """Return for each request of `stream` which earlier one answered it, None for none."""
    vectors = np.stack([dense(vector) for vector in embedder.embed([text for text, _ in stream])])
    with TemporaryDirectory() as folder:
        path = Path(folder) / "stream.npz"
        np.savez(path, vectors=vectors)
        drive = Path(__file__).with_name("drive_gptcache.py")
        done = subprocess.run(
            [str(_python()), "-P", str(drive), str(path), str(threshold)],
            check=True,
            stdout=subprocess.PIPE,
            cwd=folder,
        )
    served: list[int | None] = json.loads(done.stdout)
    return served


def _python() -> Path:
    python = _HOME / "bin" / "python"
    if not (_HOME / "ready").exists():
        say("setting up GPTCache (about 90 MB, once)")
        subprocess.run([str(ROOT / "scripts" / "environment"), sys.executable, str(_HOME)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, f"gptcache=={VERSION}", f"numpy=={NUMPY}"], check=True, stdout=sys.stderr)
        (_HOME / "ready").touch()
    return python
