"""What the project promises about itself."""

import importlib
import re
import statistics
import subprocess
import sys
from pathlib import Path

import penstock

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "src" / "penstock").rglob("*.py"))
LONGEST, MEDIAN = 500, 120


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_files_stay_small():
    sizes = {path.relative_to(ROOT): lines(path) for path in SOURCES}
    assert not {path: size for path, size in sizes.items() if size > LONGEST}
    assert statistics.median(sizes.values()) <= MEDIAN


def test_every_exported_name_exists_and_importing_is_lazy():
    for name in penstock.__all__:
        assert getattr(penstock, name).__name__ == name
    loaded = "import sys, penstock; print(*(name for name in sys.modules if name.startswith(('penstock', 'pydantic'))))"
    names = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout.split()
    assert names == ["penstock"]


def test_nothing_dangerous_in_the_source():
    forbidden = re.compile(r"\b(pickle|marshal|shelve)\b|\beval\(|\bexec\(|shell=True|yaml\.load\(")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in SOURCES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if forbidden.search(line)
    ]
    assert not found


def test_every_module_imports():
    for path in SOURCES:
        parts = path.relative_to(ROOT / "src").with_suffix("").parts
        if "versions" in parts or parts[-1] in ("__main__", "env"):
            continue
        importlib.import_module(".".join(parts).removesuffix(".__init__"))


def test_tracked_files_name_no_registry_and_no_machine():
    words = ["py" + "pi.org", "python" + "hosted", "registry." + "npmjs", "deb." + "debian.org"]
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, tracked.split("\0")):
        path = ROOT / name
        if path.suffix in (".png", ".gz") or not path.exists():
            continue
        text = path.read_text(encoding="utf-8")
        assert not [word for word in words if word in text], name
