"""One account against the ways in which providers count."""

from collections import deque
from heapq import heappop, heappush

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.quota import Quota
from penstock.limiting.account import Account
from penstock.limiting.window import Window

ARRIVALS = st.lists(st.tuples(st.floats(0, 20), st.integers(1, 400)), max_size=80)


class Sliding:
    """A provider that refuses what would be more than its limits in the last 60 s."""

    def __init__(self, requests, tokens):
        self.limits = (requests, tokens)
        self.seen = deque()

    def accepts(self, now, tokens):
        while self.seen and self.seen[0][0] <= now - 60:
            self.seen.popleft()
        self.seen.append((now, tokens))
        return len(self.seen) <= self.limits[0] and sum(each for _, each in self.seen) <= self.limits[1]


class Fixed(Sliding):
    """One whose minutes begin when the clock says so."""

    def accepts(self, now, tokens):
        self.seen = deque(each for each in self.seen if each[0] // 60 == now // 60)
        self.seen.append((now, tokens))
        return len(self.seen) <= self.limits[0] and sum(each for _, each in self.seen) <= self.limits[1]


class Refilled(Sliding):
    """One with buckets that fill evenly."""

    def __init__(self, requests, tokens):
        super().__init__(requests, tokens)
        self.levels, self.at = [requests, tokens], 0.0

    def accepts(self, now, tokens):
        passed, self.at = now - self.at, now
        self.levels = [
            min(level + passed * limit / 60, limit) for level, limit in zip(self.levels, self.limits, strict=True)
        ]
        self.levels = [self.levels[0] - 1, self.levels[1] - tokens]
        return min(self.levels) >= -1e-6


@pytest.mark.parametrize("provider", [Sliding, Fixed, Refilled])
@given(arrivals=ARRIVALS)
def test_no_way_of_counting_sees_more_than_the_limits(provider, arrivals):
    account, upstream, now = Account(20, 1000), provider(20, 1000), 7.0
    for pause, tokens in arrivals:
        now += pause
        now += account.wait_s(tokens, now)
        while wait := account.wait_s(tokens, now):
            now += wait + 1e-6
        account.charge(tokens, now)
        assert upstream.accepts(now, tokens)


@pytest.mark.parametrize("provider", [Sliding, Fixed])
@given(arrivals=st.lists(st.tuples(st.floats(0, 20), st.integers(1, 200), st.integers(0, 200), st.floats(0, 90))))
def test_output_may_count_when_it_is_predicted_or_when_it_is_made(provider, arrivals):
    """No request that is admitted, and predicted rightly, finds the tokens gone."""
    account, counts_early, counts_late, now = Account(None, 1000), provider(10**6, 1000), provider(10**6, 1000), 7.0
    running = []  # end, order, charge, input, output

    def end_until(moment):
        while running and running[0][0] <= moment:
            at, _, charge, asked, made = heappop(running)
            account.settle(charge, asked, made, at)
            counts_late.accepts(at, made)

    for number, (pause, asked, made, seconds) in enumerate(arrivals):
        now += pause
        end_until(now)
        while wait := account.wait_s(asked + made, now):
            now += wait + 1e-6
            end_until(now)
        heappush(running, (now + seconds, number, account.charge(asked + made, now), asked, made))
        assert counts_early.accepts(now, asked + made)
        assert counts_late.accepts(now, asked)


@pytest.mark.parametrize(("before", "after"), [(100, 1000), (1000, 100)])
def test_other_limits_forget_nothing(before, after):
    account = Account(None, before)
    charge = account.charge(90, 0.0)
    account.resize(10, after, 0.0)
    assert account.wait_s(after - 100, 59.0) == 0
    assert account.wait_s(after - 50, 59.0) > 0
    account.settle(charge, 0, 0, 59.0)
    assert account.wait_s(after - 50, 60.0) == 0
    for _ in range(10):
        account.charge(0, 60.0)
    assert account.wait_s(0, 60.0) > 0
    account.resize(None, None, 60.0)
    assert account.wait_s(10**9, 60.0) == 0


def test_the_limit_is_used():
    account, now, made = Account(600, None), 0.0, 0
    while now < 600:
        wait = account.wait_s(10, now)
        if wait:
            now += wait
        else:
            account.charge(10, now)
            made += 1
    assert made >= 0.97 * 6000


def test_small_limits_may_be_used_in_one_go_and_large_ones_are_paced():
    small, large = Account(6, None), Account(6000, None)
    for _ in range(6):
        assert small.wait_s(0, 0.0) == 0
        small.charge(0, 0.0)
    assert 60 <= small.wait_s(0, 0.0) <= 61
    for _ in range(1000):
        assert large.wait_s(0, 0.0) == 0
        large.charge(0, 0.0)
    assert 0 < large.wait_s(0, 0.0) < 0.1


def test_predicted_tokens_are_settled():
    account = Account(None, 1000)
    charge = account.charge(900, 0.0)
    assert account.wait_s(400, 0.0) > 10
    account.settle(charge, 60, 40, 5.0)
    assert account.wait_s(400, 10.0) == 0
    account.settle(account.charge(100, 12.0), 500, 400, 12.0)
    assert account.wait_s(100, 12.0) > 10


def test_more_tokens_than_a_minutes_go_alone():
    account = Account(None, 100)
    assert account.wait_s(500, 0.0) == 0
    account.charge(500, 0.0)
    assert account.wait_s(1, 30.0) > 0
    assert account.eta_s(5, 500, 0.0) > 60


def test_the_providers_own_count_is_heeded():
    account = Account(600, 60_000)
    first = account.charge(100, 0.0)
    second = account.charge(100, 0.0)
    account.heed(first, Quota(requests_remaining=1, tokens_remaining=50_000), 0.0)
    assert account.wait_s(100, 0.0) > 0  # the second one is that 1
    assert account.wait_s(100, 1.0) == 0
    account.heed(second, Quota(tokens_remaining=0), 1.0)
    assert account.wait_s(1000, 1.0) == pytest.approx(1.0)
    account.heed(second, Quota(), 1.0)


def test_without_limits_nothing_waits():
    account = Account(None, None)
    charge = account.charge(10**9, 0.0)
    account.settle(charge, 5, 5, 0.0)
    account.heed(charge, Quota(requests_remaining=0, tokens_remaining=0), 0.0)
    assert account.wait_s(10**9, 0.0) == account.eta_s(100, 10**9, 0.0) == 0


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(1, 50), st.integers(0, 50)), max_size=60))
def test_a_window_agrees_with_a_list(steps):
    window, now, known = Window(200), 0.0, []
    for pause, amount, later in steps:
        now += pause
        entry = window.add(amount, now)
        known.append((now, amount))
        if later % 3 == 0:
            window.amend(entry, later - amount, now)
            known[-1] = (now, later)
        exact = sum(each for at, each in known if at > now - 60)
        most = sum(each for at, each in known if at > now - 61.5)
        assert exact - 1e-6 <= window.used(now) <= most + 1e-6


def test_what_is_settled_after_its_minute_counts_from_now():
    window = Window(100)
    entry = window.add(50, 0.0)
    window.amend(entry, 30, 100.0)
    assert window.used(100.0) == 30
    window.amend(entry, -30, 100.0)
    assert window.used(100.0) == 30
    assert window.eta_s(100, 100.0) == pytest.approx(61.0)
