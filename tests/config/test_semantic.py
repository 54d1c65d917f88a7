from decimal import Decimal

import pytest
from pydantic import ValidationError

from penstock.config.caches import CacheSettings
from penstock.config.semantic import SemanticCacheSettings


def test_it_is_off_and_promises_one_in_a_hundred_by_default():
    settings = SemanticCacheSettings()
    assert (settings.mode, settings.max_error, settings.embedder.kind) == ("off", 0.01, "lexical")
    assert (settings.labels, settings.judge) == (["exact", "rule", "answers"], None)


def test_a_judge_and_an_embedder_are_named():
    settings = SemanticCacheSettings.model_validate({
        "mode": "on", "max_error": 0.02, "labels": ["exact", "judge"],
        "embedder": {"kind": "onnx", "path": "minilm", "threads": 2},
        "judge": {"model": "smart", "usd_per_day": 0.5},
    })  # fmt: skip
    assert (settings.judge.model, settings.judge.per_minute) == ("smart", 30)
    assert settings.judge.usd_per_day == Decimal("0.5")


@pytest.mark.parametrize("embedder", [
    {"kind": "onnx", "model": "minilm-l6"}, {"kind": "provider", "model": "text-embedding-3-small"}, {},
])  # fmt: skip
def test_each_embedder_needs_only_what_it_uses(embedder):
    assert SemanticCacheSettings.model_validate({"embedder": embedder}).embedder.kind == embedder.get("kind", "lexical")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mode": "yes"}, "'off', 'shadow' or 'on'"),
        ({"max_error": 0}, "greater than 0"),
        ({"max_error": 0.5}, "less than 0.5"),
        ({"audit": 0}, "greater than 0"),
        ({"labels": []}, "at least 1"),
        ({"labels": ["rule", "exact", "rule"]}, "rule is there twice"),
        ({"labels": ["exact", "judge"]}, "both judge in labels and judge.model"),
        ({"judge": {"model": "smart"}}, "both judge in labels and judge.model"),
        ({"labels": ["judge"], "judge": {"model": "m", "usd_per_day": -1}}, "greater than or equal to 0"),
        ({"embedder": {"kind": "onnx"}}, "either path or model for an embedder of kind onnx"),
        ({"embedder": {"kind": "onnx", "path": "a", "model": "b"}}, "either path or model"),
        ({"embedder": {"kind": "provider"}}, "model for an embedder of kind provider"),
        ({"embedder": {"kind": "lexical", "model": "b"}}, "no model for an embedder of kind lexical"),
        ({"embedder": {"kind": "provider", "model": "b", "threads": 2}}, "threads with an embedder of kind onnx only"),
        ({"embedder": {"path": "b"}}, "path with an embedder of kind onnx only, not lexical"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(settings, said):
    with pytest.raises(ValidationError) as caught:
        SemanticCacheSettings.model_validate(settings)
    assert said in str(caught.value)


def test_what_recurs_is_renewed_only_where_that_is_wanted():
    assert CacheSettings().refresh is None
    terms = CacheSettings.model_validate({"refresh": True}).refresh
    assert (terms.least, terms.per_minute, terms.horizon_s) == (0.5, 6, 60.0)
    for wrong, said in (
        ({"refresh": {"per_minute": 0}}, "greater than or equal to 1"),
        ({"refresh": True, "exact": {"enabled": False}}, "refresh only with exact.enabled"),
        ({"warm": [{"file": "faq.jsonl"}], "exact": {"enabled": False}}, "warm only with exact.enabled"),
    ):
        with pytest.raises(ValidationError, match=said):
            CacheSettings.model_validate(wrong)
