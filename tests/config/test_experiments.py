"""What the configuration may say of experiments, and what it is told when it may not."""

import pytest

from penstock.config.experiments import compared
from penstock.config.loader import load_mapping
from penstock.core.errors import ConfigError

TONE = {
    "name": "tone",
    "arms": [{"name": "plain"}, {"name": "warm", "set": {"parameters": {"temperature": 0.9}}}],
    "primary": {"metric": "cost_usd"},
}


def loaded(*experiments):
    return compared(load_mapping({"experiments": list(experiments), "providers": [{"kind": "simulated", "name": "s"}]})
                    .settings.experiments)  # fmt: skip


def test_defaults():
    (tone,) = loaded({**TONE, "metrics": [{"metric": "error"}, {"metric": "score.liked"}], "bandit": True})
    assert (tone.primary.direction, tone.primary.bounds) == ("lower", None)
    assert [(metric.direction, metric.bounds) for metric in tone.metrics] == [("lower", (0.0, 1.0)), ("higher", None)]
    assert tone.weights == {"plain": 0.5, "warm": 0.5}
    assert (tone.bandit.policy, tone.bandit.floor) == ("thompson", 0.1)
    assert [metric.name for metric in tone.measured] == ["cost_usd", "error", "score.liked"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"primary": {"metric": "cost"}}, "score.NAME"),
        ({"primary": {"metric": "score."}}, "score.NAME"),
        ({"primary": {"metric": "cost_usd", "bounds": [1, 0]}}, "lower of the bounds first"),
        ({"arms": TONE["arms"][:1]}, "arms"),
        ({"arms": [{"name": "plain"}, {"name": "warm"}]}, "an arm that sets something"),
        ({"arms": [*TONE["arms"], {"name": "warm"}]}, "each arm's name once"),
        ({"arms": [{"name": "a"}, {"name": "b", "set": {"parameters": {"model": "x"}}}]}, "without model"),
        ({"arms": [{"name": "a"}, {"name": "b", "set": {"prompt": {"version": 2}}}]}, "which prompt is meant"),
        ({"arms": [{"name": "a"}, {"name": "b", "set": {"prompt": {}}}]}, "an id, a version, or both"),
        ({"arms": [{"name": "a"}, {"name": "b", "set": {"colour": "red"}}]}, "unknown key 'colour'"),
        ({"bandit": {"floor": 0.5}, "arms": [*TONE["arms"], {"name": "hot"}]}, "at most 1/3"),
        ({"stop": {"alpha": 0.5}}, "at most 0.2"),
        ({"name": "with spaces"}, "letters, digits"),
        ({"share": 0}, "more than 0"),
    ],
)
def test_what_cannot_be_used_says_why(change, said):
    with pytest.raises(ConfigError) as error:
        loaded({**TONE, **change})
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({}, "tone is there twice"),
        ({"name": "heat"}, "expected tone and heat in the same layer"),
        ({"name": "heat", "layer": "l", "share": 0.7}, "shares of the layer l of at most 1"),
    ],
)
def test_experiments_must_fit_together(other, said):
    first = {**TONE, "layer": "l", "share": 0.5} if "layer" in other else TONE
    with pytest.raises(ConfigError) as error:
        loaded(first, {**TONE, **other})
    assert said.removeprefix("expected ") in str(error.value)


def test_those_of_a_layer_or_of_other_models_fit_together():
    assert len(loaded({**TONE, "layer": "l", "share": 0.5}, {**TONE, "name": "heat", "layer": "l", "share": 0.5})) == 2
    assert len(loaded({**TONE, "who": {"models": ["a"]}}, {**TONE, "name": "heat", "who": {"models": ["b"]}})) == 2


def test_calls_must_be_kept_as_long_as_it_may_run():
    document = {
        "experiments": [TONE],
        "providers": [{"kind": "simulated", "name": "s"}],
        "store": {"retention_days": 7},
    }
    with pytest.raises(ConfigError, match=r"at most store.retention_days \(7\)"):
        load_mapping(document)
    load_mapping({**document, "experiments": [{**TONE, "stop": {"days": 7}}]})
