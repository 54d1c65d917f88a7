"""What variables take."""

import pytest

from penstock.core.errors import InvalidRequest
from penstock.core.prompt import Variable
from penstock.prompts.values import fill_in

DECLARED = {
    "text": Variable("string", max_length=3),
    "whole": Variable("integer", required=False),
    "number": Variable("number", required=False, default=1.5),
    "flag": Variable("boolean", required=False, default=False),
    "items": Variable("list", required=False, max_length=2),
    "thing": Variable("object", required=False, max_length=1),
    "kind": Variable("enum", required=False, values=("a", "b")),
}


def test_what_is_not_given_is_the_default_or_nothing():
    filled = fill_in(DECLARED, {"text": "x"}, "p@1")
    assert filled == {
        "text": "x", "whole": None, "number": 1.5, "flag": False, "items": None, "thing": None, "kind": None
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [("text", ""), ("text", "äöü"), ("whole", -3), ("number", 2), ("number", 0.1), ("flag", True), ("items", [1, None]),
     ("thing", {"a": [1]}), ("kind", "b"), ("kind", None)],
)  # fmt: skip
def test_what_fits_is_taken_as_it_is(name, value):
    assert fill_in(DECLARED, {"text": "x", name: value}, "p@1")[name] == value


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("text", "four", "expected at most 3 characters"),
        ("text", 1, "expected a string, got an integer"),
        ("whole", 1.0, "expected a whole number, got a number"),
        ("whole", True, "expected a whole number, got a boolean"),
        ("number", "1", "expected a finite number, got a string"),
        ("number", float("inf"), "expected a finite number"),
        ("number", False, "got a boolean"),
        ("flag", 0, "expected true or false, got an integer"),
        ("items", {}, "expected a list, got an object"),
        ("items", [1, 2, 3], "expected at most 2 items"),
        ("thing", [], "expected an object, got a list"),
        ("thing", {"a": 1, "b": 2}, "expected at most 1 keys"),
        ("kind", "c", "expected one of a, b"),
        ("kind", ["a"], "expected a string, got a list"),
    ],
)
def test_what_does_not_fit_is_refused_and_not_shown(name, value, said):
    with pytest.raises(InvalidRequest, match=said) as caught:
        fill_in(DECLARED, {"text": "x", name: value}, "p@1")
    assert (caught.value.code, caught.value.param) == ("prompt_variable_invalid", f"prompt.variables.{name}")


def test_what_is_missing_and_what_is_unknown_is_named():
    with pytest.raises(InvalidRequest, match="p@1 needs the variable 'text'") as caught:
        fill_in(DECLARED, {}, "p@1")
    assert (caught.value.code, caught.value.param) == ("prompt_variable_missing", "prompt.variables.text")
    with pytest.raises(InvalidRequest, match="no variable 'txt'; did you mean 'text'") as caught:
        fill_in(DECLARED, {"txt": "x"}, "p@1")
    assert caught.value.code == "prompt_variable_unknown"
