"""What the documentation shows works: its programs run, its configurations load."""

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from penstock.config.loader import load

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FRAGMENT = "<!-- fragment -->"
"""On the line before a block that is only a part: its syntax is checked, nothing more."""
ADDRESS = "http://127.0.0.1:4141"
_BLOCK = re.compile(
    r"(?P<before>^[^\n]*\n)?^(?P<indent> *)```(?P<language>\w+)[^\n]*\n(?P<text>.*?)^(?P=indent)```", re.M | re.S
)
_VARIABLE = re.compile(r"\$\{(\w+)\}|os\.environ/(\w+)")
RUN = """
import json, sys
names = {"__name__": "__main__"}
for path, line, text in json.load(sys.stdin):
    exec(compile("\\n" * line + text, path, "exec"), names)
"""


class Block(NamedTuple):
    page: Path
    line: int
    language: str
    text: str
    fragment: bool

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    source = page.read_text()
    return [
        Block(
            page,
            source.count("\n", 0, found.start("text")),
            found["language"],
            textwrap.dedent(found["text"]),
            FRAGMENT in (found["before"] or ""),
        )
        for found in _BLOCK.finditer(source)
    ]


SHOWN = [block for page in PAGES for block in blocks(page)]
PROGRAMS = {
    str(page.relative_to(ROOT)): [block for block in SHOWN if block.page == page and block.language == "python"]
    for page in PAGES
}


@pytest.mark.parametrize("page", [page for page, programs in PROGRAMS.items() if programs])
def test_programs_run(page, shared_gateway, tmp_path):
    programs = PROGRAMS[page]
    for block in programs:
        compile(block.text, str(block), "exec")
    given = [
        (str(block.page), block.line, block.text.replace(ADDRESS, shared_gateway.url))
        for block in programs
        if not block.fragment
    ]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=50,
        cwd=tmp_path,
        env={**os.environ, "OPENAI_BASE_URL": f"{shared_gateway.url}/v1", "OPENAI_API_KEY": "any"},
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("block", [block for block in SHOWN if block.language == "yaml"], ids=str)
def test_configurations_load(block, tmp_path):
    assert isinstance(yaml.safe_load(block.text), dict)
    if block.fragment:
        return
    path = tmp_path / "penstock.yaml"
    path.write_text(block.text)
    environ = {name: f"value-of-{name}" for pair in _VARIABLE.findall(block.text) for name in pair if name}
    loaded = load(path, environ=environ, probe=False)
    assert loaded.settings.models
    assert loaded.settings.providers


def test_the_readme_shows_both_ways():
    shown = "".join(block.text for block in PROGRAMS["README.md"])
    assert "from openai import" in shown
    assert "from penstock import" in shown


def test_no_block_escapes_by_another_name():
    assert not {block.language.lower() for block in SHOWN} & {"py", "python3", "pycon", "yml"}
