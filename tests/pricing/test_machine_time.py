from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.call import Attempt
from penstock.pricing.machine_time import MachineTime
from penstock.testing import FakeClock

HOURLY = Decimal(3600)
"""One dollar a second."""


class Bench:
    def __init__(self):
        self.clock = FakeClock()
        self.time = MachineTime(self.clock)

    def begin(self, provider="near", **fields):
        attempt = Attempt(provider, "m", self.clock.monotonic(), running=True, **fields)
        self.time.begin(attempt, "*", HOURLY)
        return attempt


@pytest.fixture
def bench():
    return Bench()


def test_a_lone_call_pays_for_the_time_it_took(bench):
    call = bench.begin()
    bench.clock.advance(2.5)
    call.end()
    assert (call.cost_usd, call.cost_source) == (Decimal("2.5"), "time")


def test_calls_at_the_same_time_share_it_equally(bench):
    first = bench.begin()
    bench.clock.advance(1.0)
    second = bench.begin()
    bench.clock.advance(4.0)
    first.end()
    bench.clock.advance(1.0)
    second.end()
    assert first.cost_usd == Decimal(1) + Decimal(2)
    assert second.cost_usd == Decimal(2) + Decimal(1)


def test_idle_time_is_nobodys_and_other_machines_are_apart(bench):
    first = bench.begin()
    bench.clock.advance(1.0)
    first.end()
    bench.clock.advance(100.0)
    second, elsewhere = bench.begin(), bench.begin("far")
    bench.clock.advance(1.0)
    second.end()
    elsewhere.end()
    assert [each.cost_usd for each in (first, second, elsewhere)] == [1, 1, 1]


def test_time_is_added_to_what_tokens_cost(bench):
    call = bench.begin()
    bench.clock.advance(1.0)
    call.cost_usd, call.cost_source = Decimal("0.5"), "estimate"
    call.end()
    assert (call.cost_usd, call.cost_source) == (Decimal("1.5"), "estimate")


def test_what_is_unknown_stays_unknown(bench):
    call = bench.begin()
    call.cost_source = "unknown"
    bench.clock.advance(1.0)
    call.end()
    assert (call.cost_usd, call.cost_source) == (None, "unknown")


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), min_size=1, max_size=12))
def test_all_calls_together_pay_for_the_time_the_machine_worked(spans):
    bench = Bench()
    events = sorted(
        [(start, 0, n) for n, (start, _) in enumerate(spans)] + [(s + d, 1, n) for n, (s, d) in enumerate(spans)]
    )
    calls, now, busy = {}, 0, 0
    for at, ends, number in events:
        if any(call.running for call in calls.values()):
            busy += at - now
        bench.clock.advance(float(at - now))
        now = at
        if ends:
            calls[number].end()
        else:
            calls[number] = bench.begin()
    assert abs(sum(call.cost_usd for call in calls.values()) - busy) < Decimal("1e-6")
