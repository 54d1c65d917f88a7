"""Pages that describe tables in the source name all of their rows."""

import re
from pathlib import Path

import pytest

from penstock.config.kinds import ROWS
from penstock.server import controls
from penstock.server.openapi import OPERATIONS

DOCS = Path(__file__).parents[2] / "docs"
SOURCE = Path(__file__).parents[2] / "src" / "penstock"
HTTP = (DOCS / "reference" / "http.md").read_text()


def test_the_guide_to_providers_has_each_kind_with_its_dialect():
    rows = re.findall(r"^\| (\w+) \| (`.*?) \|", (DOCS / "guides" / "providers.md").read_text(), re.MULTILINE)
    described = {name: row[0] for row in rows for name in re.findall(r"`([\w-]+)`", row[1])}
    names = {"openai": "OpenAI", "anthropic": "Anthropic", "ollama": "Ollama", "simulated": "none"}
    assert {row.name: names[row.dialect] for row in ROWS}.items() <= described.items()


@pytest.mark.parametrize("path", sorted({operation.path for operation in OPERATIONS}))
def test_the_http_page_has_each_path(path):
    shortened = path.replace("{completion_id}", "{id}").replace("{model}", "{name}")
    assert any(form in HTTP for form in (shortened, f"…{shortened.removeprefix('/v1/chat/completions')}"))


@pytest.mark.parametrize("name", sorted(name for name in controls.WANTED if name.startswith((b"x-", b"auth"))))
def test_the_http_page_has_each_header_that_is_read(name):
    assert name.decode() in HTTP.lower()


def test_the_http_page_has_each_code():
    text = "".join(path.read_text() for path in SOURCE.rglob("*.py"))
    codes = set(re.findall(r'code(?:: str)? ?= ?"(\w+)"', text))
    settings_only = {"invalid_config", "store_corrupt", "refused"}
    assert {code for code in codes - settings_only if f"`{code}`" not in HTTP} == set()
