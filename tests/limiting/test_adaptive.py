"""The limit against upstreams simulated in the simplest way: all places are full, requests end in turn."""

from collections import deque
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.limiting.adaptive import START, AdaptiveLimit
from penstock.limiting.latency import LatencyModel


def knee(lanes):
    return lambda n: max(1.0, (n / lanes) ** 1.5)


class Upstream:
    def __init__(self, slowdown, *, noise=0.2, seed=1):
        self.slowdown, self.noise, self.random = slowdown, noise, Random(seed)
        self.model = LatencyModel()
        self.running = deque()
        self.limits = []

    def serve(self, limit, requests):
        for _ in range(requests):
            while len(self.running) < limit.limit:
                self.running.append(limit.start(len(self.running) + 1))
            mark = self.running.popleft()
            given, made = self.random.randint(10, 2000), self.random.randint(1, 500)
            alone = 0.2 + given / 5000 + made / 100
            seconds = alone * self.slowdown(len(self.running) + 1) * self.random.lognormvariate(0, self.noise)
            self.model.learn(given, made, seconds)
            limit.finish(mark, (self.model, given, made, seconds))
            self.limits.append(limit.limit)

    def mean(self, last):
        return sum(self.limits[-last:]) / last


@pytest.mark.parametrize("lanes", [3, 12, 40, 150])
def test_it_finds_where_more_at_once_does_not_help(lanes):
    upstream, limit = Upstream(knee(lanes)), AdaptiveLimit(1000)
    upstream.serve(limit, 30_000)
    assert 0.85 * lanes - 1 <= upstream.mean(10_000) <= 1.2 * lanes + 1


def test_long_answers_are_not_taken_for_congestion():
    upstream, limit = Upstream(knee(50), noise=0.05), AdaptiveLimit(1000)
    upstream.serve(limit, 10_000)
    before = upstream.mean(2000)
    upstream.random = Random(2)
    upstream.random.randint = lambda low, high: high
    upstream.serve(limit, 5000)
    assert upstream.mean(2000) == pytest.approx(before, rel=0.2)


def test_it_follows_an_upstream_that_changes():
    upstream, limit = Upstream(knee(20)), AdaptiveLimit(1000)
    upstream.serve(limit, 10_000)
    upstream.slowdown = knee(60)
    upstream.serve(limit, 60_000)
    assert upstream.mean(5000) > 45
    upstream.slowdown = knee(15)
    upstream.serve(limit, 60_000)
    assert upstream.mean(5000) < 22


def test_it_never_exceeds_what_is_allowed():
    upstream, limit = Upstream(lambda n: 1.0), AdaptiveLimit(17)
    upstream.serve(limit, 10_000)
    assert max(upstream.limits) == 17
    assert upstream.mean(1000) > 13
    assert AdaptiveLimit(1).limit == 1


def test_unused_limits_are_not_learned_from():
    limit, model = AdaptiveLimit(1000), LatencyModel()
    for _ in range(5000):
        mark = limit.start(1)
        model.learn(100, 100, 1.0)
        limit.finish(mark, (model, 100, 100, 1.0))
    assert limit.limit == START


def test_refusals_lower_it_at_once_and_only_once_for_what_was_under_way():
    limit = AdaptiveLimit(1000, start=8)
    for _ in range(6):
        limit.overloaded()
    assert limit.limit == 6
    for _ in range(3):
        limit.finish(0, None)
    limit.overloaded()
    assert limit.limit == 4


@given(st.lists(st.tuples(st.sampled_from(("start", "finish", "lost", "overloaded")), st.floats(0.001, 100))))
def test_whatever_happens_it_stays_within_its_bounds(steps):
    limit, model, running = AdaptiveLimit(12), LatencyModel(), []
    for step, seconds in steps * 20:
        if step == "start" and len(running) < limit.limit:
            running.append(limit.start(len(running) + 1))
        elif running and step == "finish":
            model.learn(10, 10, seconds)
            limit.finish(running.pop(0), (model, 10, 10, seconds))
        elif running and step == "lost":
            limit.finish(running.pop(), None)
        elif running and step == "overloaded":
            running.pop()
            limit.overloaded()
        assert 1 <= limit.limit <= 12
