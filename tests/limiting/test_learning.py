"""What is learned of a model: how long its answers take and how many tokens they use."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.limiting.forecast import Forecast
from penstock.limiting.latency import LatencyModel


def speed(model, asked, made, took):
    return model.predict(model.rates(asked, made, took))


def seconds(asked, made):
    return 0.3 + asked / 5000 + made * 0.012


def test_latency_is_learned_from_tokens_and_the_rest_is_congestion():
    random, model = Random(1), LatencyModel()
    for _ in range(500):
        asked, made = random.randint(10, 5000), random.randint(1, 1000)
        model.learn(asked, made, seconds(asked, made) * random.lognormvariate(0, 0.2))
    model.pin()
    for asked, made in ((200, 50), (4000, 20), (100, 900)):
        assert speed(model, asked, made, seconds(asked, made)) == pytest.approx(1.0, abs=0.15)
        assert speed(model, asked, made, 3 * seconds(asked, made)) == pytest.approx(1 / 3, rel=0.15)


def test_two_times_are_judged_by_the_same_measure():
    model = LatencyModel()
    for _ in range(100):
        model.learn(100, 100, 1.0)
    model.pin()
    before = speed(model, 100, 100, 2.0)
    for _ in range(100):
        model.learn(100, 100, 2.0)
    assert speed(model, 100, 100, 2.0) == pytest.approx(before, rel=0.1)
    model.pin()
    assert speed(model, 100, 100, 2.0) > before * 1.1


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**5), st.floats(0, 10**4)), max_size=50))
def test_nonsense_is_survived(observations):
    model = LatencyModel()
    for asked, made, took in observations:
        model.learn(asked, made, took)
        model.pin()
        assert math.isfinite(speed(model, asked, made, took))


def test_many_observations_do_not_wear_it_out():
    random, model = Random(1), LatencyModel()
    for number in range(50_000):
        made = random.randint(1, 500) if number < 100 else 100
        model.learn(200, made, seconds(200, made) * random.lognormvariate(0, 0.2))
    model.pin()
    assert speed(model, 200, 100, seconds(200, 100)) == pytest.approx(1.0, abs=0.1)


def test_output_is_predicted_from_history_and_capped():
    forecast = Forecast()

    def output(payload):
        return forecast.predict(payload, 10)[1]

    assert output({}) == 256
    for _ in range(200):
        forecast.learn(10.0, 10, 40)
    assert output({}) == pytest.approx(40, rel=0.05)
    assert output({"max_tokens": 5}) == 5
    assert output({"max_tokens": 50, "max_completion_tokens": 7}) == 7
    assert output({"n": 3}) == pytest.approx(120, rel=0.05)
    assert output({"n": 3, "max_tokens": 5}) == 15
    assert output({"n": "3", "max_tokens": "x"}) == pytest.approx(40, rel=0.05)
    assert forecast.predict({}, 10, generates=False)[1] == 0


def test_estimates_of_the_input_are_corrected():
    forecast = Forecast()
    for _ in range(200):
        predicted, _, _ = forecast.predict({}, 100)
        forecast.learn(predicted, 130, 10)
    assert forecast.predict({}, 1000)[0] == pytest.approx(1300, rel=0.02)


def test_what_varies_is_kept_in_reserve():
    random, forecast = Random(1), Forecast()
    for _ in range(500):
        forecast.learn(10.0, 10, random.choice((50, 150)))
    _, made, spread = forecast.predict({}, 10)
    assert made == pytest.approx(100, abs=25)
    assert spread == pytest.approx(50, abs=15)
    _, made, spread = forecast.predict({"max_tokens": 110}, 10)
    assert made + spread <= 110
