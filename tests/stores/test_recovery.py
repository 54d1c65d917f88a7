import errno
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from penstock.core.call import Attempt, Call
from penstock.core.clock import SystemClock
from penstock.core.errors import StoreError
from penstock.core.request import Request
from penstock.core.usage import Usage
from penstock.stores.failpoints import POINTS
from penstock.stores.opening import open_store
from penstock.stores.sql import ledger as _ledger  # noqa: F401 its points are known when it is imported

PLACES = {
    "spool-append": (1, 40),
    "spool-rotate": (2,),
    "spool-reuse": (2,),
    "spool-remove": (1,),
    "ledger-insert": (2,),
    "ledger-committed": (2,),
}
RECOVERY = ("recovery-read", "recovery-insert", "recovery-remove", "spool-remove", "ledger-insert")


def rows(path, query="SELECT * FROM calls"):
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    found = [dict(row) for row in connection.execute(query)]
    connection.close()
    return found


@pytest.fixture
async def empty(tmp_path):
    """A database that is up to date, to copy."""
    path = tmp_path / "empty.db"
    stores = open_store(f"sqlite:///{path}", SystemClock())
    await stores.start()
    await stores.aclose()
    return path


def run(scenarios):
    script = Path(__file__).with_name("killed.py")
    done = subprocess.run(
        [sys.executable, str(script)], input=json.dumps(scenarios), capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(path, runs):
    """Every acknowledged call is there once, as it was; every other that began is there once or not at all.

    Of hits, which nobody paid for, the last may be missing, but what is there agrees.
    """
    paid = rows(path, "SELECT * FROM calls WHERE cache != 'hit'")
    calls = {row["request_id"]: row for row in paid}
    assert len(calls) == len(paid)
    acknowledged = {each for one in runs for each in one["acknowledged"]}
    begun = {each for one in runs for each in one["begun"]}
    assert acknowledged <= set(calls) <= begun
    for name in acknowledged:
        row = calls[name]
        assert (row["outcome"], row["output_tokens"], row["cost_pusd"]) == ("ok", 200, 500_000_000_000)
    orphans = [row for name, row in calls.items() if row["outcome"] != "ok"]
    for row in orphans:
        assert (row["outcome"], row["usage_source"], row["cost_source"]) == ("interrupted", "estimate", "estimate")
        assert (row["input_tokens"], row["output_tokens"], row["cost_pusd"]) == (11, 30, 41 * 10**12)
    (attempts,) = rows(path, "SELECT count(*) AS n, ifnull(sum(cost_pusd), 0) AS cost FROM attempts")
    usage = "FROM usage u JOIN usage_groups g ON g.id = u.group_id WHERE g.cache"
    (sums,) = rows(path, f"SELECT ifnull(sum(calls), 0) AS n, ifnull(sum(cost_pusd), 0) AS cost {usage} != 'hit'")
    (hits,) = rows(path, f"SELECT ifnull(sum(calls), 0) AS n, ifnull(sum(saved_pusd), 0) AS saved {usage} = 'hit'")
    (listed,) = rows(path, "SELECT count(*) AS n FROM calls WHERE cache = 'hit'")
    (others,) = rows(path, "SELECT ifnull(sum(calls), 0) AS n FROM hit_sums")
    assert hits == {"n": listed["n"] + others["n"], "saved": hits["n"] * 250_000_000_000}
    assert attempts == sums == {"n": len(calls), "cost": sum(row["cost_pusd"] for row in calls.values())}
    assert list(Path(f"{path}-spool").iterdir()) == []
    return orphans


def test_every_point_is_tried():
    assert set(POINTS) == {*PLACES, *RECOVERY}


def test_a_process_killed_at_any_point_loses_nothing_and_counts_nothing_twice(empty, tmp_path):
    points = [
        f"{place}.{point}:{count}" for place, counts in PLACES.items() for point in POINTS[place] for count in counts
    ]
    scenarios = []
    for number, point in enumerate(points):
        path = shutil.copy(empty, tmp_path / f"{number}.db")
        scenarios += [[str(path), point, "calls"], [str(path), "", "none"]]
    done = run(scenarios)
    for number, point in enumerate(points):
        killed, next_one = done[number * 2 : number * 2 + 2]
        assert (killed["killed"], next_one["killed"]) == (True, False), point
        orphans = check(tmp_path / f"{number}.db", [killed])
        assert next_one["recovered"][1] == len(orphans)


def test_a_process_killed_while_it_recovers_is_no_worse(empty, tmp_path):
    points = [f"{place}.{point}:1" for place in RECOVERY for point in POINTS[place]]
    scenarios = []
    for number, point in enumerate(points):
        path = str(shutil.copy(empty, tmp_path / f"{number}.db"))
        scenarios += [[path, "spool-append.after:80", "calls"], [path, point, "none"], [path, "", "none"]]
    done = run(scenarios)
    for number, point in enumerate(points):
        runs = done[number * 3 : number * 3 + 3]
        assert [each["killed"] for each in runs] == [True, True, False], point
        check(tmp_path / f"{number}.db", runs)


async def test_the_output_of_an_interrupted_call_is_what_its_model_usually_says(empty, record, attempt, tmp_path):
    stores = open_store(f"sqlite:///{empty}", SystemClock(), lambda *_: (Decimal(1), "estimate"))
    await stores.start()
    for output in (100, 300):
        record(stores.ledger, attempt(), usage=Usage(5, output), model="fast")
    record(stores.ledger, attempt(), usage=Usage(5, 9000), model="other")
    for payload in ({}, {"max_tokens": 50}, {"max_tokens": 20, "n": 4}):
        request = Request(operation="chat", model="fast", payload=payload, call=Call(id=str(payload)))
        stores.ledger.reserve(request, Attempt("openai", "gpt", 1.0, running=True), Usage(7, 0, source="estimate"))
    vectors = Request(operation="embeddings", model="fast", payload={}, call=Call(id="vectors"))
    stores.ledger.reserve(vectors, Attempt("openai", "gpt", 1.0, running=True), Usage(7, 0, source="estimate"))
    await stores.aclose()
    again = open_store(f"sqlite:///{empty}", SystemClock())
    await again.start()
    assert again.recovered == (0, 4)
    await again.aclose()
    found = rows(empty, "SELECT * FROM calls WHERE outcome = 'interrupted'")
    assert {row["request_id"]: row["output_tokens"] for row in found} == {
        "{}": 200, "{'max_tokens': 50}": 50, "{'max_tokens': 20, 'n': 4}": 80, "vectors": 0,
    }  # fmt: skip
    assert {row["cost_source"] for row in found} == {"unknown"}


async def test_what_cannot_be_written_down_is_refused_and_said(empty, monkeypatch, caplog):
    stores = open_store(f"sqlite:///{empty}", SystemClock())
    await stores.start()
    request = Request(operation="chat", model="fast", payload={}, call=Call(id="one"))
    attempt = Attempt("openai", "gpt", 1.0, running=True)
    stores.ledger._spool._segments[-1].limit = 0

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StoreError) as refused:
        stores.ledger.reserve(request, attempt, Usage(7))
    assert (refused.value.code, refused.value.retry_after) == ("ledger_unavailable", 5.0)
    assert "No space left" in caplog.text
    monkeypatch.undo()
    stores._backend.writer.limit = 0
    with pytest.raises(StoreError, match="was not sent"):
        stores.ledger.reserve(request, attempt, Usage(7))
    await stores.aclose()
    assert rows(empty) == []


async def test_a_start_without_room_for_the_spool_says_where(tmp_path):
    (tmp_path / "a.db-spool").write_text("in the way")
    stores = open_store(f"sqlite:///{tmp_path / 'a.db'}", SystemClock())
    with pytest.raises(StoreError, match=r"a\.db-spool cannot be used"):
        await stores.start()


async def test_ids_differ_when_the_clock_goes_back_and_when_thousands_begin_at_once(empty, record):
    stores = open_store(f"sqlite:///{empty}", SystemClock())
    await stores.start()
    for number in range(5000):
        record(stores.ledger, started_at=1_700_000_000.0 - number % 2 * 3600)
    await stores.flush()
    node = stores.ledger._spool.node
    found = [row["id"] for row in rows(empty, "SELECT id FROM calls")]
    assert len(found) == 5000
    assert {ident >> 11 & 1023 for ident in found} == {node}
    await stores.aclose()
