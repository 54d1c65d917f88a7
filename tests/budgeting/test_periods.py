from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from penstock.budgeting.periods import SteadyClock, end_of, start_of
from penstock.testing import FakeClock

moments = st.datetimes(datetime(1971, 1, 1), datetime(2400, 1, 1), timezones=st.just(UTC))


@given(moments)
def test_periods_are_those_of_the_calendar(moment):
    at = moment.timestamp()
    month = start_of("month", at)
    assert datetime.fromtimestamp(month, UTC) == moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    assert month <= at < end_of("month", month)
    assert start_of("month", end_of("month", month)) == end_of("month", month)
    day = start_of("day", at)
    assert (day <= at < end_of("day", day), day % 86_400) == (True, 0)
    assert (start_of("total", at), end_of("total", 0)) == (0, float("inf"))


def test_jumps_are_not_followed_until_they_have_held_for_an_hour():
    clock = FakeClock()
    steady = SteadyClock(clock)
    begun = steady.now()
    clock.jump(3600)
    for _ in range(359):
        steady.check()
        assert steady.now() == begun
        clock.advance(10)
        begun += 10
    clock.advance(20)
    steady.check()
    assert steady.now() == clock.wall()


def test_a_jump_there_and_back_is_as_if_it_had_not_been():
    clock = FakeClock()
    steady = SteadyClock(clock)
    clock.jump(3600)
    steady.check()
    clock.jump(-3600)
    clock.advance(1800)
    steady.check()
    clock.jump(3600)
    clock.advance(1801)
    steady.check()
    assert steady.now() == clock.wall() - 3600
