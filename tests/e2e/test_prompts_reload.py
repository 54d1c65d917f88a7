"""Requests while prompts are read again and again: the benchmark, smaller."""

from benchmarks.reload import reloading


async def test_nothing_is_dropped_and_no_answer_is_of_two_sets(tmp_path):
    figures = await reloading(tmp_path, 5, 100)
    assert {name: figures[name] for name in ("dropped", "torn", "stale", "wrongly_taken")} == {
        "dropped": 0, "torn": 0, "stale": 0, "wrongly_taken": 0
    }  # fmt: skip
    assert figures["reloads"] > 0
