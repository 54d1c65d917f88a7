import random

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.route import HedgeTerms, Route, Target
from penstock.routing.hedging import Hedging

NEAR, FAR = Target("near", "m"), Target("far", "m")
ROUTE = Route("fast", (NEAR, FAR), b"")
TERMS = HedgeTerms(budget=0.05)


def taught(near_s, far_s=0.2, count=1000):
    policy, rnd = Hedging(), random.Random(1)
    for _ in range(count):
        policy.learn(ROUTE, NEAR, 100, near_s(rnd))
        policy.learn(ROUTE, FAR, 100, far_s)
        policy.earn(ROUTE, TERMS, 100, 200)
    return policy


def long_tailed(rnd):
    return 0.2 if rnd.random() < 0.9 else rnd.uniform(5.0, 20.0)


def test_at_first_nothing_is_late_and_nothing_can_be_spent():
    policy = Hedging()
    assert policy.late_after(ROUTE, TERMS, 100) > 30.0
    assert not policy.spend(ROUTE, 1)


def test_late_is_what_the_models_clients_seldom_see():
    policy = taught(long_tailed)
    assert 0.2 < policy.late_after(ROUTE, HedgeTerms(budget=0.5), 100) < 6.0
    assert 9.0 < policy.late_after(ROUTE, HedgeTerms(budget=0.5, quantile=0.98), 100) < 20.0


def test_a_budget_too_small_for_all_late_ones_is_kept_for_the_latest():
    policy = taught(long_tailed)
    generous = policy.late_after(ROUTE, HedgeTerms(budget=0.05), 100)
    assert policy.late_after(ROUTE, HedgeTerms(budget=0.005), 100) > generous


def test_a_target_that_would_take_as_long_saves_nothing():
    policy = taught(long_tailed)
    assert policy.saving(ROUTE, NEAR, FAR, 100, 5.0) > 3.0
    assert policy.saving(ROUTE, NEAR, Target("far", "new"), 100, 5.0) > 3.0, "an unknown one is like the others"
    steady = taught(lambda rnd: rnd.uniform(0.9, 1.0), far_s=0.9)
    assert steady.saving(ROUTE, NEAR, FAR, 100, 0.95) == 0.0


def test_classes_of_size_are_told_apart():
    policy = taught(lambda rnd: 0.2)
    for _ in range(500):
        policy.learn(ROUTE, NEAR, 50_000, 8.0)
    assert policy.late_after(ROUTE, TERMS, 100) < 1.0
    assert policy.late_after(ROUTE, TERMS, 50_000) > 7.0


def test_names_are_forgotten_in_time():
    policy = Hedging()
    for number in range(2000):
        route = Route(f"model-{number}", (NEAR,), b"")
        policy.learn(route, Target("near", f"model-{number}"), 100, 1.0)
        policy.earn(route, TERMS, 100, 200)
    assert len(policy._sketches) <= 512
    assert len(policy._buckets) <= 512


def test_a_target_is_crowded_when_many_that_wait_for_it_are_late():
    policy = Hedging()
    for _ in range(20):
        policy.enter(NEAR)
    for _ in range(4):
        policy.tarry(NEAR)
    assert not policy.crowded(NEAR)
    policy.tarry(NEAR)
    assert policy.crowded(NEAR)
    assert not policy.crowded(FAR)
    for late in [True] * 5 + [False] * 15:
        policy.leave(NEAR, late=late)
    assert not policy.crowded(NEAR)
    assert not policy._crowds


moves = st.lists(
    st.one_of(
        st.tuples(st.just("earn"), st.integers(1, 5000), st.integers(0, 5000)),
        st.tuples(st.just("spend"), st.integers(1, 5000), st.booleans()),
    ),
    max_size=300,
)


@given(moves, st.floats(0.001, 0.5))
def test_hedges_never_cost_more_than_their_share(moves, budget):
    policy, terms = Hedging(), HedgeTerms(budget=budget)
    answered = spent = 0
    for kind, tokens, other in moves:
        if kind == "earn":
            policy.earn(ROUTE, terms, tokens, tokens + other)
            answered += tokens + other
        elif policy.spend(ROUTE, tokens):
            if other:
                policy.refund(ROUTE, tokens)
            else:
                spent += tokens
        assert spent <= budget * answered + 1e-6
    assert policy.counts.tokens == spent
