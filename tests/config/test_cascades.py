import pytest

from penstock.cli.serve import answers
from penstock.config.loader import load_mapping
from penstock.core.errors import ConfigError
from penstock.making import rules

HEAD = """\
providers: [{name: sim, kind: simulated}]
models:
  - {name: small, targets: [{provider: sim, model: s}]}
  - {name: large, targets: [{provider: sim, model: l}]}
"""


def problems(loading, cascade, head=HEAD):
    with pytest.raises(ConfigError) as caught:
        loading(f"{head}  - {{name: smart, cascade: {cascade}}}\n")
    return [str(each) for each in caught.value.problems or (caught.value,)]


def test_a_name_is_a_model_and_a_filter_may_stand_anywhere_before_the_last(loading):
    loaded = loading(
        HEAD
        + """\
  - name: smart
    cascade:
      stages:
        - filter:
            name: greeting
            rules: [{words: [hello, good morning]}, {pattern: '\\d', score: -1}]
            answer: "Hello, ask me something."
        - filter: {name: hard, rules: [{pattern: '(?i)prove'}], below: 0.5, skip_to: small}
        - small
        - model: sim/other
      max_error: 0.1
      loss_usd: 0.05
"""
    )
    cascade = rules(loaded.settings)[2].cascade
    assert [stage.name for stage in cascade.stages] == ["greeting", "hard", "small", "sim/other"]
    greeting, hard = cascade.stages[0].filter, cascade.stages[1].filter
    assert (greeting.at_least, greeting.below, greeting.rules[1].score) == (1.0, None, -1)
    assert (hard.at_least, hard.below, hard.skip_to) == (None, 0.5, "small")
    assert (cascade.max_error, cascade.confidence, str(cascade.loss_usd)) == (0.1, 0.95, "0.05")
    assert answers(loaded)["smart"] == "greeting, then hard, then small, then sim/other"


def test_a_kind_named_by_a_stage_is_a_provider():
    config = {"models": [{"name": "smart", "cascade": {"stages": ["openai/gpt-4o-mini", "openai/gpt-4o"]}}]}
    loaded = load_mapping(config, environ={"OPENAI_API_KEY": "sk-x"}, probe=False)
    assert [provider.name for provider in loaded.settings.providers] == ["openai"]


@pytest.mark.parametrize(
    ("cascade", "said"),
    [
        (
            "{stages: [smal, large]}",
            "penstock.yaml:5: models[2].cascade.stages[0]: there is no model named 'smal', did you mean 'small'? "
            "(expected the name of a configured model, or provider/model)",
        ),
        ("{stages: [{model: nobody/x}, large]}", "models[2].cascade.stages[0].model: there is no model named"),
        (
            "{stages: [smart, large]}",
            "models[2].cascade.stages[0]: 'smart' is a cascade itself (expected a model with targets)",
        ),
        ("{stages: [large]}", "models[2].cascade: not usable (expected two stages or more; one model alone is a model"),
        ("{stages: []}", "models[2].cascade.stages: got a list (expected at least one entry)"),
        ("{}", "models[2].cascade: stages is missing"),
        ("{stages: [small, small]}", "expected each stage once; 'small' is there twice"),
        (
            "{stages: [large, {filter: {rules: [{words: [x]}], answer: A.}}]}",
            "expected a model as the last stage, for what no filter decides",
        ),
        ("{stages: [{filter: {rules: [{words: [x]}], skip_to: small}}, large]}", "expected skip_to to name a later"),
        ("{stages: [{filter: {rules: [{words: [x]}]}}, large]}", "expected either answer or skip_to"),
        ("{stages: [{filter: {rules: [], answer: A.}}, large]}", "expected at least one entry"),
        ("{stages: [{filter: {rules: [{pattern: '('}], answer: A.}}, large]}", "a regular expression: missing )"),
        ("{stages: [{filter: {rules: [{score: 2}], answer: A.}}, large]}", "expected either words or a pattern"),
        ("{stages: [{filter: {rules: [{words: ['']}], answer: A.}}, large]}", "expected words that are not empty"),
        (
            "{stages: [{filter: {rules: [{words: [x]}], answer: A., below: 1, at_least: 2}}, large]}",
            "expected either at_least or below",
        ),
        ("{stages: [{}, large]}", "expected either model or filter"),
        ("{stages: [small, large], max_error: 0}", "max_error: got 0 (expected more than 0"),
        ("{stages: [small, large], max_errors: 0.1}", "unknown key 'max_errors', did you mean 'max_error'?"),
        ("{stages: [small, large], audits: 5}", "audits: got 5 (expected at most 1"),
        ("{stages: [small, large], labels: [judge]}", "expected both judge in labels and judge.model, or neither"),
        ("{stages: [small, large], judge: {model: larg}, labels: [judge]}", "there is no model named 'larg'"),
        ("{stages: [small, large]}, targets: [{provider: sim}]", "models[2]: not usable (expected either targets or a"),
        ("{stages: [small, large]}, hedge: true", "models[2]: not usable (expected no hedge or strategy beside"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(loading, cascade, said):
    assert any(said in each and "penstock.yaml:5" in each for each in problems(loading, cascade))


def test_a_pattern_is_no_cascade(loading):
    with pytest.raises(ConfigError, match=r"models\[2\].cascade: a cascade needs a name of its own"):
        loading(f"{HEAD}  - {{name: 'smart-*', cascade: {{stages: [small, large]}}}}\n")


def test_a_model_without_targets_and_cascade_leads_nowhere(loading):
    with pytest.raises(ConfigError, match=r"models\[0\]: not usable \(expected either targets or a cascade\)"):
        loading("models: [{name: a}]")
