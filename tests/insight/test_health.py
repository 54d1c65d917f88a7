import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.insight.health import PARTS, assess
from penstock.insight.measures import GAUGES, MEASURES

NAMES = [part.metric for part in PARTS]


def test_nothing_wrong_and_nothing_known_are_both_healthy():
    for measures in ({}, dict.fromkeys(NAMES, 0.0)):
        found = assess(measures.get)
        assert (found.score, found.status, found.bottleneck, found.reason) == (100.0, "healthy", "", "")


def test_what_costs_most_of_the_score_is_named():
    found = assess({**dict.fromkeys(NAMES, 0.0), "error_rate": 0.1, "cpu_share": 1.0}.get)
    assert (found.bottleneck, found.reason) == ("error_rate", "requests fail")
    assert {part.metric: part.score for part in found.parts}["cpu_share"] == pytest.approx(66.7, abs=0.1)


def test_one_part_at_its_worst_is_not_made_up_for():
    found = assess({**dict.fromkeys(NAMES, 0.0), "targets_down": 1.0}.get)
    assert (found.score, found.status, found.bottleneck) == (40.0, "unhealthy", "targets_down")


def test_in_between_it_is_degraded():
    assert assess({**dict.fromkeys(NAMES, 0.0), "error_rate": 0.2}.get).status == "degraded"


def test_every_part_is_measured():
    assert set(NAMES) <= set(MEASURES) | set(GAUGES)


@given(st.dictionaries(st.sampled_from(NAMES), st.floats(0, 1e6)), st.sampled_from(NAMES), st.floats(0, 1e6))
def test_worse_is_never_better(measures, name, more):
    before = assess({**measures, name: measures.get(name, 0.0)}.get)
    after = assess({**measures, name: measures.get(name, 0.0) + more}.get)
    assert 0 <= after.score <= before.score <= 100
