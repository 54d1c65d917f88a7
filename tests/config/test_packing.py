"""Settings on their way to another process of the same gateway."""

import re
from pathlib import Path

import pytest
import yaml

from penstock.config.loader import load_mapping
from penstock.config.packing import pack, unpack
from penstock.core.errors import ConfigError

DOCS = Path(__file__).parents[2] / "docs"


def documented() -> list[dict]:
    """Return every complete configuration of the guides."""
    found = []
    for page in sorted((DOCS / "guides").glob("*.md")):
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL):
            values = yaml.safe_load(block)
            if isinstance(values, dict):
                found.append(values)
    return found


def test_every_documented_configuration_arrives_as_it_left():
    seen = 0
    for values in documented():
        try:
            loaded = load_mapping(values, environ={"OPENAI_API_KEY": "sk-openai"}, probe=False)
        except ConfigError:
            continue  # part of one, or one with variables
        seen += 1
        assert unpack(pack(loaded)) == loaded
    assert seen > 10


@pytest.mark.parametrize("name", ["admin_key", "api_key"])
def test_secrets_arrive_too(name):
    loaded = load_mapping(
        {
            "server": {"admin_key": "sk-admin-0123456789", "keys": [{"key": "sk-client"}]},
            "providers": [{"name": "up", "kind": "openai", "api_key": "sk-up"}],
            "models": [{"name": "fast", "targets": [{"provider": "up", "model": "m"}]}],
            "prices": [{"model": "m", "usd_per_million": {"input": "0.1"}, "since": "2026-01-02"}],
        },
        environ={},
        probe=False,
    )
    arrived = unpack(pack(loaded))
    assert arrived == loaded
    secret = arrived.settings.server.admin_key if name == "admin_key" else arrived.settings.providers[0].api_key
    assert secret.get_secret_value() in ("sk-admin-0123456789", "sk-up")
    assert arrived.settings.prices == loaded.settings.prices
