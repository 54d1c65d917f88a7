import asyncio
import shutil
import sqlite3
from collections import defaultdict
from decimal import Decimal

import pytest
from alembic import command
from alembic.config import Config
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from penstock.core.clock import SystemClock
from penstock.reporting import histogram
from penstock.stores.sql import database, queries, upkeep
from penstock.stores.sql.database import Database
from penstock.stores.sql.ledger import SqlLedger
from penstock.stores.sql.rollups import OTHER, Rollup
from penstock.stores.sql.tables import calls, first_id, usage
from penstock.stores.sql.tally import CallRow
from penstock.stores.sql.upkeep import Upkeep
from penstock.testing.clock import FakeClock

DAY = 86_400
START = 1_700_006_400  # a midnight
ROW = CallRow(
    id=0, request_id="r", started_at=0, tenant="acme/web", operation="chat", model="m", provider="p",
    provider_model="x", stream=0, outcome="ok", cache="miss", finish_reason="stop", input_tokens=3, output_tokens=5,
    cached_tokens=1, cache_write_tokens=0, reasoning_tokens=0, usage_source="provider", cost_pusd=7,
    cost_source="provider", saved_pusd=None, first_token_us=900, duration_us=1000, attempts=1, tags=None, metadata=None,
    key_id=None, cache_key=None, answer_bytes=None, semantic=None, semantic_key=None,
    semantic_audit=None,
)  # fmt: skip
_NEWER = ("key_id", "cache_key", "answer_bytes", "semantic", "semantic_key", "semantic_audit",
          "prompt", "arms", "context_before", "context_after", "stage", "unit")  # fmt: skip
CALLS = st.lists(
    st.builds(
        ROW._replace,
        started_at=st.integers(START * 10**6, (START + 12 * DAY) * 10**6),
        model=st.sampled_from(["a", "b"]),
        tags=st.sampled_from([None, '["x"]', '["x","y"]']),
        metadata=st.sampled_from([None, '{"operation":"sum","a":"b"}']),
        outcome=st.sampled_from(["ok", "upstream_error"]),
        cache=st.sampled_from(["hit", "miss", ""]),
        cost_pusd=st.one_of(st.none(), st.integers(0, 10**12)),
        cost_source=st.sampled_from(["provider", "estimate", "unknown", "none"]),
        duration_us=st.integers(0, 10**9),
        first_token_us=st.one_of(st.none(), st.integers(0, 10**8)),
    ),
    min_size=1,
    max_size=20,
)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    path = tmp_path_factory.mktemp("template") / "empty.db"
    made = Database(f"sqlite:///{path}", SystemClock())
    database.prepare(made.engine, str(path))
    made.engine.dispose()
    return path


def insert(connection, rows):
    connection.execute(calls.insert(), [{**row._asdict(), "tags": None, "metadata": None} for row in rows])


class Books(RuleBasedStateMachine):
    """Any sequence of calls, folds and removals leaves sums equal to those over all rows there ever were."""

    template = None
    folder = None

    @initialize()
    def open(self):
        path = self.folder.mktemp("books") / "books.db"
        shutil.copy(self.template, path)
        self.database = Database(f"sqlite:///{path}", SystemClock())
        self.rollup = Rollup(self.database.engine)
        self.folding = upkeep.Fold(self.database.engine)
        self.known = []

    @rule(batch=CALLS, undone=st.booleans())
    def write(self, batch, undone):
        rows = [row._replace(id=first_id(row.started_at / 1e6) + len(self.known) + n) for n, row in enumerate(batch)]
        if undone:  # a transaction that fails after it, and is repeated
            connection = self.database.engine.connect()
            connection.begin()
            for each in (self.rollup, Rollup(self.database.engine), self.rollup):
                each.tally(connection, rows)
            connection.rollback()
            connection.close()
        with self.database.engine.begin() as connection:
            insert(connection, rows)
            self.rollup.tally(connection, rows)
        self.known += rows

    @rule(day=st.integers(0, 13))
    def fold(self, day):
        with self.database.engine.begin() as connection:
            self.folding.step(connection, START + day * DAY)

    @rule(week=st.integers(0, 2))
    def fold_weeks(self, week):
        with self.database.engine.begin() as connection:
            self.folding.step_weeks(connection, upkeep.week_of(START + week * 7 * DAY))

    @rule(day=st.integers(0, 12))
    def expire(self, day):
        limit = first_id(START + day * DAY)
        with self.database.engine.begin() as connection:
            upkeep.expire(connection, limit)
            left = connection.execute(calls.select().where(calls.c.id < limit)).all()
        assert len(left) == 0

    @invariant()
    def sums_agree(self):
        with self.database.engine.begin() as connection:
            period = queries.Period(connection, (0, 2 * START))
            total = period.lines(())[0]
            split = period.lines(["model", "name", "tag"])
            days = period.slots(DAY)
        assert total.calls == len(self.known)
        assert total.cost_usd == Decimal(sum(row.cost_pusd or 0 for row in self.known)).scaleb(-12)
        assert total.errors == sum(row.outcome != "ok" for row in self.known)
        assert total.estimated == sum(row.cost_source == "estimate" for row in self.known)
        times = defaultdict(int)
        for row in self.known:
            times[histogram.bucket(row.duration_us)] += 1
        shares = (50, 95, 99)
        assert [total.p50_s, total.p95_s, total.p99_s] == histogram.percentiles(histogram.pack(times), *shares)
        expected = defaultdict(int)
        for row in self.known:
            for tag in {None: [None], '["x"]': ["x"], '["x","y"]': ["x", "y"]}[row.tags]:
                expected[row.model, "sum" if row.metadata else None, tag] += 1
        assert {tuple(line.group.values()): line.calls for line in split} == expected
        by_day = defaultdict(int)
        for row in self.known:
            by_day[row.started_at // 10**6 // DAY * DAY] += 1
        assert {slot.start: slot.calls for slot in days} == by_day

    def teardown(self):
        if hasattr(self, "database"):
            self.database.engine.dispose()


def test_sums_agree_with_the_rows_whatever_happens(template, tmp_path_factory):
    Books.template, Books.folder = template, tmp_path_factory
    Books.TestCase.settings = settings(max_examples=15, stateful_step_count=10)
    machine = Books.TestCase("runTest")
    machine.runTest()


@pytest.fixture
async def open_books(path):
    opened = []

    async def open_books(clock):
        base = Database(f"sqlite:///{path}", clock)
        await base.start()
        opened.append(base)
        return base, SqlLedger(base, Rollup(base.engine))

    yield open_books
    for base in opened:
        await base.aclose()


async def test_old_hours_become_days_and_old_rows_go(open_books, path, record, attempt):
    clock = FakeClock(wall=START + 100 * DAY)
    base, ledger = await open_books(clock)
    for age in (99, 95, 10, 1):
        record(ledger, attempt(), attempt(), started_at=clock.wall() - age * DAY)
    await ledger.flush()
    kept = await Upkeep(base, clock, 90.0).once()
    assert (kept.summed, kept.folded, kept.removed) == (0, 5, 2)
    again = await Upkeep(base, clock, 90.0).once()
    assert (again.folded, again.removed) == (0, 0)
    await base.aclose()
    rows = sqlite3.connect(path)
    assert rows.execute("SELECT count(*), (SELECT count(*) FROM attempts) FROM calls").fetchone() == (2, 4)
    assert rows.execute("SELECT span_s, calls FROM usage ORDER BY start").fetchall() == [(DAY, 1)] * 3 + [(3600, 1)]
    rows.close()


async def test_a_database_without_rollups_gets_them_in_steps(open_books, path, record, attempt, monkeypatch):
    monkeypatch.setattr(upkeep, "_SUMMED_ROWS", 7)
    base, ledger = await open_books(SystemClock())
    for _ in range(30):
        record(ledger, attempt(), tags=("a",))
    await base.aclose()
    rows = sqlite3.connect(path)
    for table in ("usage", "usage_latencies", "usage_groups"):
        rows.execute(f"DELETE FROM {table}")
    rows.execute("INSERT INTO marks SELECT 'unsummed_from', min(id) FROM calls")
    rows.execute("INSERT INTO marks SELECT 'unsummed_until', max(id) FROM calls")
    rows.commit()
    rows.close()
    base, ledger = await open_books(SystemClock())
    record(ledger, attempt())
    await ledger.flush()
    assert await base.read(queries.uncounted) == 30
    kept = await Upkeep(base, SystemClock(), 90.0).once()
    assert kept.summed == 30
    total = await base.read(lambda connection: queries.Period(connection, (0, 10**10)).lines(()))
    assert total[0].calls == 31
    assert await base.read(queries.uncounted) == 0
    await base.aclose()


async def test_upkeep_runs_by_itself_and_once_for_all_processes(open_books, record):
    clock = FakeClock(wall=START + 10 * DAY)
    base, ledger = await open_books(clock)
    record(ledger, started_at=START)
    await ledger.flush()
    other, _ = await open_books(clock)
    tasks = [asyncio.create_task(Upkeep(each, clock, 90.0).run()) for each in (base, other)]

    async def spans():
        return await base.read(lambda connection: connection.execute(usage.select()).first().span_s)

    while await spans() == 3600 or clock.sleeping < 2:
        await clock.run(1)
        await asyncio.sleep(0.01)
    slot = await base.read(lambda connection: upkeep.mark(connection, "upkeep"))
    assert not await base.execute(lambda connection: upkeep.claim(connection, "upkeep", slot))
    assert await base.execute(lambda connection: upkeep.claim(connection, "upkeep", slot + 6 * 3600))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_names_beyond_a_limit_are_summed_up_together(path):
    made = Database(f"sqlite:///{path}", SystemClock())
    database.prepare(made.engine, str(path))
    rollup = Rollup(made.engine, most_groups=3)
    for _ in range(2):  # a group is remembered once it was found, not when it is made
        for number in range(6):
            row = ROW._replace(id=number, started_at=START * 10**6, model=f"m{number}")
            with made.engine.begin() as connection:
                rollup.tally(connection, [row])
    with made.engine.begin() as connection:
        lines = queries.Period(connection, (0, 2 * START)).lines(["model"])
    assert sum(line.calls for line in lines) == 12
    assert OTHER in {line.group["model"] for line in lines}
    made.engine.dispose()


async def test_a_database_of_the_first_revision_is_summed_up_after_its_migration(path, open_books):
    old = Database(f"sqlite:///{path}", SystemClock())
    with old.engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(database.MIGRATIONS))
        config.set_main_option("path_separator", "os")
        command.upgrade(config, "0001")
        for number in range(3):
            values = {**ROW._asdict(), "id": 7 + number, "started_at": START * 10**6}
            names = [name for name in values if name not in _NEWER]
            places = ", ".join("?" * len(names))
            statement = f"INSERT INTO calls ({', '.join(names)}) VALUES ({places})"
            connection.exec_driver_sql(statement, tuple(values[name] for name in names))
    old.engine.dispose()
    base, _ = await open_books(SystemClock())
    assert await base.read(queries.uncounted) == 3
    assert (await Upkeep(base, SystemClock(), None).once()).summed == 3
    lines = await base.read(lambda connection: queries.Period(connection, (0, 2 * START)).lines(["model"]))
    assert [(line.group["model"], line.calls) for line in lines] == [("m", 3)]
