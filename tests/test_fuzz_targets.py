"""What `make fuzz` runs for long runs here once, on its seeds."""

import subprocess
import sys
from pathlib import Path

CHECK = """\
from fuzz.targets import TARGETS
for target in TARGETS.values():
    for seed in (*target.seeds, b""):
        for end in {0, len(seed) // 2, len(seed)}:
            target.check(seed[:end])
print(*TARGETS)
"""


def test_every_target_keeps_its_promise_on_its_seeds():
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-W", "error", "-c", CHECK], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) >= 6
