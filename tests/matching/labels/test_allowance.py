from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.matching.labels.allowance import Allowance
from penstock.testing.clock import FakeClock

CENT = 10**10
MIDNIGHT = 1_800_057_600.0


def test_so_many_calls_in_any_minute_and_no_more() -> None:
    clock = FakeClock()
    allowance = Allowance(2, None, clock)
    assert [allowance.take(), allowance.take(), allowance.take()] == [True, True, False]
    clock.advance(59.9)
    assert not allowance.take()
    clock.advance(0.2)
    assert allowance.take()
    assert (allowance.counts.asked, allowance.counts.busy) == (3, 2)


def test_a_days_money_lasts_until_midnight() -> None:
    clock = FakeClock(wall=MIDNIGHT - 10)
    allowance = Allowance(100, Decimal("0.05"), clock)
    assert allowance.take()
    assert not allowance.take()  # what a call costs is not known yet
    allowance.settle(2 * CENT)
    assert allowance.take()
    assert not allowance.take()  # the one under way may cost as much
    allowance.settle(2 * CENT)
    assert not allowance.take()
    assert (allowance.counts.asked, allowance.counts.spent, allowance.counts.cost_pusd) == (2, 3, 4 * CENT)
    clock.advance(11)
    assert allowance.take()


def test_a_limit_in_dollars_needs_a_price() -> None:
    allowance = Allowance(100, Decimal(1), FakeClock())
    assert allowance.take()
    allowance.settle(None)
    assert not allowance.take()
    assert allowance.counts.unpriced == 1
    free = Allowance(100, None, FakeClock())
    for _ in range(5):
        assert free.take()
        free.settle(None)


def test_nothing_a_day_is_nothing() -> None:
    assert not Allowance(100, Decimal(0), FakeClock()).take()


def test_a_restart_does_not_forget_what_was_spent() -> None:
    clock = FakeClock(wall=MIDNIGHT - 10)
    before = Allowance(100, Decimal("0.05"), clock)
    assert before.take()
    before.settle(4 * CENT)
    after = Allowance(100, Decimal("0.05"), clock)
    after.restore(before.dump())
    assert not after.take()
    clock.advance(11)
    assert after.take()
    with pytest.raises(msgspec.DecodeError):
        after.restore(b"\xc1")


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3 * CENT)), max_size=60))
def test_the_limit_is_passed_only_by_a_call_dearer_than_all_before(steps: list[tuple[bool, int]]) -> None:
    allowance = Allowance(10_000, Decimal("0.10"), FakeClock())
    under_way = spent = dearest = over = 0
    for ask, cost in steps:
        if ask:
            under_way += allowance.take()
        elif under_way:
            allowance.settle(cost)
            under_way, spent = under_way - 1, spent + cost
            over += max(cost - dearest, 0)
            dearest = max(dearest, cost)
    assert spent <= 10 * CENT + over
