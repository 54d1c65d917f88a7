from itertools import pairwise

import pytest
import yaml

from penstock.config.loader import load_mapping
from penstock.core.errors import ConfigError

HEAD = """\
providers: [{name: sim, kind: simulated}, {name: near, kind: ollama}]
models:
"""


def model(name, **fallbacks):
    inner = ", ".join(f"{key}: {value}" for key, value in fallbacks.items())
    return f'  - {{name: "{name}", targets: [{{provider: sim, model: sim}}], fallbacks: {{{inner}}}}}\n'


def problems(loading, *models, tail=""):
    with pytest.raises(ConfigError) as caught:
        loading(HEAD + "".join(models) + tail)
    return [str(each) for each in caught.value.problems or (caught.value,)]


def test_all_of_it_loads(loading):
    loaded = loading(
        HEAD
        + model("small", context_window="[big]", content_policy="[near/x]", errors="[big, 'sim/other']", timeout_s=3)
        + model("big", errors="[]", templates="[{when: {tag: x}, answer: 'No {question}. {\"json\": 1}'}]")
        + model("gpt-*", errors="[small]")
        + "fallbacks: {timeout_s: 5, templates: [{when: {operation: ask}, answer: Later.}]}\n"
    )
    small = loaded.settings.models[0].fallbacks
    assert (small.context_window, small.content_policy) == (["big"], ["near/x"])
    assert (small.errors, small.timeout_s) == (["big", "sim/other"], 3)
    assert loaded.settings.fallbacks.timeout_s == 5
    assert loaded.settings.models[1].fallbacks.templates[0].when.tag == "x"


def test_nothing_by_default(loading):
    settings = loading("models: [{name: a, targets: [{provider: simulated}]}]").settings
    assert settings.models[0].fallbacks is None
    assert settings.fallbacks.templates == []
    assert settings.fallbacks.timeout_s is None


@pytest.mark.parametrize("cause", ["context_window", "content_policy", "errors"])
def test_unknown_models_are_named_with_file_and_line(loading, cause):
    first, second = problems(loading, model("small", **{cause: "[bgi, 'who/x']"}), model("big"))
    assert first == (
        f"penstock.yaml:3: models[0].fallbacks.{cause}[0]: there is no model named 'bgi', did you mean 'big'? "
        "(expected the name of a configured model, or provider/model)"
    )
    assert second.startswith(f"penstock.yaml:3: models[0].fallbacks.{cause}[1]: there is no model named 'who/x'")


def test_a_pattern_is_no_model(loading):
    assert "there is no model named 'gpt-4'" in problems(loading, model("a", errors="[gpt-4]"), model("gpt-*"))[0]
    assert "there is no model named 'gpt-*'" in problems(loading, model("a", errors="['gpt-*']"), model("gpt-*"))[0]


@pytest.mark.parametrize(
    ("models", "circle", "line"),
    [
        ([("a", "[a]")], "a › a", 3),
        ([("a", "[b]"), ("b", "[a]")], "a › b › a", 4),
        ([("x", "[a]"), ("a", "[b]"), ("b", "[d, c]"), ("c", "[a]"), ("d", "[]")], "a › b › c › a", 6),
    ],
)
def test_circles_are_refused_where_they_close(loading, models, circle, line):
    found = problems(loading, *(model(name, errors=others) for name, others in models))
    assert len(found) == 1
    assert found[0].startswith(f"penstock.yaml:{line}: models[{line - 3}].fallbacks.errors[")
    assert f"a circle: {circle} (expected a model that does not lead back here)" in found[0]


def test_two_ways_to_one_model_are_no_circle(loading):
    models = [model("a", errors="[b, c]"), model("b", errors="[d]"), model("c", errors="[d]"), model("d")]
    assert len(loading(HEAD + "".join(models)).settings.models) == 4


def test_neither_are_two_models_that_help_each_other_with_different_things(loading):
    assert loading(HEAD + model("small", context_window="[big]") + model("big", errors="[small]"))


def test_chains_are_bounded(loading):
    names = [f"m{number}" for number in range(12)]
    models = [model(name, errors=f"[{after}]") for name, after in pairwise(names)]
    found = problems(loading, *models, model(names[-1]))
    assert found == [
        "penstock.yaml:3: models[0].fallbacks: 11 models to fall back to, through others too (expected at most 10)"
    ]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{when: {}, answer: x}", "an operation, a tag, or both"),
        ("{answer: x}", "when is missing"),
        ("{when: {tag: x}}", "answer is missing"),
        ("{when: {tag: x}, answer: ''}", "some text"),
        ("{when: {tag: x}, answer: 'Hi {name}'}", "in braces one of question, model, operation, request_id, not name"),
        ("{when: {tags: x}, answer: x}", "unknown key 'tags', did you mean 'tag'?"),
    ],
)
def test_templates_are_checked(loading, template, expected):
    found = problems(loading, model("a"), tail=f"fallbacks: {{templates: [{template}]}}\n")
    assert len(found) == 1
    assert found[0].startswith("penstock.yaml:4: ")
    assert expected in found[0]


@pytest.mark.parametrize("odd", ["3", "[a, 3]", "{errors: a}", "{errors: [[a]]}", "[]", "{timeout_s: 0}"])
def test_wrong_shapes_are_said_once(odd):
    entry = {"name": "a", "targets": [{"provider": "simulated"}]}
    with pytest.raises(ConfigError):
        load_mapping({"models": [{**entry, "fallbacks": yaml.safe_load(odd)}]}, environ={}, probe=False)
