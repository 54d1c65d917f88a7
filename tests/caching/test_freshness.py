from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.caching.freshness import Verdict, decide, lifetime_s, may_stand_in
from penstock.core.request import CacheDirectives


@dataclass
class Dated:
    stored_at: float
    fresh_until: float


ENTRY = Dated(stored_at=1000.0, fresh_until=1100.0)
FRESH, JUST_STALE, STALE = 1050.0, 1105.0, 1200.0
WINDOW_S = 10.0


def judge(entry, now, window_s=WINDOW_S, **directives):
    return decide(entry, now, CacheDirectives(**directives), window_s)


def test_no_entry():
    assert judge(None, FRESH) is Verdict.MISS


def test_a_fresh_entry():
    assert judge(ENTRY, FRESH) is Verdict.HIT
    assert judge(ENTRY, 1099.9) is Verdict.HIT


def test_freshness_ends_when_it_says():
    assert judge(ENTRY, 1100.0, window_s=0.0) is Verdict.STALE


def test_just_stale_is_refreshed_if_the_window_is_open():
    assert judge(ENTRY, JUST_STALE) is Verdict.REFRESH
    assert judge(ENTRY, JUST_STALE, window_s=0.0) is Verdict.STALE
    assert judge(ENTRY, 1110.0) is Verdict.STALE


def test_max_age_limits_a_fresh_entry():
    assert judge(ENTRY, FRESH, max_age=50) is Verdict.HIT
    assert judge(ENTRY, FRESH, max_age=49) is Verdict.REQUEST
    assert judge(ENTRY, FRESH, max_age=0) is Verdict.REQUEST


def test_max_age_means_no_stale_answer():
    assert judge(ENTRY, JUST_STALE, max_age=1000) is Verdict.STALE


def test_no_cache_goes_forward_whatever_there_is():
    for entry in (None, ENTRY):
        assert judge(entry, FRESH, no_cache=True) is Verdict.REQUEST


def test_no_store_bypasses_whatever_else_is_said():
    assert judge(ENTRY, FRESH, no_store=True, no_cache=True, max_age=5) is Verdict.BYPASS


@pytest.mark.parametrize(
    ("entry", "now", "directives"),
    [
        (None, FRESH, {}),
        (ENTRY, STALE, {}),
        (ENTRY, FRESH, {"max_age": 1}),
        (ENTRY, FRESH, {"no_cache": True}),
        (ENTRY, FRESH, {"no_store": True}),
    ],
)
def test_only_if_cached_never_goes_forward(entry, now, directives):
    assert judge(entry, now, only_if_cached=True, **directives) is Verdict.ABSENT


def test_only_if_cached_takes_what_may_be_given():
    assert judge(ENTRY, FRESH, only_if_cached=True) is Verdict.HIT
    assert judge(ENTRY, JUST_STALE, only_if_cached=True) is Verdict.REFRESH


def test_a_clock_that_was_set_back_makes_no_entry_immortal():
    assert judge(ENTRY, 999.5) is Verdict.HIT
    assert judge(ENTRY, 900.0) is Verdict.STALE
    assert not may_stand_in(ENTRY, 900.0, CacheDirectives(), 60.0)


def test_a_failure_is_covered_as_the_settings_say():
    assert may_stand_in(ENTRY, 1159.0, CacheDirectives(), 60.0)
    assert not may_stand_in(ENTRY, 1160.0, CacheDirectives(), 60.0)
    assert not may_stand_in(ENTRY, 1100.0, CacheDirectives(), 0.0)


def test_the_clients_stale_if_error_decides():
    assert may_stand_in(ENTRY, 1500.0, CacheDirectives(stale_if_error=600), 0.0)
    assert not may_stand_in(ENTRY, 1150.0, CacheDirectives(stale_if_error=10), 60.0)
    assert not may_stand_in(ENTRY, 1100.0, CacheDirectives(stale_if_error=0), 60.0)
    assert may_stand_in(ENTRY, 1150.0, CacheDirectives(stale_if_error=60, no_cache=True), 0.0)


@pytest.mark.parametrize("directives", [{"no_cache": True}, {"max_age": 5}, {"no_store": True}])
def test_who_wants_a_fresh_answer_gets_no_stale_one_unasked(directives):
    assert not may_stand_in(ENTRY, 1110.0, CacheDirectives(**directives), 60.0)


def test_no_store_never_reads():
    assert not may_stand_in(ENTRY, 1110.0, CacheDirectives(no_store=True, stale_if_error=60), 60.0)


def test_lifetime():
    assert lifetime_s(CacheDirectives(), None, 100.0) == 100.0
    assert lifetime_s(CacheDirectives(), 50.0, 100.0) == 50.0
    assert lifetime_s(CacheDirectives(ttl=5.0), 50.0, 100.0) == 5.0
    assert lifetime_s(CacheDirectives(ttl=0), 50.0, 100.0) == 0


@given(
    st.none() | st.builds(Dated, st.floats(0, 100), st.floats(0, 200)),
    st.floats(0, 300),
    st.builds(
        CacheDirectives,
        no_cache=st.booleans(),
        no_store=st.booleans(),
        only_if_cached=st.booleans(),
        max_age=st.none() | st.floats(0, 100),
    ),
    st.floats(0, 50),
)
def test_what_is_given_is_allowed_by_every_directive(entry, now, directives, window_s):
    verdict = decide(entry, now, directives, window_s)
    if verdict in (Verdict.HIT, Verdict.REFRESH):
        assert entry is not None
        assert now < entry.fresh_until + window_s
        assert not directives.no_cache
        assert not directives.no_store
        assert directives.max_age is None or now - entry.stored_at <= directives.max_age
    elif directives.only_if_cached:
        assert verdict is Verdict.ABSENT
