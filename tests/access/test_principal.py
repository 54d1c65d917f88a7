import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.access.principal import ModelRule, Principal, Role

PATTERN = st.text("ab*/", min_size=1, max_size=6)


@pytest.mark.parametrize(
    ("pattern", "model", "allowed"),
    [
        ("gpt-4o", "gpt-4o", True),
        ("gpt-4o", "gpt-4o-mini", False),
        ("gpt-4*", "gpt-4o-mini", True),
        ("gpt-4*", "openai/gpt-4o", False),
        ("*/gpt-4o", "openai/gpt-4o", True),
        ("*", "any/thing\n", True),
        ("gpt.4", "gpt-4", False),
        ("GPT-4", "gpt-4", False),
    ],
)
def test_patterns(pattern, model, allowed):
    assert ModelRule(["other", pattern]).allows(model) is allowed


@given(PATTERN, PATTERN, st.data())
def test_what_a_rule_contains_it_allows(outer, inner, data):
    rule = ModelRule([outer])
    model = "".join(data.draw(st.text("ab/c", max_size=4)) if char == "*" else char for char in inner)
    if rule.contains([inner]):
        assert rule.allows(model)
    elif rule.allows(model):
        # Something of it is not allowed: a star filled with what no pattern names.
        assert not rule.allows(inner.replace("*", "z"))


def test_a_key_may_ask_for_what_it_and_its_team_allow():
    key = Principal("acme/search", models=(ModelRule(["gpt-4*", "o3"]), ModelRule(["gpt-4o*"])))
    assert key.may_ask("gpt-4o-mini")
    assert not key.may_ask("o3")
    assert not key.may_ask("gpt-4")
    assert Principal("acme").may_ask("anything")


@pytest.mark.parametrize(
    ("role", "tenant", "covered"),
    [
        (Role.ROOT, "other/team", True),
        (Role.ADMIN, "acme/other", True),
        (Role.ADMIN, "acme", True),
        (Role.ADMIN, "acme2/search", False),
        (Role.USER, "acme/search", True),
        (Role.USER, "acme/other", False),
        (Role.VIEWER, "acme", False),
    ],
)
def test_what_belongs_to_whom(role, tenant, covered):
    assert Principal("acme/search", role=role).covers(tenant) is covered
