import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from penstock.config.reference import reference
from penstock.config.schema import json_schema
from penstock.config.section import Section
from penstock.config.settings import Settings

EXAMPLE = """
level: high
server: {port: "${PORT:-4141}"}
providers:
  - {name: openai, kind: openai, api_key: "${OPENAI_API_KEY}"}
  - {name: sim, kind: simulated, latency: {first_token_s: 0.05, tokens_per_s: 200}}
models:
  - {name: "*", targets: [{provider: sim, model: sim}]}
"""


def test_the_schema_is_draft_2020_12_and_accepts_what_loads():
    schema = json.loads(json.dumps(json_schema()))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(EXAMPLE))


@pytest.mark.parametrize(
    "wrong",
    [
        {"servr": {}},
        {"server": {"port": 70000}},
        {"server": {"port": "x"}},
        {"providers": [{"name": "a", "kind": "no"}]},
    ],
)
def test_the_schema_refuses_what_does_not_load(wrong):
    assert list(jsonschema.Draft202012Validator(json_schema()).iter_errors(wrong))


def test_every_setting_is_described():
    undescribed = [
        f"{section.__name__}.{name}"
        for section in (Settings, *Section.__subclasses__())
        for name, field in section.model_fields.items()
        if not field.description
    ]
    assert undescribed == []


def test_the_reference_page_is_up_to_date():
    page = Path(__file__).parents[2] / "docs/reference/configuration.md"
    assert page.read_text(encoding="utf-8") == reference(), (
        "run: penstock config schema --markdown > docs/reference/configuration.md"
    )
