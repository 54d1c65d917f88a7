import json
from typing import Literal

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from penstock.providers.simulated.schema import fit

WORDS = ["river", "bridge", "Vienna"]


class Step(BaseModel):
    title: str = Field(min_length=12, max_length=20)
    minutes: int = Field(ge=5, lt=8)
    ratio: float = Field(gt=0, lt=0.5)
    unit: Literal["s", "min"]
    note: str | None


class Plan(BaseModel):
    steps: list[Step] = Field(min_length=2, max_length=3)
    also: list["Plan"] = []
    tags: set[str]
    limits: dict[str, int]
    pair: tuple[int, bool]


TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": ["null", "integer"]},
                "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            },
            "required": ["value", "next"],
        }
    },
}
EXAMPLES = [
    Plan.model_json_schema(),
    TREE,
    True,
    {},
    {"const": {"a": [1]}},
    {"enum": [None, 3, "x"]},
    {"allOf": [{"properties": {"a": {"type": "integer"}}}, {"properties": {"b": {"type": "null"}}, "required": ["b"]}]},
    {"oneOf": [{"type": "string"}, {"type": "integer", "minimum": 4, "maximum": 4}]},
    {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False},
    {"type": "array", "items": {"enum": [1, 2, 3]}, "uniqueItems": True, "minItems": 3},
    {"type": "object", "required": ["x"], "additionalProperties": {"type": "boolean"}, "minProperties": 3},
    {"type": "integer", "multipleOf": 7, "minimum": 10, "maximum": 15},
    {"type": "integer", "maximum": -500},
    {"type": "number", "exclusiveMinimum": 1.5, "exclusiveMaximum": 1.501},
    {"minimum": 3, "maximum": 3},
    {"$ref": "#/definitions/a~1b", "definitions": {"a/b": {"type": "boolean"}}},
    *({"type": "string", "format": name} for name in
      ("date", "date-time", "time", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid", "unknown")),
]  # fmt: skip


@pytest.mark.parametrize("schema", EXAMPLES, ids=lambda schema: json.dumps(schema)[:60])
def test_values_fit_their_schema(schema):
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    for seed in range(20):
        validator.validate(fit(schema, bytes([seed]), WORDS))


def test_a_pydantic_model_accepts_its_value():
    for seed in range(20):
        assert Plan.model_validate(fit(Plan.model_json_schema(), bytes([seed]), WORDS)).steps


def test_the_seed_decides():
    schema = Plan.model_json_schema()
    assert fit(schema, b"1", WORDS) == fit(schema, b"1", WORDS)
    assert fit(schema, b"1", WORDS) != fit(schema, b"2", WORDS)


ENDLESS = {"type": "object", "properties": {"me": {"$ref": "#"}}, "required": ["me"]}
HUGE = {"type": "array", "minItems": 9000, "items": {"type": "array", "minItems": 9000, "items": {}}}


@pytest.mark.parametrize(
    "schema",
    [
        5, False, ENDLESS, HUGE, {"type": "colour"}, {"$ref": "https://example.com/x"}, {"$ref": "#/nowhere"},
        {"$ref": "#"}, {"allOf": [{"$ref": "#"}]}, {"enum": []}, {"anyOf": []}, {"properties": 5, "type": "object"},
        {"type": "integer", "minimum": 5, "maximum": 4}, {"type": "integer", "multipleOf": 0}, {"minLength": 10**9},
        {"type": "number", "minimum": "x"},
    ],
    ids=str,
)  # fmt: skip
def test_an_unusable_schema_is_refused(schema):
    with pytest.raises(ValueError, match="the JSON schema cannot be used"):
        fit(schema, b"", WORDS)


def test_many_recursive_properties_stay_small():
    wide = {"type": "object", "properties": {f"p{number}": {"$ref": "#"} for number in range(60)}}
    assert len(json.dumps(fit(wide, b"", WORDS))) < 200_000


leaves = st.one_of(
    st.just({"type": "string"}),
    st.just({"type": "boolean"}),
    st.builds(
        lambda low, span: {"type": "integer", "minimum": low, "maximum": low + span},
        st.integers(-9, 9),
        st.integers(0, 9),
    ),
    st.builds(lambda values: {"enum": values}, st.lists(st.integers() | st.text(max_size=5), min_size=1, max_size=4)),
)
schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(
            lambda names, low: {"type": "object", "properties": names, "required": sorted(names)[:low]},
            st.dictionaries(st.text(max_size=4), inner, max_size=4), st.integers(0, 4),
        ),
        st.builds(lambda item, low: {"type": "array", "items": item, "minItems": low}, inner, st.integers(0, 3)),
        st.builds(lambda branches: {"anyOf": branches}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=150)
@given(schema=schemas, seed=st.binary(max_size=8))
def test_values_fit_any_schema_of_the_common_keywords(schema, seed):
    jsonschema.Draft202012Validator(schema).validate(fit(schema, seed, WORDS))
