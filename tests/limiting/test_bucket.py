from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.limiting.bucket import Bucket, charge_all, charge_each, give_back, look_at_all, look_at_each

STEPS = st.lists(st.tuples(st.floats(0, 30), st.integers(1, 40)), max_size=60)


def test_it_starts_full_and_fills_at_its_rate():
    bucket = Bucket(60)
    assert bucket.wait_s(60, 5.0) == 0
    bucket.charge(60, 5.0)
    assert bucket.level(5.0) == 0
    assert bucket.wait_s(10, 5.0) == 10
    assert bucket.level(15.0) == 10
    assert bucket.left(bucket.level(15.0)) == (60, 10, 50.0)
    assert bucket.level(1000.0) == 60


def test_more_than_it_holds_goes_when_it_is_full_and_is_paid_off():
    bucket = Bucket(60, capacity=10)
    assert bucket.wait_s(25, 0.0) == 0
    bucket.charge(25, 0.0)
    assert bucket.wait_s(25, 0.0) == 25
    assert bucket.wait_s(1, 0.0) == 16
    assert bucket.eta_s(70, 0.0) == 85


def test_giving_back_never_fills_it_beyond_its_capacity():
    bucket = Bucket(60)
    bucket.charge(10, 0.0)
    bucket.charge(-30, 0.0)
    assert bucket.level(0.0) == 60
    bucket.lower(7, 0.0)
    assert bucket.level(0.0) == 7
    bucket.lower(50, 0.0)
    assert bucket.level(0.0) == 7


def test_a_clock_that_stands_still_or_errs_backwards_gives_nothing():
    bucket = Bucket(60)
    bucket.charge(60, 100.0)
    assert bucket.level(90.0) == 0
    assert bucket.level(100.0) == 0


@given(STEPS)
def test_what_passes_is_at_most_the_burst_and_the_rate(steps):
    bucket, now, taken = Bucket(60, capacity=40), 0.0, 0
    for pause, amount in steps:
        now += pause
        if not bucket.wait_s(amount, now):
            bucket.charge(amount, now)
            taken += amount
        assert taken <= 40 + now + 1e-6


@given(STEPS)
def test_after_the_wait_it_is_there(steps):
    bucket, now = Bucket(60, capacity=40), 0.0
    for pause, amount in steps:
        now += pause + bucket.wait_s(amount, now + pause)
        assert bucket.wait_s(amount, now) < 1e-6
        bucket.charge(amount, now)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(-400, 400)), max_size=60))
def test_several_are_charged_as_each_alone_whenever_something_is_given_back(steps):
    sizes, now = (60, 240, 600), Fraction(0)
    buckets, others, exact = [Bucket(size) for size in sizes], [Bucket(size) for size in sizes], [*map(Fraction, sizes)]
    for pause, amount in steps:
        now += Fraction(pause, 7)
        exact = [min(min(level + size * Fraction(pause, 7) / 60, size) - amount, size)
                 for size, level in zip(sizes, exact, strict=True)]  # fmt: skip
        before = look_at_each(buckets, float(now))[1]
        assert look_at_all(others, float(now))[1] == pytest.approx(before, abs=1e-6)
        least = charge_each(others, amount, float(now))[1]
        assert least == pytest.approx(float(min(exact)), abs=1e-6)
        if amount < 0:
            give_back(buckets, -amount)
        else:
            tightest, least = charge_all(buckets, amount, float(now))
            assert least == tightest.level(float(now)) == pytest.approx(float(min(exact)), abs=1e-6)
        assert [bucket.level(float(now)) for bucket in buckets] == pytest.approx([*map(float, exact)], abs=1e-6)
