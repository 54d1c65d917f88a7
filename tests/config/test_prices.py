from decimal import Decimal

import pytest

from penstock.config.loader import load
from penstock.core.errors import ConfigError
from penstock.core.usage import Usage
from penstock.shared import make_pricer

PROVIDERS = """
providers:
  - {name: openai, kind: openai, api_key: k, discount: 0.15}
  - {name: near, kind: ollama}
models: [{name: "*", targets: [{provider: openai}]}]
prices:
"""


def settings(tmp_path, prices):
    file = tmp_path / "penstock.yaml"
    file.write_text(PROVIDERS + prices)
    return load(str(file), probe=False).settings


def test_a_file_says_what_calls_cost(tmp_path):
    pricer = make_pricer(
        settings(
            tmp_path,
            """
  - {model: gpt-4o, until: 2020-01-01, usd_per_million: {input: 99}}
  - {model: "gpt-4o*", since: 2020-01-01, usd_per_million: {input: 0.1, output: 2, cached_input: 0.03}}
  - {provider: near, usd_per_hour: 1.2}
""",
        )
    )
    usage = Usage(2_000_000, 1_000_000, cached_input_tokens=1_000_000)
    assert pricer.cost("openai", "gpt-4o", usage) == (Decimal("2.13"), "provider")
    assert pricer.cost("openai", "gpt-5", Usage(1_000_000))[0] == Decimal("1.25") * Decimal("0.85")
    assert pricer.price("near", "llama").own.usd_per_hour == Decimal("1.2")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{provider: opnai, usd_per_request: 1}", "no provider named 'opnai', did you mean 'openai'"),
        ("{model: x}", "expected a price"),
        ("{usd_per_million: {inptu: 1}}", "did you mean 'input'"),
        ("{usd_per_request: -1}", "at least 0"),
        ("{usd_per_request: true}", "a number"),
        ("{usd_per_request: .nan}", "number"),
        ("{usd_per_request: 1, since: soon}", "a date such as"),
        ("{usd_per_request: 1, since: 2026-02-01, until: 2026-02-01}", "before until"),
    ],
)
def test_mistakes_are_named(tmp_path, entry, message):
    with pytest.raises(ConfigError, match=message):
        settings(tmp_path, f"  - {entry}\n")
