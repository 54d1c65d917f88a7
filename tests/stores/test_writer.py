import logging
import sqlite3
import threading

import pytest
from sqlalchemy import text

from penstock.core.clock import SystemClock
from penstock.core.errors import StoreError
from penstock.stores.sql import sqlite
from penstock.stores.sql.writer import Writer


class Rows:
    """Writes numbers; "poison" cannot be written. Counts transactions and remembers what became of the items."""

    lasting = False

    def __init__(self):
        self.batches = []
        self.written, self.lost = [], []
        self.gate = threading.Event()
        self.gate.set()

    def write(self, connection, items):
        self.gate.wait()
        self.batches.append(len(items))
        for item in items:
            connection.execute(text("INSERT INTO t VALUES (:value)"), {"value": item})

    def settled(self, items, error):
        (self.written if error is None else self.lost).extend(items)


@pytest.fixture
def make(path):
    writers = []

    def make(**options):
        engine = sqlite.open_writing(str(path))
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS t (value INTEGER CHECK (value != 'poison'))")
        writer = Writer(engine, lambda error: sqlite.explain(error, str(path)), SystemClock(), **options)
        writers.append((writer, engine))
        return writer

    yield make
    for writer, engine in writers:
        writer.close()
        engine.dispose()


def values(path):
    with sqlite3.connect(path) as connection:
        found = [row[0] for row in connection.execute("SELECT value FROM t")]
    connection.close()
    return found


def test_what_is_not_in_a_hurry_gathers_longer(make, path):
    writer, job, unhurried = make(gather_s=60.0, most=2), Rows(), Rows()
    writer.unhurried.add(unhurried)
    done = threading.Event()
    job.settled = lambda items, error: done.set()
    writer.put(unhurried, 1)
    writer.put(job, 2)
    writer.start()
    assert done.wait(60.0)
    assert values(path) == [2]
    assert writer.pending == 1
    writer.put(unhurried, 3)
    writer.close()
    assert values(path) == [2, 1, 3]
    assert unhurried.batches == [2]


@pytest.mark.parametrize("hurry", [True, False])
def test_what_is_not_in_a_hurry_is_written_too(make, path, hurry):
    writer, unhurried = make(gather_s=60.0 if hurry else 0.001), Rows()
    writer.unhurried.add(unhurried)
    done = threading.Event()
    unhurried.settled = lambda items, error: done.set()
    writer.put(unhurried, 1)
    writer.start()
    if hurry:
        writer.hurry()
    assert done.wait(60.0)
    assert values(path) == [1]


def test_what_gathers_shares_a_transaction_and_closing_drains(make, path):
    writer, job = make(), Rows()
    for number in range(1000):
        assert writer.put(job, number)
    writer.start()
    writer.close()
    assert job.batches == [1000]
    assert values(path) == list(range(1000))
    assert writer.state == (0, 0, 0, "")


def test_a_large_queue_is_split_into_several_transactions(make, path):
    writer, job = make(most=300), Rows()
    for number in range(1000):
        writer.put(job, number)
    writer.start()
    writer.close()
    assert job.batches == [300, 300, 300, 100]
    assert values(path) == list(range(1000))


def test_a_full_queue_refuses_counts_and_says_so_once(make, caplog):
    writer, job = make(limit=10), Rows()
    taken = [writer.put(job, number) for number in range(100)]
    assert taken == [True] * 10 + [False] * 90
    assert writer.state.dropped == 90
    assert len(caplog.records) == 1
    assert caplog.records[0].levelno == logging.ERROR


def test_after_closing_items_are_refused_not_forgotten(make):
    writer, job = make(), Rows()
    writer.start()
    writer.close()
    assert not writer.put(job, 1)
    assert writer.state.dropped == 1


def test_an_item_that_cannot_be_written_does_not_take_others_with_it(make, path, caplog):
    writer, job = make(), Rows()
    for item in (1, "poison", 2, object(), 3):
        writer.put(job, item)
    writer.start()
    writer.close()
    assert values(path) == [1, 2, 3] == job.written
    assert len(job.lost) == 2
    assert writer.state.lost == 2
    assert "2 lost" in caplog.text


def test_a_batch_waits_for_a_lock_to_be_released(make, path, monkeypatch):
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.05)
    writer, job = make(gather_s=0.0), Rows()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writer.start()
    writer.put(job, 1)
    for _ in range(100):
        if writer.state.error:
            break
        threading.Event().wait(0.05)
    assert "another process" in writer.state.error
    other.execute("ROLLBACK")
    other.close()
    writer.close()
    assert values(path) == [1]
    assert writer.state == (0, 0, 0, "")


def test_a_batch_that_cannot_be_written_is_given_up_in_the_end_and_counted(make, path, monkeypatch, caplog):
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.05)
    writer, job = make(patience_s=0.3, closing_patience_s=0.3), Rows()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writer.put(job, 1)
    writer.put(job, 2)
    writer.start()
    writer.close()
    other.close()
    assert job.lost == [1, 2]
    assert writer.state.lost == 2
    assert "2 lost" in caplog.text
    assert values(path) == []


def test_lasting_items_are_not_given_up_while_the_writer_runs(make, path, monkeypatch):
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.05)
    writer, job, passing = make(gather_s=0.0, patience_s=0.1), Rows(), Rows()
    job.lasting = True
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writer.put(job, 1)
    writer.put(passing, 2)
    writer.put(job, 3)
    writer.start()
    for _ in range(100):
        if passing.lost:
            break
        threading.Event().wait(0.05)
    other.execute("ROLLBACK")
    other.close()
    writer.close()
    assert (values(path), job.written, job.lost, passing.lost) == ([1, 3], [1, 3], [], [2])
    assert writer.state.lost == 1


def test_lasting_items_are_left_at_the_end(make, path, monkeypatch):
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.05)
    writer, job = make(closing_patience_s=0.1), Rows()
    job.lasting = True
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writer.put(job, 1)
    writer.start()
    writer.close()
    other.close()
    assert (job.written, job.lost, writer.state.lost) == ([], [], 1)


def test_an_item_that_must_be_written_is_taken_beyond_the_limit(make, path):
    writer, job = make(limit=1), Rows()
    assert writer.put(job, 1)
    assert writer.full
    assert not writer.put(job, 2)
    assert writer.put(job, 3, beyond=True)
    writer.start()
    writer.close()
    assert values(path) == [1, 3]


def test_errors_keep_being_explained():
    error = sqlite.explain(ValueError("odd"), "a.db")
    assert isinstance(error, StoreError)
    assert "a.db" in error.message
    assert "odd" in error.message
