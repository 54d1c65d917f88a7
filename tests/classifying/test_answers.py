import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.classifying.answers import Form, Unusable

FORM = Form(
    ("hiring", "not relevant"),
    {"urgency": {"type": "string", "enum": ["low", "high"]}, "people": {"type": ["integer", "null"]}},
)
GOOD = {"label": "hiring", "score": 80, "urgency": "high", "people": 3}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(GOOD),
        f"```json\n{json.dumps(GOOD, indent=1)}\n```",
        f"Sure! Here it is:\n\n{json.dumps(GOOD)}\n\nAnything else?",
        f"<think>Is {{this}} hiring? {{}}</think> {json.dumps(GOOD)} as you {{asked}}",
        json.dumps({**GOOD, "label": " Hiring ", "thoughts": "none were asked for"}),
    ],
)
def test_an_answer_is_read_wherever_its_object_is(text):
    opinion = FORM.read(text)
    assert (opinion.label, opinion.score, opinion.fields) == ("hiring", 80.0, {"urgency": "high", "people": 3})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no complete JSON object"),
        ("[1, 2]", "no complete JSON object"),
        (json.dumps(GOOD)[:-1], "no complete JSON object"),
        (json.dumps({**GOOD, "label": "sales"}), '"label" must be one of hiring, not relevant, not "sales"'),
        (json.dumps({**GOOD, "label": None}), "not null"),
        (json.dumps({**GOOD, "score": 101}), '"score" must be a number from 0 to 100, not 101'),
        (json.dumps({**GOOD, "score": True}), "not true"),
        (json.dumps({**GOOD, "score": "high"}), 'not "high"'),
        (json.dumps({**GOOD, "urgency": "soon"}), '"urgency" is "soon"'),
        (json.dumps({**GOOD, "people": True}), '"people" is true'),
        (json.dumps({**GOOD, "people": "x" * 500}), "x…"),
        (json.dumps({name: GOOD[name] for name in GOOD if name != "people"}), '"people" is missing'),
    ],
)
def test_what_cannot_be_used_is_said(text, said):
    with pytest.raises(Unusable) as caught:
        FORM.read(text)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 200


@given(st.text() | st.text('{}":,label[]1 ', max_size=60))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(Unusable):
        assert FORM.read(text).label in FORM.labels


def test_the_schema_and_the_words_name_everything():
    schema = FORM.schema()
    assert schema["required"] == ["label", "score", "urgency", "people"]
    assert schema["properties"]["label"]["enum"] == ["hiring", "not relevant"]
    assert all(f'"{name}"' in FORM.described() for name in schema["properties"])
