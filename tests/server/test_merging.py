"""One answer of those of several workers."""

import pytest

from penstock.server.merging import concatenated, entries, largest, stats
from penstock.server.permissions import LEAST
from penstock.server.together import RULES


def report(answers: int, hits: int, bound: float | None = None, **more) -> dict:
    certificate = None if bound is None else {"bound": bound, "serving": bound < 0.5}
    row = {"tenant": "acme", "model": "fast", "answers": answers, "questions": 1, "certificate": certificate}
    exact = {"entries": answers, "memory_bytes": 100, "hits": hits}
    return {
        "object": "cache.stats", "answers": answers, "memory_bytes": 100, "questions": 1, "models": [row],
        "exact": exact, "semantic": None, **more,
    }  # fmt: skip


def test_what_was_done_is_added_up_and_what_there_is_is_not_counted_twice():
    merged = stats([(1, report(7, 10)), (2, report(5, 3))], {})
    assert (merged["answers"], merged["memory_bytes"]) == (7, 200)
    assert merged["exact"] == {"entries": 7, "memory_bytes": 200, "hits": 13}
    assert [(row["tenant"], row["answers"]) for row in merged["models"]] == [("acme", 7)]
    assert [(part["worker"], part["answers"]) for part in merged["workers"]] == [(1, 7), (2, 5)]
    assert merged["object"] == "cache.stats"
    assert "object" not in merged["workers"][0]


@pytest.mark.parametrize("turned", [False, True])
def test_no_more_is_promised_than_the_least_certain_worker_can(turned):
    parts = [(1, report(1, 0, 0.01)), (2, report(1, 0, 1.0))]
    merged = stats(parts[::-1] if turned else parts, {})
    assert merged["models"][0]["certificate"] == {"bound": 1.0, "serving": False}


def test_a_count_that_one_worker_does_not_have_is_the_others():
    parts = [(1, {"partitions": 2, "free_bytes": None}), (2, {"partitions": 1, "free_bytes": 4096})]
    merged = largest(parts, {})
    assert (merged["partitions"], merged["free_bytes"]) == (2, 4096)


def test_an_answer_that_two_know_is_listed_once_by_who_has_it_in_memory():
    def entry(key: str, at: float, size: int | None) -> dict:
        return {"key": key, "stored_at": at, "bytes": size}

    one = {"object": "list", "data": [entry("a", 3.0, None), entry("b", 1.0, 5)], "has_more": False}
    other = {"object": "list", "data": [entry("c", 2.0, 5), entry("a", 3.0, 9)], "has_more": False}
    merged = entries([(1, one), (2, other)], {"limit": "2"})
    assert merged["data"] == [entry("a", 3.0, 9), entry("c", 2.0, 5)]


def test_what_each_has_its_own_of_says_whose_it_is():
    parts = [(1, {"object": "list", "data": [{"model": "m"}]}), (2, {"object": "list", "data": [{"model": "m"}]})]
    assert [row["worker"] for row in concatenated(parts, {})["data"]] == [1, 2]


def test_every_rule_is_for_a_route_that_somebody_may_call():
    assert set(RULES) <= set(LEAST)


def test_every_change_reaches_all_workers_or_is_kept_in_the_store():
    changes = {place for place in LEAST if place[0] != "GET" and place[1].startswith("/admin/")}
    of_the_store_or_of_one_request = {
        ("POST", "/admin/cache/explain"),
        ("POST", "/admin/cache/warm"),
        ("POST", "/admin/cache/import"),
        ("POST", "/admin/templates/{name}/render"),
        ("POST", "/admin/sinks/{sink}/test"),
    }
    assert changes - set(RULES) == of_the_store_or_of_one_request
