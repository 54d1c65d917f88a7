"""What several processes count, shown as one."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from penstock.core.call import Attempt, Call
from penstock.core.request import Request
from penstock.telemetry.families import Family, Sample, Sums, decode, encode
from penstock.telemetry.metrics import Metrics, page_of


def counter(value: float, **labels: str) -> Family:
    return Family("asked", "counter", "Asked.", [Sample("asked_total", labels, value)])


def gauge(name: str, value: float) -> Family:
    return Family(name, "gauge", "Now.", [Sample(name, {}, value)])


def values(families: list[Family]) -> dict[tuple, float]:
    return {(each.name, *sorted(each.labels.items())): each.value for family in families for each in family.samples}


def test_counters_and_gauges_are_added_up_label_by_label():
    sums = Sums()
    sums.take(1, [counter(3, who="a"), gauge("penstock_active_requests", 2)])
    sums.take(2, [counter(4, who="a"), counter(1, who="b"), gauge("penstock_active_requests", 5)])
    assert values(sums.read()) == {
        ("asked_total", ("who", "a")): 7,
        ("asked_total", ("who", "b")): 1,
        ("penstock_active_requests",): 7,
    }


def test_some_gauges_are_the_worst_and_some_are_each_processs_own():
    sums = Sums()
    for number, value in ((1, 0.25), (2, 0.75)):
        names = ("penstock_event_loop_lag_seconds", "penstock_health_score", "penstock_replica_slowness")
        sums.take(number, [gauge(name, value) for name in names])
    assert values(sums.read()) == {
        ("penstock_event_loop_lag_seconds",): 0.75,
        ("penstock_health_score",): 0.25,
        ("penstock_replica_slowness", ("worker", "1")): 0.25,
        ("penstock_replica_slowness", ("worker", "2")): 0.75,
    }


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("counts"), st.integers(1, 3), st.integers(0, 100)),
        st.tuples(st.just("ends"), st.integers(1, 3), st.none()),
        st.tuples(st.just("read"), st.none(), st.none()),
    ),
    max_size=40,
)


@given(STEPS)
def test_a_sum_never_falls_whoever_ends(steps):
    sums, counts, shown = Sums(), {}, 0.0
    for what, number, more in steps:
        if what == "counts":
            counts[number] = counts.get(number, 0) + more
        elif what == "ends":
            counts.pop(number, None)
            sums.end(number)
        else:
            for each, count in counts.items():
                sums.take(each, [counter(count)])
            now = sum(values(sums.read()).values())
            assert now >= shown
            assert now >= sum(counts.values())
            shown = now


def test_the_page_of_one_process_is_its_own_page():
    metrics = Metrics()
    metrics.active = 3
    metrics.gauge("penstock_cache", "The cache.", ("what",), lambda: [(("hits",), 5)])
    metrics.gauge("penstock_refused_total", "Refused.", (), lambda: [((), 2)])
    call = Call("req_1", cache="miss", attempts=[Attempt("p", "m", 0.0, outcome="ok", first_token_s=0.01)])
    metrics.finished(Request("chat", "m", {}, call), call, 0.02, "ok")
    sums = Sums()
    sums.take(1, decode(encode(metrics.families())))

    def shown(page: bytes) -> list:
        found = text_string_to_metric_families(page.decode())
        return [each for each in found if each.name.startswith("penstock")]

    assert shown(page_of(sums.read())[0]) == shown(metrics.exposition()[0])
