from decimal import Decimal

import pytest
from prometheus_client.parser import text_string_to_metric_families

from penstock.core.call import Attempt, Call
from penstock.core.request import Request
from penstock.core.route import Route, Target
from penstock.core.usage import Usage
from penstock.telemetry.metrics import BUCKETS, Metrics


def request(model="fast", **fields):
    return Request("chat", model, {}, Call("id", **fields), route=Route(model, (Target("p", "gpt"),), b""))


def attempt(model="gpt", **fields):
    return Attempt("p", model, 0.0, **{"outcome": "ok", "first_token_s": 0.3, "usage": Usage(10, 20), **fields})


def finish(metrics, asked, outcome="ok", duration_s=0.4):
    metrics.finished(asked, asked.call, duration_s, outcome)


def samples(metrics):
    page, content_type = metrics.exposition()
    assert content_type.startswith("text/plain")
    found = {}
    for family in text_string_to_metric_families(page.decode()):
        assert family.documentation
        for sample in family.samples:
            found[sample.name, *sorted(sample.labels.items())] = sample.value
    return found


def value(found, name, **labels):
    return found.get((name, *sorted(labels.items())))


def test_requests_attempts_tokens_and_costs_are_counted():
    metrics = Metrics()
    for _ in range(2):
        finish(metrics, request(cache="miss", attempts=[attempt(cost_usd=Decimal("0.25"), cost_source="provider")]))
    finish(metrics, request(cache="hit", saved_usd=Decimal("0.25")))
    failed = attempt(outcome="upstream_timeout", first_token_s=None, usage=None)
    finish(metrics, request(attempts=[failed]), outcome="upstream_timeout")
    found = samples(metrics)
    for labels, count in ((("ok", "miss"), 2), (("ok", "hit"), 1), (("upstream_timeout", "none"), 1)):
        named = {"operation": "chat", "model": "fast", "outcome": labels[0], "cache": labels[1]}
        assert value(found, "penstock_requests_total", **named) == count
    assert value(found, "penstock_attempts_total", provider="p", outcome="ok") == 2
    assert value(found, "penstock_attempts_total", provider="p", outcome="upstream_timeout") == 1
    assert value(found, "penstock_tokens_total", provider="p", direction="input", source="provider") == 20
    assert value(found, "penstock_tokens_total", provider="p", direction="output", source="provider") == 40
    assert value(found, "penstock_cost_usd_total", provider="p") == 0.5
    assert value(found, "penstock_saved_usd_total") == 0.25


def test_retries_are_told_from_failover_and_hedges():
    metrics = Metrics()
    elsewhere = Attempt("q", "gpt", 0.0, outcome="ok")
    for attempts in (
        [attempt(), attempt(), attempt()],
        [attempt(), elsewhere],
        [attempt(), attempt(model="other")],
        [attempt(), attempt(hedge=True)],
        [attempt(), elsewhere, elsewhere],
    ):
        finish(metrics, request(attempts=attempts))
    found = samples(metrics)
    assert value(found, "penstock_retries_total", provider="p") == 2
    assert value(found, "penstock_retries_total", provider="q") == 1


def test_times_fall_into_buckets():
    metrics = Metrics()
    for seconds in (0.0005, 0.001, 0.3, 1000.0):
        finish(metrics, request(cache="miss"), duration_s=seconds)
    found = samples(metrics)
    name, labels = "penstock_request_duration_seconds", {"operation": "chat", "cache": "miss"}
    counts = [value(found, f"{name}_bucket", le=str(bound), **labels) for bound in (*BUCKETS, "+Inf")]
    assert counts == sorted(counts)
    assert (counts[0], counts[BUCKETS.index(0.25)], counts[BUCKETS.index(0.5)], counts[-2:]) == (2, 2, 3, [3, 4])
    assert value(found, f"{name}_count", **labels) == 4
    assert value(found, f"{name}_sum", **labels) == pytest.approx(1000.3015)


def test_first_tokens_are_counted_by_the_providers_model():
    metrics = Metrics()
    finish(metrics, request("alias", attempts=[attempt("gpt-4o")]))
    assert value(samples(metrics), "penstock_first_token_seconds_count", provider="p", model="gpt-4o") == 1


def test_names_that_clients_make_up_do_not_grow_the_page():
    metrics = Metrics()
    for number in range(1000):
        finish(metrics, request(f"made-up-{number}", attempts=[attempt(f"made-up-{number}")]))
    found = samples(metrics)
    requests = [key for key in found if key[0] == "penstock_requests_total"]
    assert len(requests) == 201
    named = {"operation": "chat", "outcome": "ok", "cache": "none"}
    assert value(found, "penstock_requests_total", model="other", **named) == 800
    assert value(found, "penstock_requests_total", model="made-up-0", **named) == 1
    assert value(found, "penstock_first_token_seconds_count", provider="p", model="other") == 800


def test_a_request_for_an_unknown_model_counts_too():
    metrics = Metrics()
    asked = Request("chat", "no such model", {}, Call("id"))
    finish(metrics, asked, outcome="model_not_found")
    labels = {"operation": "chat", "model": "unknown", "outcome": "model_not_found", "cache": "none"}
    assert value(samples(metrics), "penstock_requests_total", **labels) == 1


def test_gauges_are_read_at_the_scrape_and_replaced_by_name():
    metrics, rows = Metrics(), [(("a",), 1.0)]
    metrics.gauge("penstock_x", "Old.", (), lambda: [((), 9.0)])
    metrics.gauge("penstock_x", "New.", ("which",), lambda: rows)
    metrics.active = 3
    assert value(samples(metrics), "penstock_x", which="a") == 1
    rows.append((("b",), 2.0))
    found = samples(metrics)
    assert value(found, "penstock_x", which="b") == 2
    assert value(found, "penstock_x") is None
    assert value(found, "penstock_active_requests") == 3


def test_the_process_is_there_too():
    assert value(samples(Metrics()), "process_open_fds") > 0


def test_label_values_are_escaped():
    metrics = Metrics()
    finish(metrics, request('a"b\\c\nd'))
    labels = {"operation": "chat", "outcome": "ok", "cache": "none"}
    assert value(samples(metrics), "penstock_requests_total", model='a"b\\c\nd', **labels) == 1
