from hypothesis import given
from hypothesis import strategies as st

from penstock.budgeting.bill import PER_TOKEN, SHARE, SMALLEST_CAP, Bill, Rate, cost, grant, most_of, settle_on
from penstock.core.budget import Ask, Budget

amounts = st.integers(0, 10**15)
bills = st.builds(Bill, amounts, st.integers(0, 10**9), st.integers(0, 200_000), amounts)
BUDGET = Budget("b", "team", "t", "day", "usd", 100)


def test_a_bill_bounds_the_prompt_by_its_bytes_and_the_answer_by_its_cap():
    rate = Rate(input=1, input_most=2, output=10, fixed=7)
    assert most_of((100, 200, 2, False), cost(rate, 3, 1)) == (7 * 3 + 416 * 2 + 2 * 100, 20, 200)
    assert most_of((100, 200, 2, False), cost(rate, 3, 2)) == (7 * 3 + 416 * 2 + 2 * 100, 40, 200)
    tokens = cost(PER_TOKEN, 1, 1)
    assert most_of((100, 200, 2, False), tokens) == (416, 2, 200)
    assert most_of((100, None, 1, True), tokens) == (912, 1, 16_384)


@given(bills, amounts, amounts)
def test_what_is_held_is_never_more_than_there_is_and_covers_the_cap(each, mine, left):
    cap = settle_on([each], [mine], [mine + left])
    if cap is None:
        assert each.cap_for(min(each.share_of(mine + left), mine)) < min(SMALLEST_CAP, each.wanted)
    else:
        assert 0 <= cap <= each.wanted
        assert each.base + each.each * cap <= mine


@given(bills, amounts)
def test_nothing_is_changed_far_from_the_limit(each, room):
    if each.most * SHARE <= room:
        assert settle_on([each], [room], [room]) == each.wanted


@given(bills, amounts)
def test_nobody_is_refused_while_there_is_enough_for_a_short_answer(each, room):
    if each.least <= room and each.each * SMALLEST_CAP <= each.likely:
        assert settle_on([each], [room], [room]) is not None


@given(bills, st.integers(-(10**15), 10**15), amounts)
def test_grants_are_from_what_is_left_and_enough_for_a_share(each, left, free):
    ask = Ask(BUDGET, 0, each.least, each.base + each.likely, each.most, free)
    found = grant(ask, left, 5)
    assert 0 <= found.amount <= max(left, 0)
    assert found.amount + found.left == left
    room = max(left, 0) + free
    assert free + found.amount >= min(room, each.share_of(room))


@given(st.lists(bills, min_size=1, max_size=3), amounts)
def test_the_tightest_budget_sets_the_cap(several, room):
    several = [each._replace(wanted=several[0].wanted) for each in several]
    together = settle_on(several, [room] * len(several), [room] * len(several))
    alone = [settle_on([each], [room], [room]) for each in several]
    assert together == (None if None in alone else min(alone))
