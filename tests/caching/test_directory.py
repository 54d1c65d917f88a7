"""Where answers are, as several workers see it: each has a handle of its own on one file."""

import itertools
import tempfile
from hashlib import sha256
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from penstock.caching.directory import Directory
from penstock.shared_memory.table import Table
from penstock.testing import FakeClock

KEYS = [sha256(bytes([number])).digest() for number in range(4)]
keys, workers = st.sampled_from(KEYS), st.integers(1, 3)


class Workers(RuleBasedStateMachine):
    """Of several workers that want an answer exactly one asks, as long as nobody doubts the directory."""

    @initialize()
    def open(self):
        self.folder = tempfile.TemporaryDirectory()
        self.tables = [Table(str(Path(self.folder.name) / "answers"), 64) for _ in range(3)]
        clock = FakeClock()
        self.directories = {n: Directory(table, n, clock) for n, table in enumerate(self.tables, start=1)}
        self.state: dict[bytes, tuple[int, bool]] = {}

    @rule(worker=workers, key=keys)
    def claim(self, worker, key):
        sighting = self.directories[worker].claim(key)
        owner = self.state.get(key)
        if owner is None or owner[0] == worker:
            assert sighting is None
            self.state[key] = worker, False
        else:
            assert (sighting.worker, sighting.cached) == owner

    @rule(key=keys, first=workers, second=workers)
    def two_find_the_same_one_useless(self, key, first, second):
        seen = [(each, self.directories[each].look(key)) for each in (first, second)]
        seen = [(each, sighting) for each, sighting in seen if sighting is not None]
        if len({each for each, _ in seen}) == 2:
            (one, saw), (other, also_saw) = seen
            assert self.directories[one].claim(key, saw) is None
            assert self.directories[other].claim(key, also_saw).worker == one
            self.state[key] = one, False

    @rule(worker=workers, key=keys)
    def keep(self, worker, key):
        self.directories[worker].cached(key)
        self.state[key] = worker, True

    @rule(worker=workers, key=keys)
    def release(self, worker, key):
        self.directories[worker].release(key)
        if self.state.get(key) == (worker, False):
            del self.state[key]

    @rule(worker=workers, key=keys)
    def forget(self, worker, key):
        self.directories[worker].forget(key)
        if self.state.get(key) == (worker, True):
            del self.state[key]

    @rule()
    def all_see_the_same(self):
        for (worker, directory), key in itertools.product(self.directories.items(), KEYS):
            sighting, owner = directory.look(key), self.state.get(key)
            if owner is None or owner[0] == worker:
                assert sighting is None
            else:
                assert (sighting.worker, sighting.cached) == owner

    def teardown(self):
        for table in getattr(self, "tables", ()):
            table.close()
        if hasattr(self, "folder"):
            self.folder.cleanup()


TestWorkers = Workers.TestCase


def test_a_flight_is_remembered_longer_than_an_answer(tmp_path):
    table = Table(str(tmp_path / "answers"), 8)
    directory = Directory(table, 1, FakeClock())
    other = Directory(table, 2, FakeClock())
    directory.claim(KEYS[0])
    for number in range(50):
        directory.cached(sha256(b"%d" % number).digest())
    assert other.look(KEYS[0]).worker == 1
    table.close()
