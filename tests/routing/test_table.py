from decimal import Decimal

import pytest

from penstock.core.cascade import Cascade, Filter, FilterRule, Stage
from penstock.core.errors import InvalidRequest
from penstock.core.route import Target
from penstock.routing.table import RouteTable, Rule

PROVIDERS = {"near": b"one", "far": b"two"}


def table(*names, providers=PROVIDERS, **rules):
    rows = [Rule(name, (Target("near", name.replace("*", "any")),)) for name in names]
    return RouteTable([*rows, *(Rule(name, targets) for name, targets in rules.items())], providers)


def model_of(routes, name):
    return routes.resolve(name).targets[0].model


def test_a_literal_name_wins_over_everything():
    routes = table("near/gpt", "near/*", "*")
    assert model_of(routes, "near/gpt") == "near/gpt"


def test_provider_and_model_come_before_patterns():
    route = table("*", "near/*").resolve("far/some/model")
    assert route.targets == (Target("far", "some/model"),)
    assert route.model == "far/some/model"


def test_of_patterns_the_most_specific_wins_whatever_their_order():
    for names in (("*", "gpt-*", "gpt-4*", "*-mini"), ("*-mini", "gpt-4*", "gpt-*", "*")):
        routes = table(*names)
        assert routes.patterns[-1] == "*"
        assert model_of(routes, "gpt-4o") == "gpt-4any"
        assert model_of(routes, "gpt-3") == "gpt-any"
        assert model_of(routes, "llama") == "any"


@pytest.mark.parametrize("name", ["unknown/model", "near/", "/model", "x" * 500])
def test_what_is_no_provider_and_model_is_a_name_like_others(name):
    assert model_of(table("*"), name) == "any"


def test_a_pattern_is_text_and_not_a_regular_expression():
    routes = table("a.c*", "(x")
    assert model_of(routes, "a.c") == "a.cany"
    assert model_of(routes, "(x") == "(x"
    with pytest.raises(InvalidRequest):
        routes.resolve("abc")


def test_a_star_as_the_targets_model_is_the_clients_name():
    routes = table(**{"gpt-*": (Target("near", "*"), Target("far", "fixed"))})
    assert [target.model for target in routes.resolve("gpt-4o").targets] == ["gpt-4o", "fixed"]


def test_an_unknown_name_is_refused_with_the_known_ones_and_the_nearest():
    with pytest.raises(InvalidRequest) as caught:
        table("fast", "clever").resolve("fats")
    error = caught.value
    assert (error.status_code, error.code, error.param) == (404, "model_not_found", "model")
    assert "Did you mean 'fast'? Known models: fast, clever" in error.message
    assert "providers far, near" in error.message


@pytest.mark.parametrize("name", ["", "x" * 501, "near/" + "x" * 500, "y" * 10_000_000])
def test_empty_and_endless_names_are_refused_and_not_remembered(name):
    with pytest.raises(InvalidRequest) as caught:
        table("*").resolve(name)
    assert len(caught.value.message) < 1000


def test_the_identity_depends_on_targets_and_on_what_providers_answer():
    def identity(name="m", providers=PROVIDERS, **rules):
        return table(providers=providers, **rules).resolve(name).identity

    one, other = (Target("near", "a"),), (Target("near", "b"),)
    assert identity(m=one) == identity(m=one)
    assert identity(m=one) == identity("n", n=one), "the client's name for it does not matter"
    assert identity(m=one) == identity(m=(Target("near", "a", weight=5, order=2, timeout_s=1),))
    assert identity(m=one) != identity(m=other)
    assert identity(m=one) != identity(m=one, providers={"near": b"moved", "far": b"two"})
    assert identity(m=(*one, *other)) != identity(m=(*other, *one))
    assert identity(m=(Target("near", "a"),)) != identity(m=(Target("far", "a"),))
    assert identity(m=(Target("near", "*"),)) != identity("n", n=(Target("near", "*"),))


def test_what_a_rule_says_of_caching_and_time_is_in_the_route():
    rule = Rule("m", (Target("near", "a"),), strategy="weighted", cache_ttl_s=0.0, timeout_s=2.0)
    route = RouteTable([rule], PROVIDERS).resolve("m")
    assert (route.strategy, route.cache_ttl_s, route.timeout_s) == ("weighted", 0.0, 2.0)


def test_more_names_than_are_remembered_all_resolve():
    routes = table("*")
    first = routes.resolve("name-0")
    assert routes.resolve("name-0") is first
    for number in range(3000):
        assert routes.resolve(f"name-{number}").model == f"name-{number}"
    assert routes.resolve("name-0") == first


def cascade_of(small="small", **terms):
    greeting = Filter((FilterRule(("hello",)),), at_least=1.0, answer=terms.pop("answer", "Hello."))
    terms.setdefault("max_error", 0.02)
    return Cascade((Stage("greeting", greeting), Stage(small), Stage("large")), **terms)


def with_cascade(cascade, providers=PROVIDERS, small="s"):
    large = (Target("far", "l"), Target("near", "s"))
    return RouteTable(
        [Rule("small", (Target("near", small),)), Rule("large", large), Rule("smart", (), cascade=cascade)], providers
    ).resolve("smart")


def test_a_cascade_has_the_routes_of_its_models_and_all_their_targets():
    route = with_cascade(cascade_of())
    assert [leg.model for leg in route.legs] == ["small", "large"]
    assert route.targets == (Target("near", "s"), Target("far", "l"))
    assert route.cascade.stages[0].route is None


def test_what_decides_a_cascades_answers_decides_its_identity():
    own = with_cascade(cascade_of()).identity
    assert own == with_cascade(cascade_of(audits=0.5)).identity, "how it learns changes no answer"
    others = [
        with_cascade(cascade_of("near/s")),
        with_cascade(cascade_of(answer="Hi.")),
        with_cascade(cascade_of(max_error=0.03)),
        with_cascade(cascade_of(confidence=0.9)),
        with_cascade(cascade_of(loss_usd=Decimal(1))),
        with_cascade(cascade_of(), small="other"),
        with_cascade(cascade_of(), providers={**PROVIDERS, "far": b"elsewhere"}),
    ]
    assert len({own, *(each.identity for each in others)}) == 8
    assert own.hex().startswith("8f9d67d866193ed7"), "the same in every process"
