import pytest
from pydantic import ValidationError

from penstock.config.context import ContextSettings, ModelContextSettings, context_terms
from penstock.core.call import Call
from penstock.core.request import Request
from penstock.core.route import ContextTerms, Route, Target

ROUTE = Route("m", (Target("p", "m"),), b"")


def test_nothing_is_cut_by_default():
    assert context_terms(ContextSettings()) == ContextTerms()
    assert ContextSettings().prompt_caching


def test_a_model_says_it_differently():
    common = ContextSettings.model_validate({"mode": "budget", "tokens": 8000, "summary": {"model": "small"}})
    assert context_terms(common) == ContextTerms("budget", 8000, "small")
    own = ModelContextSettings(tokens=500)
    assert context_terms(common, own) == ContextTerms("budget", 500, "small")
    assert context_terms(common, ModelContextSettings(mode="off")) == ContextTerms("off", 8000, "small")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mode": "on"}, "'off', 'budget' or 'aggressive'"),
        ({"tokens": 0}, "greater than or equal to 1"),
        ({"summary": {"model": ""}}, "at least 1"),
        ({"summary": {"tokens": -1}}, "greater than or equal to 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(settings, said):
    with pytest.raises(ValidationError, match=said):
        ContextSettings.model_validate(settings)


def terms(route_terms, **fields):
    route = Route("m", ROUTE.targets, b"", context=route_terms)
    return Request("chat", "m", {}, Call("id"), route=route, **fields).context_terms()


@pytest.mark.parametrize(
    ("configured", "asked", "found"),
    [
        (ContextTerms(), {}, None),
        (ContextTerms("budget", 100), {}, ("budget", 100)),
        (ContextTerms("budget", 100), {"context": "off"}, None),
        (ContextTerms("budget", 100), {"context": "off", "context_tokens": 50}, None),
        (ContextTerms("budget", 100), {"context": "aggressive"}, ("aggressive", 100)),
        (ContextTerms("aggressive", 100), {"context_tokens": 50}, ("aggressive", 50)),
        (ContextTerms("off", 100), {"context": "budget"}, ("budget", 100)),
        (ContextTerms(), {"context_tokens": 50}, ("budget", 50)),
        (ContextTerms(), {"context": "budget"}, ("budget", None)),
    ],
)
def test_a_request_says_it_before_its_model(configured, asked, found):
    in_force = terms(configured, **asked)
    assert (in_force and (in_force.mode, in_force.tokens)) == found
