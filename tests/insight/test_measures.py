import pytest

from penstock.insight.measures import LONGEST_WINDOW_S, MEASURES, History, Sample, Totals

BOUNDS = (0.1, 1.0, 10.0)


def history(*samples):
    kept = History(BOUNDS)
    for at, fields, *gauges in samples:
        kept.add(Sample(float(at), Totals(**fields), *gauges))
    return kept


def test_a_measure_is_of_the_window_not_of_all_time():
    kept = history((0, {"requests": 1000, "errors": 500}), (50, {"requests": 1000, "errors": 500}),
                   (60, {"requests": 1100, "errors": 510}))  # fmt: skip
    assert kept.measure("error_rate", 30) == pytest.approx(0.1)
    assert kept.measure("success_rate", 30) == pytest.approx(0.9)
    assert kept.measure("requests_per_minute", 60) == pytest.approx(100)


def test_too_few_requests_say_nothing():
    kept = history((0, {}), (5, {"requests": 9, "errors": 9, "durations": (0, 9, 0, 0)}))
    assert kept.measure("error_rate", 60) is None
    assert kept.measure("latency_p95_s", 60) is None
    assert history((0, {})).measure("error_rate", 60) is None


def test_percentiles_come_from_the_buckets_of_the_window():
    kept = history((0, {"durations": (900, 0, 0, 0)}), (5, {"durations": (900, 90, 10, 0)}))
    assert kept.measure("latency_p50_s", 60) == pytest.approx(0.6)
    assert kept.measure("latency_p95_s", 60) == pytest.approx(5.5)
    kept = history((0, {"first_tokens": ()}), (5, {"first_tokens": (0, 0, 0, 50)}))
    assert kept.measure("first_token_p95_s", 60) == 10.0


def test_a_gauge_is_the_mean_of_its_values_in_the_window():
    kept = history((0, {}, {"depth": 100.0}), (90, {}, {"depth": 1.0}), (100, {}, {"depth": 3.0}))
    assert kept.measure("depth", 20) == 2.0
    assert kept.measure("unheard_of", 20) is None


def test_samples_older_than_the_longest_window_are_forgotten():
    kept = History(BOUNDS)
    for minute in range(300):
        kept.add(Sample(minute * 60.0, Totals(requests=minute * 60)))
    window = kept.window(1e9)
    assert LONGEST_WINDOW_S <= window.seconds <= LONGEST_WINDOW_S + 60
    assert kept.measure("requests_per_minute", LONGEST_WINDOW_S) == pytest.approx(60)


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_can_be_taken(name):
    some = {
        "requests": 100, "errors": 1, "hits": 2, "seconds": 10.0, "durations": (50, 40, 10, 0), "attempts": 98,
        "first_tokens": (98, 0, 0, 0), "retries": 3, "tokens": 500, "cost_usd": 0.5, "rejected": 4, "lost": 1,
    }  # fmt: skip
    empty = {"durations": (0,) * 4, "first_tokens": (0,) * 4}
    assert history((0, empty), (60, some)).measure(name, 60) is not None
