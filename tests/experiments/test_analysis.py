"""From calls to units, and from units to what is known."""

import random

import pytest

from penstock.core.experiment import Arm, Change, Experiment, Guard, Metric, Outcome
from penstock.experiments.analysis import Analysis
from penstock.experiments.state import Shares, State, begin

COST = Metric("cost_usd", "lower", (0.0, 1.0))
HELPFUL = Metric("score.helpful", "higher", (0.0, 1.0))
ERRORS = Metric("error", "lower", (0.0, 1.0))
ARMS = (Arm("plain"), Arm("warm", 1.0, Change(model="x")))


def experiment(**fields):
    return Experiment(
        **{"name": "tone", "arms": ARMS, "primary": COST, "window_s": 100.0, "most_units": 1000, **fields}
    )


class Calls:
    """Calls one after the other."""

    def __init__(self):
        self.number = 0

    def __call__(self, unit, arm, at, scores=None, **values):
        self.number += 1
        return Outcome(self.number, at, f"{unit:016x}", {"tone": arm}, values, scores or {})


@pytest.fixture
def call():
    return Calls()


def means(analysis, metric="cost_usd"):
    found = next(each for each in analysis.report().measured if each.metric == metric)
    return {mean.arm: (mean.units, mean.mean) for mean in found.means}


def analysed(what, outcomes, state=None, until=1e9):
    analysis = Analysis(what, state or begin(what, 0.0))
    analysis.feed(outcomes)
    analysis.close(until)
    return analysis


def test_a_unit_counts_once_with_the_mean_of_its_calls(call):
    analysis = analysed(experiment(), [
        call(1, "plain", 0.0, cost_usd=0.2), call(2, "warm", 1.0, cost_usd=1.0), call(1, "plain", 50.0, cost_usd=0.4),
    ])  # fmt: skip
    assert means(analysis) == {"plain": (1, pytest.approx(0.3)), "warm": (1, 1.0)}


def test_what_comes_after_its_window_does_not_count(call):
    analysis = analysed(experiment(), [
        call(1, "plain", 0.0, cost_usd=0.2), call(1, "plain", 99.0, cost_usd=0.4), call(1, "plain", 100.0, cost_usd=1),
    ])  # fmt: skip
    assert means(analysis)["plain"] == (1, pytest.approx(0.3))
    assert (analysis.report().calls, analysis.report().left_out) == (2, 1)


def test_a_unit_is_open_until_its_window_is_over(call):
    analysis = analysed(experiment(), [call(1, "plain", 10.0, cost_usd=0.2)], until=109.0)
    assert (analysis.report().units, analysis.report().open) == (0, 1)
    analysis.close(110.0)
    assert (analysis.report().units, analysis.report().open) == (1, 0)


def test_scores_count_when_they_were_posted_in_the_window(call):
    analysis = analysed(experiment(primary=HELPFUL), [
        call(1, "plain", 0.0, {"helpful": (0.25, 99.0), "other": (9.0, 1.0)}),
        call(2, "plain", 0.0, {"helpful": (1.0, 101.0)}),
    ])  # fmt: skip
    assert means(analysis, "score.helpful")["plain"] == (1, 0.25)


def test_a_unit_that_was_moved_counts_for_its_first_arm(call):
    analysis = analysed(experiment(), [call(1, "plain", 0.0, cost_usd=0.2), call(1, "warm", 1.0, cost_usd=1.0)])
    assert means(analysis) == {"plain": (1, 0.2), "warm": (0, None)}
    assert analysis.report().left_out == 1


def test_calls_from_before_it_began_and_of_other_experiments_do_not_count(call):
    what = experiment()
    other = Outcome(9, 60.0, "00", {"other": "plain"}, {"cost_usd": 1.0})
    analysis = analysed(what, [call(1, "plain", 10.0, cost_usd=1.0), other], begin(what, 50.0))
    assert analysis.report().units == 0


def test_values_outside_the_bounds_count_as_the_nearest(call):
    analysis = analysed(experiment(), [call(1, "plain", 0.0, cost_usd=7.0), call(2, "plain", 0.0, cost_usd=-1.0)])
    assert means(analysis)["plain"] == (2, 0.5)


def test_unknown_values_are_left_out(call):
    analysis = analysed(experiment(), [call(1, "plain", 0.0), call(2, "plain", 0.0, cost_usd=0.5)])
    assert (means(analysis)["plain"], analysis.report().units) == ((1, 0.5), 2)


def simulated(call, count, seed=1, arms=("plain", "warm"), **of):
    """Calls of `count` units; `of` has a metric's mean by arm."""
    chance = random.Random(seed)
    for unit in range(count):
        arm = chance.choice(arms)
        yield call(unit, arm, float(unit), **{name: float(chance.random() < by[arm]) for name, by in of.items()})


def test_the_better_arm_wins(call):
    analysis = analysed(experiment(), simulated(call, 900, cost_usd={"plain": 0.7, "warm": 0.3}))
    assert (analysis.decision.winner, analysis.decision.harm) == ("warm", False)
    (effect,) = analysis.report().measured[0].effects
    assert effect.better is True
    assert effect.high < 0
    assert effect.p < 0.05


def test_the_worse_arm_ends_it_for_the_control(call):
    analysis = analysed(experiment(), simulated(call, 900, cost_usd={"plain": 0.3, "warm": 0.7}))
    assert (analysis.decision.winner, analysis.decision.harm) == ("plain", True)


def test_more_of_what_should_be_high_is_better(call):
    what = experiment(primary=Metric("output_tokens", "higher", (0.0, 1.0)))
    analysis = analysed(what, simulated(call, 900, output_tokens={"plain": 0.3, "warm": 0.7}))
    assert analysis.decision.winner == "warm"


def test_a_broken_guard_ends_it_though_the_primary_metric_is_better(call):
    outcomes = list(simulated(call, 900, cost_usd={"plain": 0.6, "warm": 0.5}, error={"plain": 0.1, "warm": 0.6}))
    analysis = analysed(experiment(guards=(Guard(ERRORS, 0.05),)), outcomes)
    assert (analysis.decision.winner, analysis.decision.harm) == ("plain", True)
    assert "error" in analysis.decision.why
    tolerant = analysed(experiment(guards=(Guard(ERRORS, 0.6),)), outcomes)
    assert tolerant.decision is None or not tolerant.decision.harm


def test_guards_are_only_looked_at_where_harm_does_not_end_it(call):
    what = experiment(guards=(Guard(ERRORS),), harm=False)
    analysis = analysed(what, simulated(call, 600, cost_usd={"plain": 0.5, "warm": 0.5}, error={"plain": 0, "warm": 1}))
    assert analysis.decision is None


def test_it_ends_without_a_winner_when_all_units_are_counted(call):
    what = experiment(most_units=200)
    analysis = analysed(what, simulated(call, 300, cost_usd={"plain": 0.5, "warm": 0.5}))
    assert (analysis.decision.winner, analysis.report().units) == (None, 200)


def test_it_ends_without_a_winner_when_its_days_are_over():
    analysis = analysed(experiment(most_days=2.0), [])
    assert analysis.overdue(2 * 86_400.0 - 1) is None
    assert analysis.overdue(2 * 86_400.0).winner is None


def test_the_best_of_several_better_arms_wins(call):
    arms = (*ARMS, Arm("hot", 1.0, Change(model="y")))
    outcomes = simulated(call, 2400, arms=("plain", "warm", "hot"), cost_usd={"plain": 0.9, "warm": 0.5, "hot": 0.1})
    analysis = Analysis(experiment(arms=arms, most_units=5000), begin(experiment(arms=arms, most_units=5000), 0.0))
    for outcome in outcomes:
        analysis.feed([outcome])
    analysis.close(1e9)
    assert analysis.decision.winner == "hot"
    assert {effect.arm: effect.better for effect in analysis.report().measured[0].effects} == {
        "warm": True,
        "hot": True,
    }


def test_feeding_bit_by_bit_is_the_same_as_all_at_once(call):
    outcomes = list(simulated(call, 400, cost_usd={"plain": 0.6, "warm": 0.4}))
    at_once = analysed(experiment(), outcomes).report()
    what = experiment()
    analysis = Analysis(what, begin(what, 0.0))
    for start in range(0, 400, 37):
        some = outcomes[start : start + 37]
        analysis.feed(some)
        analysis.close(some[-1].at)
    analysis.close(1e9)
    assert analysis.report() == at_once


def test_uneven_arms_are_noticed(call):
    even = analysed(experiment(), simulated(call, 600, cost_usd={"plain": 0.5, "warm": 0.5}))
    assert even.report().imbalance_p > 0.05
    lost = [each for each in simulated(call, 900, seed=2, cost_usd={"plain": 0.5, "warm": 0.5})
            if each.arms["tone"] == "plain" or each.id % 2]  # fmt: skip
    assert analysed(experiment(), lost).report().imbalance_p < 0.001


def test_units_are_weighted_by_the_shares_of_their_time(call):
    """Costs double when the shares turn: the arm that then gets most is not worse, though its plain mean is."""
    what = experiment(primary=Metric("cost_usd", "lower", (0.0, 2.0)))
    shares = (Shares(0.0, {"plain": 0.9, "warm": 0.1}), Shares(1000.0, {"plain": 0.1, "warm": 0.9}))
    chance, outcomes = random.Random(4), []
    for unit in range(2000):
        arm = "warm" if chance.random() < (0.1 if unit < 1000 else 0.9) else "plain"
        outcomes.append(call(unit, arm, float(unit), cost_usd=0.5 if unit < 1000 else 1.0))
    state = State("running", what.identity, 0.0, what.weights, shares)
    analysis = analysed(experiment(primary=what.primary, most_units=5000), outcomes, state)
    (effect,) = analysis.report().measured[0].effects
    plain, warm = means(analysis)["plain"][1], means(analysis)["warm"][1]
    assert warm - plain > 0.3
    assert abs(effect.effect) < 0.15
    assert effect.better is None
    assert analysis.report().imbalance_p is None


def test_the_plot_has_a_bounded_number_of_points_in_order(call):
    what = experiment(most_units=5000)
    report = analysed(what, simulated(call, 1500, cost_usd={"plain": 0.5, "warm": 0.5})).report()
    assert 50 < len(report.points) <= 200
    assert [point.units for point in report.points] == sorted(point.units for point in report.points)
    assert all(later.high <= sooner.high for sooner, later in zip(report.points, report.points[1:], strict=False))
