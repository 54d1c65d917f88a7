import asyncio
import json
import sqlite3
from decimal import Decimal

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.cli import main
from penstock.core.call import Attempt, Call
from penstock.core.clock import SystemClock
from penstock.core.request import Request
from penstock.core.usage import Usage
from penstock.stores.opening import open_store
from penstock.stores.records import CallRecord, TryRecord, microseconds, moment
from penstock.usage import record_files, usage_import, usage_records, usage_report

DAY = 86_400
FORMATS = record_files.FORMATS


def fill(url, *, ages=(0.0, 1.0), model="fast"):
    asyncio.run(filled(url, ages, model))


async def filled(url, ages, model):
    stores = open_store(url, SystemClock())
    await stores.start()
    tried = {"duration_s": 1.0, "first_token_s": 0.5, "usage": Usage(1000, 200)}
    for age in sorted(ages, reverse=True):
        at = SystemClock.wall() - age * DAY
        paid = Attempt(
            "openai", "m", 0.0, cost_usd=Decimal("0.000000125"), cost_source="provider", outcome="ok", **tried
        )
        failed = Attempt("near", "l", 0.0, outcome="upstream_error", status_code=500, cost_source="none")
        calls = [
            Call("req_1", attempts=[failed, paid], key=bytes(range(32)), started_at=at, finish_reason="stop",
                 semantic="shadow", semantic_key=bytes(range(32, 64)), semantic_audit=0.05),
            Call("req_2", cache="hit", saved_usd=Decimal("0.25"), usage=Usage(10, 20), started_at=at),
        ]  # fmt: skip
        for call in calls:
            labels = {"tags": ("a,b", '"ü"\n'), "metadata": {"operation": "sum"}}
            request = Request("chat", model, {}, call, tenant="acme/web", key_id="key_1", **labels)
            stores.ledger.record(request, call, duration_s=1.5, outcome="ok")
    await stores.aclose()


def run(*arguments, **more):
    return CliRunner().invoke(main, ["usage", *map(str, arguments)], **more)


def total(url):
    return usage_report(url, days=30).total


def rows(path, table="calls"):
    with sqlite3.connect(path) as connection:
        found = connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
    connection.close()
    return found


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_exported_can_be_imported_and_twice_changes_nothing(tmp_path, form):
    old, new, file = tmp_path / "old.db", tmp_path / "new.db", tmp_path / f"calls.{form}"
    fill(f"sqlite:///{old}", model="=1+1")
    assert run("export", file, "--store", f"sqlite:///{old}").stderr == "4 calls\n"
    for expected in ({"added": 4, "known": 0, "too_old": 0}, {"added": 0, "known": 4, "too_old": 0}):
        result = run("import", file, "--store", f"sqlite:///{new}", "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout) == expected
        assert rows(new) == rows(old)
        assert rows(new, "attempts") == rows(old, "attempts")
        assert total(f"sqlite:///{new}") == total(f"sqlite:///{old}")
    if form == "csv":
        assert ",=1" not in file.read_text()


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=6)
COUNT = st.none() | st.integers(0, 2**62)
USD = st.none() | st.integers(0, 10**15).map(lambda number: f"{Decimal(number).scaleb(-12).normalize():f}")
RECORD = st.builds(
    CallRecord,
    id=st.integers(0, 2**63 - 1), started_at=st.integers(0, 4 * 10**15).map(moment), request_id=st.just("r"),
    tenant=TEXT, operation=st.just("chat"), model=TEXT, outcome=st.just("ok"), duration_us=st.integers(0, 10**12),
    provider=st.none() | TEXT, stream=st.booleans(), cache=st.sampled_from(["", "hit"]), input_tokens=COUNT,
    output_tokens=COUNT, cost_usd=USD, tags=st.lists(TEXT, max_size=2),
    metadata=st.dictionaries(TEXT, TEXT, max_size=1), cache_key=st.none() | st.just("00ff"), answer_bytes=COUNT,
    semantic=st.sampled_from([None, "shadow"]), semantic_key=st.none() | st.just("ff00"),
    semantic_audit=st.none() | st.floats(0, 1),
    tries=st.lists(st.builds(TryRecord, provider=TEXT, model=TEXT, outcome=st.just("ok"), cost_usd=USD), max_size=1),
)  # fmt: skip
RECORDS = st.lists(RECORD, max_size=3)


@pytest.mark.parametrize("form", FORMATS)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=RECORDS)
def test_files_keep_records_exactly(tmp_path, form, records):
    file = tmp_path / "records"
    with file.open("wb") as target:
        record_files.write(target, form, records)
    with file.open("rb") as source:
        assert list(record_files.read(source, form, "records")) == records


@given(st.integers(0, 10**16))
def test_times_are_exact_to_the_microsecond(at):
    assert microseconds(moment(at)) == at


def test_calls_that_were_removed_do_not_come_back(tmp_path):
    url, file = f"sqlite:///{tmp_path}/p.db", tmp_path / "calls.jsonl"
    fill(url, ages=(0, 20))
    run("export", file, "--store", url)
    before = total(url)
    done = json.loads(run("maintain", "--store", url, "--days", 10, "--json").stdout)
    assert (done["removed"], done["folded"] > 0) == (2, True)
    assert total(url) == before
    assert json.loads(run("import", file, "--store", url, "--json").stdout) == {"added": 0, "known": 2, "too_old": 2}
    assert total(url) == before
    assert len(list(usage_records(url))) == 2


def test_part_of_the_calls_and_stdout(tmp_path):
    url = f"sqlite:///{tmp_path}/p.db"
    fill(url, ages=(0, 20))
    found = run("export", "-", "--format", "jsonl", "--days", 10, "--store", url).stdout_bytes.splitlines()
    assert [json.loads(line)["request_id"] for line in found] == ["req_1", "req_2"]
    assert json.loads(run("export", tmp_path / "a.csv", "--json", "--store", url).stdout) == {"calls": 4}
    assert run("export", "-", "--format", "csv", "--json", "--store", url).exit_code == 2
    assert run("export", "-", "--format", "jsonl", "--tenant", "other", "--store", url).stdout == ""
    assert usage_import(url, iter(())).added == 0


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'{"id": 1}\n', "a.jsonl, line 1: Object missing required field"),
        ("a.jsonl", b"\n{}{\n", "a.jsonl, line 2"),
        ("a.csv", b"id,request_id\n1\n", "a.csv, line 2: expected as many fields"),
        ("a.csv", b"id,colour\n1,2\n", "a.csv, line 2"),
        ("a.parquet", b"no parquet", "a.parquet: Parquet magic bytes"),
        ("a.xls", b"", "give --format"),
    ],
)
def test_what_cannot_be_imported_is_explained(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    result = run("import", tmp_path / name, "--store", f"sqlite:///{tmp_path}/p.db")
    assert result.exit_code == 2
    assert said in result.output


def test_statistics_and_their_reset(tmp_path):
    url = f"sqlite:///{tmp_path}/p.db"
    fill(url)
    first = json.loads(run("stats", "--store", url, "--json").stdout)
    assert first["since_start"] == first["since_reset"]
    assert (first["since_start"]["calls"], first["since_start"]["hits"]) == (4, 2)
    assert (first["since_start"]["tokens_saved"], first["since_start"]["saved_usd"]) == (60, "0.500000000000")
    assert "since the reset" in run("stats", "--store", url, "--reset").stdout
    fill(url, ages=(0.0,))
    second = json.loads(run("stats", "--store", url, "--json").stdout)
    assert (second["since_start"]["calls"], second["since_reset"]["calls"]) == (6, 2)
    assert second["since_reset"]["saved_usd"] == "0.250000000000"
    mine = json.loads(run("stats", "--store", url, "--json", "--tenant", "acme").stdout)
    assert (mine["since_reset"]["calls"], total(url).calls) == (6, 6)
