from random import Random

import pytest

from penstock.routing.pace import Pace, Slowness


def server(tokens, context, company):
    return 0.2 + tokens / 20_000 * (1 + (context + tokens / 2) / 40_000) * (1 + 0.2 * company)


def teach(pace, count, seed=3, noise=0.0):
    random = Random(seed)
    for _ in range(count):
        tokens, context, company = random.expovariate(1 / 5000), random.choice([0, 0, 8000]), random.randrange(6)
        took = server(tokens, context, company) * (1 + noise * random.uniform(-1, 1))
        pace.observe(took, tokens, context, company)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_learns_how_long_prompts_take_within_a_few_dozen_requests(noise):
    pace = Pace()
    teach(pace, 100, noise=noise)
    for case in [(500, 0, 0), (4000, 8000, 2), (10_000, 0, 0), (10_000, 0, 5)]:
        assert pace.seconds(*case) == pytest.approx(server(*case), rel=0.35)


def test_knows_nothing_absurd_before_it_learned():
    assert 0.5 < Pace().seconds(4000, 0, 0) < 1.5


def test_one_hang_does_not_spoil_what_was_learned():
    pace = Pace()
    teach(pace, 200)
    pace.observe(600.0, 1000, 0, 0)
    teach(pace, 16, seed=4)
    assert pace.seconds(4000, 0, 0) == pytest.approx(server(4000, 0, 0), rel=0.15)


def test_never_expects_less_than_nothing():
    pace = Pace()
    for _ in range(300):
        pace.observe(0.0, 5000, 0, 3)
    assert 0 < pace.seconds(5000, 0, 3) < 0.5
    assert min(pace.terms) > 0


def test_follows_a_server_that_became_faster():
    pace = Pace()
    teach(pace, 500)
    for _ in range(1000):
        pace.observe(0.1, 4000, 0, 0)
    assert pace.seconds(4000, 0, 0) == pytest.approx(0.1, rel=0.5)


def test_learns_how_fast_answers_are_written():
    pace = Pace()
    for count in [100, 900, 20, 500] * 100:
        pace.answered(count, count * 0.05)
    assert pace.token_s == pytest.approx(0.05, rel=0.1)


def test_a_slow_replica_is_known_after_a_few_requests_and_forgiven_with_time():
    slowness = Slowness(0.0)
    assert slowness.value(0.0) == 1.0
    for second in range(10):
        slowness.observe(float(second), 1.5, 0.5)
    known = slowness.value(10.0)
    assert known == pytest.approx(3.0, rel=0.15)
    assert slowness.value(1000.0) < 0.8 * known
    assert slowness.value(4000.0) == pytest.approx(1.0, abs=0.05)


def test_a_hang_counts_like_a_slow_request():
    slowness = Slowness(0.0)
    for second in range(20):
        slowness.observe(float(second), 0.5, 0.5)
    slowness.observe(21.0, 10_000.0, 0.5)
    assert slowness.value(22.0) < 2.0
