from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from penstock.caching.recurrence import Recurrence
from penstock.testing.clock import FakeClock

LIFETIME_S = 600.0


class Cache:
    """Answers that live for a while, and the policy that renews them; counts misses and renewals of each key."""

    def __init__(self, **options: float) -> None:
        self.clock = FakeClock()
        self.policy: Recurrence[str] = Recurrence(**options)  # type: ignore[arg-type]
        self.fresh_until: dict[bytes, float] = {}
        self.misses: dict[bytes, int] = {}
        self.renewed: list[tuple[float, bytes]] = []

    def ask(self, key: bytes) -> None:
        now = self.clock.wall()
        self.policy.asked(key, now, key.decode())
        if now >= self.fresh_until.get(key, 0.0):
            self.misses[key] = self.misses.get(key, 0) + 1
            self.store(key)

    def store(self, key: bytes) -> None:
        now = self.clock.wall()
        self.fresh_until[key] = now + LIFETIME_S
        self.policy.stored(key, now, now + LIFETIME_S)

    def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds / 10)):
            self.clock.advance(10)
            for renewal in self.policy.due(self.clock.wall()):
                assert renewal.what == renewal.key.decode()
                assert self.clock.wall() < self.fresh_until[renewal.key]
                self.renewed.append((self.clock.wall(), renewal.key))
                self.store(renewal.key)


def steady(cache: Cache, key: bytes, times: int, every_s: float = 100) -> None:
    for _ in range(times):
        cache.ask(key)
        cache.pass_time(every_s)


def test_what_is_asked_for_all_the_time_is_soon_never_missed() -> None:
    cache = Cache()
    steady(cache, b"a", 200)
    before = cache.misses[b"a"]
    steady(cache, b"a", 200)
    assert cache.misses[b"a"] == before
    assert before <= 15


def test_nothing_is_renewed_without_evidence() -> None:
    cache = Cache()
    for number in range(200):
        cache.ask(b"%d" % number)
        cache.ask(b"%d" % number)
        cache.pass_time(LIFETIME_S / 10)
    assert not cache.renewed
    assert (cache.policy.renewed, cache.policy.used) == (0, 0)


def test_what_is_not_asked_for_any_more_is_left_alone() -> None:
    cache = Cache()
    steady(cache, b"a", 200)
    before = len(cache.renewed)
    cache.pass_time(50 * LIFETIME_S)
    assert len(cache.renewed) - before <= 2


def test_what_comes_back_late_is_not_worth_a_renewal_and_what_comes_back_at_once_is() -> None:
    late, soon = Cache(), Cache()
    steady(late, b"a", 100, every_s=LIFETIME_S * 1.9)
    steady(soon, b"a", 100, every_s=LIFETIME_S * 1.1)
    assert not late.renewed
    assert soon.misses[b"a"] < 60
    assert soon.policy.used >= 0.75 * soon.policy.renewed > 0


def test_it_counts_what_its_renewals_were_good_for() -> None:
    cache = Cache()
    steady(cache, b"a", 200)
    cache.pass_time(3 * LIFETIME_S)
    assert len(cache.renewed) == cache.policy.renewed
    assert cache.policy.renewed - 2 <= cache.policy.used <= cache.policy.renewed


def test_the_likeliest_go_first_and_the_rest_wait_their_turn() -> None:
    policy: Recurrence[None] = Recurrence(least=0.05, per_minute=1, horizon_s=120)
    now = 0.0
    for _ in range(20):  # "often" is asked for soon after it went stale, "seldom" late
        for key in (b"seldom", b"often"):
            policy.asked(key, now, None)
            policy.stored(key, now, now + LIFETIME_S)
        policy.due(now + LIFETIME_S - 1)
        policy.asked(b"often", now + LIFETIME_S + 10, None)
        now += LIFETIME_S * 1.8
    for key in (b"seldom", b"often"):
        policy.asked(key, now, None)
        policy.stored(key, now, now + LIFETIME_S)
    end = now + LIFETIME_S
    assert [renewal.key for renewal in policy.due(end - 100)] == [b"often"]
    assert policy.due(end - 50) == []
    assert [renewal.key for renewal in policy.due(end - 30)] == [b"seldom"]


@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 30))
def test_in_no_minute_are_more_renewed_than_allowed_and_no_more_keys_watched(seed: int, rate: int, most: int) -> None:
    chance, cache = Random(seed), Cache(per_minute=rate, most=most, least=0.05)
    keys = [b"%d" % number for number in range(20)]
    for _ in range(60):
        for key in chance.sample(keys, 8):
            cache.ask(key)
        cache.pass_time(chance.choice([10, 60, 300]))
        assert len(cache.policy) <= most
    times = [at for at, _ in cache.renewed]
    for place, at in enumerate(times):
        assert sum(at <= later < at + 60 for later in times[place:]) <= rate


@given(st.integers(0, 2**32))
def test_the_same_requests_give_the_same_renewals(seed: int) -> None:
    def play() -> list[tuple[float, bytes]]:
        chance, cache = Random(seed), Cache(least=0.1)
        for _ in range(40):
            cache.ask(b"%d" % chance.randrange(4))
            cache.pass_time(chance.choice([10, 100, 400]))
        return cache.renewed

    assert play() == play()


def test_a_short_life_is_not_spent_on_renewals() -> None:
    policy: Recurrence[None] = Recurrence(least=0.01, horizon_s=60)
    policy.asked(b"a", 0.0, None)
    policy.stored(b"a", 0.0, 20.0)
    assert not policy.due(14.9)
    assert [renewal.key for renewal in policy.due(15.0)] == [b"a"]
    assert not policy.due(16.0)


def test_what_was_cleared_or_never_stored_is_not_renewed() -> None:
    policy: Recurrence[None] = Recurrence(least=0.01)
    policy.asked(b"a", 0.0, None)
    policy.stored(b"a", 0.0, 600.0)
    policy.forget(b"a")
    policy.asked(b"b", 0.0, None)
    policy.asked(b"c", 0.0, None)
    policy.stored(b"c", 0.0, 600.0)
    assert not policy.due(700.0)
    assert len(policy) == 2


def test_a_clock_that_is_set_back_does_no_harm() -> None:
    cache = Cache()
    steady(cache, b"a", 50)
    cache.clock.jump(-3600)
    steady(cache, b"a", 50)
    assert len(cache.renewed) < 60
