import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, select

from penstock.core.clock import SystemClock
from penstock.core.errors import ConfigError, StoreError
from penstock.stores.opening import open_store
from penstock.stores.sql import sqlite
from penstock.stores.sql.database import MIGRATIONS, Database, create, migrate
from penstock.stores.sql.question_tables import metadata
from penstock.stores.sql.tables import HEAD


def ask(path, sql):
    connection = sqlite3.connect(path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


async def refused(path):
    stores = open_store(f"sqlite:///{path}", SystemClock())
    with pytest.raises(StoreError) as caught:
        await stores.start()
    await stores.aclose()
    return caught.value.message


async def test_an_empty_file_gets_the_tables_and_is_opened_again_at_head(path):
    for _ in range(2):
        database = Database(f"sqlite:///{path}", SystemClock())
        await database.start()
        await database.aclose()
        assert ask(path, "SELECT version_num FROM alembic_version") == [(HEAD,)]
    assert ask(path, "PRAGMA journal_mode") == [("wal",)]


OPEN = """
    import asyncio, sys
    from penstock.core.clock import SystemClock
    from penstock.stores.opening import open_store
    assert "sqlalchemy" not in sys.modules
    stores = open_store("sqlite:///" + sys.argv[1], SystemClock())
    async def main():
        await stores.start()
        await stores.aclose()
    asyncio.run(main())
    print("alembic" in sys.modules)
"""


def test_the_migration_tool_is_imported_only_for_a_database_of_an_older_revision(path):
    program = [sys.executable, "-c", textwrap.dedent(OPEN), str(path)]
    said = [subprocess.run(program, check=True, capture_output=True, text=True).stdout for _ in range(2)]
    assert said == ["False\n", "False\n"]


def test_the_newest_revision_is_the_one_the_tables_describe(path):
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def shape(connection):
    """Everything about the tables but the order of their columns, which nothing relies on."""
    found = {}
    for name, without_rowid in connection.exec_driver_sql(
        "SELECT name, wr FROM pragma_table_list WHERE name <> 'sqlite_schema'"
    ):
        indexes = connection.exec_driver_sql(f"PRAGMA index_list({name})").all()
        found[name] = (
            without_rowid,
            sorted(tuple(row)[1:] for row in connection.exec_driver_sql(f"PRAGMA table_xinfo({name})")),
            sorted(tuple(row)[2:] for row in connection.exec_driver_sql(f"PRAGMA foreign_key_list({name})")),
            sorted(
                (
                    index[2:],
                    tuple(row[2:] for row in connection.exec_driver_sql(f"PRAGMA index_xinfo({index[1]})") if row[5]),
                )
                for index in indexes
            ),
        )
    conditions = connection.exec_driver_sql(
        "SELECT name, sql FROM sqlite_master WHERE type <> 'table' AND sql LIKE '% WHERE %'"
    )
    return found, sorted(tuple(row) for row in conditions)


def test_a_new_database_is_what_the_revisions_make(tmp_path):
    shapes = []
    for make in (create, migrate):
        with sqlite.open_writing(str(tmp_path / make.__name__)).begin() as connection:
            make(connection)
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []
            shapes.append(shape(connection))
    assert shapes[0] == shapes[1]
    assert {"calls", "answers", "usage", "api_keys", "alembic_version"} <= shapes[0][0].keys()
    assert shapes[0][1]


async def test_two_that_open_a_new_file_at_once_both_succeed(path):
    opened = [open_store(f"sqlite:///{path}", SystemClock()) for _ in range(2)]
    await asyncio.gather(*(stores.start() for stores in opened))
    for stores in opened:
        await stores.aclose()
    assert ask(path, "SELECT count(*) FROM alembic_version") == [(1,)]


async def test_a_file_that_is_no_database_is_refused_with_advice(path):
    path.write_bytes(b"these are not the pages you are looking for" * 100)
    message = await refused(path)
    assert str(path) in message
    assert ".recover" in message


async def test_a_damaged_database_is_refused_with_advice(stores, path, record, attempt):
    for number in range(2000):
        record(stores.ledger, attempt(), id=f"req_{number}")
    await stores.aclose()
    content = bytearray(path.read_bytes())
    for position in range(len(content) // 2, len(content) // 2 + 20_000):
        content[position] ^= 0x5A
    path.write_bytes(content)
    message = await refused(path)
    assert str(path) in message
    assert "restore a backup" in message


async def test_another_programs_database_is_left_alone(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE photos (name TEXT)")
    connection.commit()
    connection.close()
    assert "another program" in await refused(path)
    assert ask(path, "SELECT name FROM sqlite_master") == [("photos",)]


async def test_a_newer_penstocks_database_is_refused(stores, path):
    await stores.aclose()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    assert "newer Penstock" in await refused(path)


async def test_a_missing_directory_is_named(tmp_path):
    assert "there is no directory" in await refused(tmp_path / "nowhere" / "p.db")


async def test_a_directory_in_place_of_the_file_is_named(tmp_path):
    assert "is a directory" in await refused(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
async def test_a_directory_without_permission_is_named(tmp_path):
    tmp_path.chmod(0o500)
    assert "may not write" in await refused(tmp_path / "p.db")
    tmp_path.chmod(0o700)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://u:secret@h/d", "penstock.db", ""])
def test_other_urls_are_refused_without_showing_credentials(url):
    with pytest.raises(ConfigError) as caught:
        open_store(url, SystemClock())
    assert caught.value.key == "store.url"
    assert "sqlite:///FILE" in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_a_full_disk_fails_with_advice_and_recovers(stores, path, monkeypatch):
    database = stores._backend
    monkeypatch.setattr(database.writer, "_patience_s", 0.2)
    pages = await database.execute(lambda c: c.exec_driver_sql("PRAGMA page_count").scalar())

    def limit(count):
        return lambda c: c.exec_driver_sql(f"PRAGMA max_page_count={count}").close()

    create = stores.completions.create
    await database.execute(limit(pages + 10))
    with pytest.raises(StoreError, match="free some space"):
        await create("t", {"id": "big", "content": "x" * 1_000_000}, [])
    assert "full" in database.state.error
    await database.execute(limit(1_000_000))
    await create("t", {"id": "big", "content": "x" * 1_000_000}, [])
    assert await stores.completions.retrieve("t", "big")
    assert database.state.error == ""


async def test_before_start_and_after_close_it_says_that_it_is_not_open(path):
    stores = open_store(f"sqlite:///{path}", SystemClock())
    with pytest.raises(StoreError, match="not open"):
        await stores.flush()
    await stores.start()
    await stores.aclose()
    await stores.aclose()
    with pytest.raises(StoreError, match="not open"):
        await stores.cache.get(b"k" * 32)


WRITE = """
    import asyncio, sys
    from penstock.core.call import Call
    from penstock.core.clock import SystemClock
    from penstock.core.request import Request
    from penstock.stores.opening import open_store
    stores = open_store("sqlite:///" + sys.argv[1], SystemClock())
    async def main():
        await stores.start()
        number = 0
        while True:
            for _ in range(50):
                number += 1
                call = Call(id=f"req_{number}")
                stores.ledger.record(Request("chat", "m", {}, call), call, duration_s=1.0, outcome="ok")
            await stores.flush()
            print(number, flush=True)
    asyncio.run(main())
"""


@pytest.fixture
def writing(path):
    """A process that records calls and prints how many are on disk."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITE), str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "50\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_others_read_while_one_writes(writing, path):
    seen = []
    deadline = time.monotonic() + 20
    while len(set(seen)) < 5:
        assert time.monotonic() < deadline
        seen.append(ask(path, "SELECT count(*) FROM calls")[0][0])
    assert seen == sorted(seen)
    assert all(count % 50 == 0 for count in seen)


async def test_a_killed_process_loses_nothing_it_was_told_is_on_disk(writing, path):
    told = 50
    while told < 1000:
        told = int(writing.stdout.readline())
    os.kill(writing.pid, signal.SIGKILL)
    rest = writing.stdout.read().split()
    told = int(rest[-1]) if rest else told
    stores = open_store(f"sqlite:///{path}", SystemClock())
    await stores.start()
    await stores.aclose()
    assert ask(path, "SELECT count(*), count(DISTINCT request_id), count(DISTINCT id) FROM calls")[0][0] >= told
    assert ask(path, "PRAGMA quick_check") == [("ok",)]


async def test_a_second_server_on_the_same_file_records_too(writing, path, stores, record):
    record(stores.ledger, id="mine")
    await stores.flush()
    assert ask(path, "SELECT count(*) FROM calls WHERE request_id = 'mine'") == [(1,)]


def test_the_home_directory_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert sqlite.file_of("sqlite:///~/p.db") == f"{tmp_path}/p.db"


@given(st.integers(1, 9), st.integers(0, 40))
def test_insert_many_rows(rows, n):
    engine = create_engine("sqlite://")
    table = Table("numbers", MetaData(), Column("number", Integer, primary_key=True), Column("square", Integer))
    numbers = [(number, number * number) for number in range(n)]
    with engine.begin() as connection:
        table.create(connection)
        sqlite.Insert(table, engine, rows=rows).run(connection, numbers)
        found = connection.execute(select(table).order_by(table.c.number)).all()
    assert [tuple(row) for row in found] == numbers
