"""Answers that have not the form that was asked for are never served."""

import pytest

from penstock.routing.cascade.answers import Answer
from penstock.routing.cascade.forms import Form

PERSON = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "age": {"type": ["integer", "null"]},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}},
    },
}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(" \n"), "empty"),
        (Answer("Once upon", finish_reason="length"), "cut off"),
        (Answer("…", finish_reason="content_filter"), "filtered"),
        (Answer("not {json", form=Form(json=True)), "not JSON"),
        (Answer("[" * 100_000, form=Form(json=True)), "not JSON"),
        (Answer("{}", form=Form(schema=PERSON)), "schema"),
        (Answer('{"name": 5}', form=Form(schema=PERSON)), "schema"),
        (Answer('{"name": "A", "age": true}', form=Form(schema=PERSON)), "schema"),
        (Answer('{"name": "A", "tags": ["c"]}', form=Form(schema=PERSON)), "schema"),
        (Answer("hot", form=Form(choices=("Warm", "Cold"))), "none of the choices"),
    ],
)
def test_faults_are_named_without_the_text(answer: Answer, said: str):
    fault = answer.fault()
    assert fault is not None
    assert said in fault


@pytest.mark.parametrize(
    "answer",
    [
        Answer("Paris."),
        Answer('{"a": 1}', form=Form(json=True)),
        Answer('{"name": "A", "age": null, "tags": ["a"], "more": 1}', form=Form(schema=PERSON)),
        Answer(
            '{"a": [1]}', form=Form(schema={"type": 5, "enum": 5, "required": 5, "properties": {"a": {"items": 5}}})
        ),
        Answer(" warm. ", form=Form(choices=("Warm", "Cold"))),
    ],
)
def test_answers_of_the_right_form_have_no_fault(answer: Answer):
    assert answer.fault() is None
