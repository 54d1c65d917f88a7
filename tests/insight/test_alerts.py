import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import ConfigError
from penstock.insight.alerts import BUILT_IN, AlertRule, Alerts
from penstock.insight.measures import GAUGES, MEASURES

WALL = 1_800_000_000.0


class Watch:
    """One rule, asked every ten seconds."""

    def __init__(self, **fields):
        self.alerts = Alerts()
        self.alerts.configure([AlertRule("slow", "latency_mean_s", 5.0, **fields)])
        self.now = 0.0

    def sees(self, *values):
        told = []
        for value in values:
            self.now += 10.0
            told += self.alerts.check(lambda name, seconds, value=value: value, self.now, WALL + self.now)
        return [(event.state, event.at - WALL) for event in told]


def test_it_is_told_once_that_it_fires_and_once_that_it_is_over():
    watch = Watch()
    assert watch.sees(1.0, 6.0, 7.0, 8.0) == [("firing", 20.0)]
    assert watch.sees(5.0, 4.0) == [("resolved", 50.0)]
    assert watch.sees(9.0) == [("firing", 70.0)]


def test_it_must_hold_for_a_while_and_be_over_for_a_while():
    watch = Watch(for_s=20.0)
    assert watch.sees(6.0, 6.0, 1.0) == []
    assert watch.sees(6.0, 6.0, 6.0) == [("firing", 60.0)]
    assert watch.sees(1.0, 1.0, 6.0, 1.0, 1.0) == []
    assert watch.sees(1.0) == [("resolved", 120.0)]


def test_what_goes_on_is_told_again_when_it_was_asked_for():
    watch = Watch(repeat_s=30.0)
    assert watch.sees(*[9.0] * 8) == [("firing", 10.0), ("firing", 40.0), ("firing", 70.0)]
    assert Watch(repeat_s=0.0).sees(*[9.0] * 1000) == [("firing", 10.0)]


def test_nothing_is_known_so_nothing_is_wrong():
    watch = Watch()
    assert watch.sees(None) == []
    assert watch.sees(9.0, None) == [("firing", 20.0), ("resolved", 30.0)]


@pytest.mark.parametrize(
    ("operator", "below", "at", "above"),
    [("gt", False, False, True), ("ge", False, True, True), ("lt", True, False, False), ("le", True, True, False)],
)
def test_operators_mean_what_they_are_called(operator, below, at, above):
    rule = AlertRule("r", "hit_rate", 0.5, operator)
    assert [rule.holds(value) for value in (0.4, 0.5, 0.6)] == [below, at, above]


def test_the_message_names_the_measure_the_value_and_the_threshold():
    watch = Watch()
    (event,) = watch.alerts.check(lambda name, seconds: 7.25, 1.0, WALL)
    assert event.message == "slow: latency_mean_s is 7.25, above 5 (Mean time of a request)"
    (event,) = watch.alerts.check(lambda name, seconds: None, 2.0, WALL)
    assert event.message == "slow is over: latency_mean_s is not known (Mean time of a request)"


def test_a_rule_that_stays_the_same_goes_on_where_it_stands():
    alerts = Alerts()
    rules = [AlertRule("a", "error_rate", 0.1), AlertRule("b", "error_rate", 0.2)]
    alerts.configure(rules)
    assert len(alerts.check(lambda name, seconds: 0.5, 1.0, WALL)) == 2
    assert alerts.configure([rules[0], AlertRule("b", "error_rate", 0.3)]) == ["b"]
    assert [event.rule for event in alerts.check(lambda name, seconds: 0.5, 2.0, WALL)] == ["b"]
    assert [state.state for state in alerts.states(3.0)] == ["firing", "firing"]
    assert [state.since_s for state in alerts.states(3.0)] == [2.0, 1.0]


def test_each_rule_has_its_own_window():
    alerts = Alerts()
    alerts.configure([AlertRule("a", "error_rate", 0.1, window_s=60.0), AlertRule("b", "hit_rate", 0.1)])
    asked = []
    alerts.check(lambda name, seconds: asked.append((name, seconds)), 1.0, WALL)
    assert asked == [("error_rate", 60.0), ("hit_rate", 300.0)]


@pytest.mark.parametrize("fields", [{"operator": "eq"}, {"window_s": 0}, {"window_s": 4000}, {"for_s": -1}])
def test_a_rule_that_makes_no_sense_is_refused(fields):
    with pytest.raises(ConfigError, match="alert r: "):
        AlertRule("r", "hit_rate", 0.5, **fields)


def test_the_built_in_rules_are_about_what_is_measured():
    assert {rule.metric for rule in BUILT_IN} <= set(MEASURES) | set(GAUGES)


@given(st.lists(st.sampled_from([None, 1.0, 9.0]), max_size=60), st.sampled_from([0.0, 20.0, 40.0]))
def test_firing_and_resolved_take_turns(values, for_s):
    told = [state for state, _ in Watch(for_s=for_s, repeat_s=0.0).sees(*values)]
    assert told == ["firing", "resolved"] * (len(told) // 2) + ["firing"] * (len(told) % 2)
