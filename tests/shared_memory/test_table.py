"""Two handles on one file are as two processes are: each maps it for itself."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from penstock.shared_memory.table import Table, digest

NAMES = [digest("name", str(number)) for number in range(12)]
values = st.floats(min_value=0.5, max_value=1e9)


class TwoHandles(RuleBasedStateMachine):
    """As many names as there are places are all remembered, whoever says them; what both read is the same."""

    @initialize()
    def open(self):
        self.folder = tempfile.TemporaryDirectory()
        path = str(Path(self.folder.name) / "table")
        self.handles = [Table(path, 8), Table(path, 8)]
        self.known: dict[bytes, tuple[float, float]] = {}

    @rule(who=st.integers(0, 1), name=st.sampled_from(NAMES), value=values, until=values)
    def put(self, who, name, value, until):
        with self.handles[who]:
            self.handles[who].put(name, value, until)
        if name not in self.known and len(self.known) == 8:
            least = min(each[1] for each in self.known.values())
            gone = [each for each in self.known if self.handles[1 - who].get(each) is None]
            assert [self.known.pop(each)[1] for each in gone] == [least]
        self.known[name] = value, until

    @rule(who=st.integers(0, 1), name=st.sampled_from(NAMES))
    def drop(self, who, name):
        with self.handles[who]:
            self.handles[who].drop(name)
        self.known.pop(name, None)

    @invariant()
    def both_know_the_same(self):
        for handle in getattr(self, "handles", ()):
            assert {name: handle.get(name) for name in NAMES} == {
                name: self.known[name][0] if name in self.known else None for name in NAMES
            }

    def teardown(self):
        for handle in getattr(self, "handles", ()):
            handle.close()
        self.folder.cleanup()


TestTwoHandles = TwoHandles.TestCase

HOLDS = """
import sys, time
from penstock.shared_memory.table import Table
table = Table(sys.argv[1], 8)
table.hold(3)
table.__enter__()
print("locked", flush=True)
time.sleep(60)
"""


def test_a_killed_process_leaves_neither_its_lock_nor_its_number_behind(tmp_path):
    path = str(tmp_path / "table")
    table = Table(path, 8)
    assert not table.held(3)
    holder = subprocess.Popen([sys.executable, "-c", HOLDS, path], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"locked\n"
    assert table.held(3)
    assert not table.held(4)
    os.kill(holder.pid, signal.SIGKILL)
    with table:  # waits for the process to be gone, and would wait for ever if the lock outlived it
        table.put(NAMES[0], 1.0, 1.0)
    with table:  # and it is a lock as before
        table.put(NAMES[1], 1.0, 1.0)
    holder.wait()
    holder.stdout.close()
    assert not table.held(3)
    assert table.get(NAMES[0]) == 1.0
    table.close()


def test_names_of_different_parts_differ():
    assert digest("a", "b") != digest("ab") != digest("a:b")
    assert digest("a\0" + "1:b") != digest("a", "b")


def test_nobody_else_can_open_it(tmp_path):
    Table(str(tmp_path / "table"), 8).close()
    assert (tmp_path / "table").stat().st_mode & 0o777 == 0o600
