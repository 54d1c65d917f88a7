"""The limit against upstreams simulated in the simplest way: all places are full, and the time is virtual."""

from heapq import heappop, heappush
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.limiting.adaptive import START, AdaptiveLimit
from penstock.limiting.latency import LatencyModel


def knee(lanes):
    return lambda n: max(1.0, (n / lanes) ** 1.5)


class Upstream:
    """Requests share it equally; each takes `slowdown` of their number times as long as alone."""

    def __init__(self, slowdown, *, noise=0.2, seed=1):
        self.slowdown, self.noise, self.random = slowdown, noise, Random(seed)
        self.model = LatencyModel()
        self.now = self.progress = 0.0
        self.running, self.limits = [], []

    def begin(self, limit):
        given, made = self.random.randint(10, 2000), self.random.randint(1, 500)
        alone = (0.2 + given / 5000 + made / 100) * self.random.lognormvariate(0, self.noise)
        mark = limit.start(len(self.running) + 1, self.now)
        heappush(self.running, (self.progress + alone, mark, self.now, given, made))

    def serve(self, limit, requests):
        for _ in range(requests):
            while len(self.running) < limit.limit:
                self.begin(limit)
            n = len(self.running)
            end, mark, started, given, made = heappop(self.running)
            self.now += (end - self.progress) * self.slowdown(n)
            self.progress, seconds = end, self.now - started
            self.model.learn(given, made, seconds)
            limit.finish(mark, n, (self.model, self.model.rates(given, made, seconds), seconds), self.now)
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
    for second in range(5000):
        mark = limit.start(1, second)
        model.learn(100, 100, 1.0)
        limit.finish(mark, 1, (model, model.rates(100, 100, 1.0), 1.0), second + 1)
    assert limit.limit == START


def test_refusals_lower_it_at_once_and_only_once_for_what_was_under_way():
    limit = AdaptiveLimit(1000, start=8)
    marks = [limit.start(n, 0.0) for n in range(1, 9)]
    for n in (8, 7, 6, 5, 4):
        limit.overloaded(n, 1.0)
    assert limit.limit == 6
    for n in (3, 2, 1):
        limit.finish(marks.pop(), n, None, 1.0)
    limit.start(1, 1.0)
    limit.overloaded(1, 2.0)
    assert limit.limit == 4


def test_after_a_refusal_it_grows_slowly_and_finds_out_again():
    upstream, limit = Upstream(lambda n: 1.0), AdaptiveLimit(1000)
    refusals = 0
    for _ in range(3000):
        upstream.serve(limit, 1)
        while len(upstream.running) > 20:
            limit.overloaded(len(upstream.running), upstream.now)
            heappop(upstream.running)
            refusals += 1
    assert refusals < 60
    assert 14 <= upstream.mean(2000) <= 20


def test_it_finds_the_best_limit_within_a_few_hundred_requests():
    found = []
    for seed in range(10):
        upstream, limit = Upstream(knee(60), seed=seed), AdaptiveLimit(1000)
        upstream.serve(limit, 600)
        found.append(upstream.mean(200))
    assert min(found) >= 45
    assert max(found) <= 75


def test_requests_from_before_there_was_a_limit_are_no_evidence():
    limit, model = AdaptiveLimit(1000), LatencyModel()
    for second in range(1000):
        model.learn(100, 100, 1.0)
        limit.finish(None, 4, (model, model.rates(100, 100, 1.0), 1.0), second + 1.0)
    limit.finish(limit.start(4, 1000.0), 4, None, 1001.0)
    assert limit.limit == START


@given(st.lists(st.tuples(st.sampled_from(("start", "finish", "lost", "overloaded")), st.floats(0.001, 100))))
def test_whatever_happens_it_stays_within_its_bounds(steps):
    limit, model, running, now = AdaptiveLimit(12), LatencyModel(), [], 0.0
    for step, seconds in steps * 20:
        now += seconds
        if step == "start" and len(running) < limit.limit:
            running.append((limit.start(len(running) + 1, now), now))
        elif running and step == "finish":
            n, (mark, started) = len(running), running.pop(0)
            model.learn(10, 10, now - started)
            limit.finish(mark, n, (model, model.rates(10, 10, now - started), now - started), now)
        elif running and step == "lost":
            limit.finish(running[-1][0], len(running), None, now)
            running.pop()
        elif running and step == "overloaded":
            limit.overloaded(len(running), now)
            running.pop()
        assert 1 <= limit.limit <= 12
