from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.route import Route, Target
from penstock.routing.selection import arrange

targets = st.lists(
    st.builds(
        Target,
        provider=st.sampled_from(["a", "b", "c"]),
        model=st.text("xyz", min_size=1, max_size=3),
        weight=st.sampled_from([0.0, 0.5, 1.0, 3.0]),
        order=st.integers(0, 2),
    ),
    min_size=1,
    max_size=6,
).map(tuple)


def route(*targets, strategy="ordered"):
    return Route("fast", targets, b"", strategy=strategy)


@given(targets, st.sampled_from(["ordered", "weighted"]), st.integers())
def test_every_target_is_tried_lower_orders_first_and_weightless_ones_last(listed, strategy, seed):
    chosen = list(arrange(route(*listed, strategy=strategy), Random(seed)))
    assert Counter(chosen) == Counter(listed)
    ranks = [(target.order, target.weight == 0) for target in chosen]
    assert ranks == sorted(ranks)


def test_ordered_keeps_the_listed_order_inside_an_order():
    late, a, b = Target("late", "m", order=1), Target("a", "m"), Target("b", "m", weight=9)
    assert list(arrange(route(late, a, b), Random(0))) == [a, b, late]


def test_weighted_draws_the_first_target_in_proportion_to_its_weight():
    a, b, spare = Target("a", "m", weight=3), Target("b", "m", weight=1), Target("spare", "m", weight=0)
    random = Random(7)
    firsts = Counter(arrange(route(a, b, spare, strategy="weighted"), random)[0].provider for _ in range(4000))
    assert firsts["spare"] == 0
    assert 0.72 < firsts["a"] / 4000 < 0.78


def test_targets_that_all_weigh_nothing_are_still_tried():
    a, b = Target("a", "m", weight=0), Target("b", "m", weight=0)
    assert list(arrange(route(a, b, strategy="weighted"), Random(0))) == [a, b]
