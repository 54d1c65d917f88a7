import errno
import itertools
import mmap
import os

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from penstock.core.call import Attempt, Call
from penstock.core.errors import StoreError
from penstock.core.request import Request
from penstock.core.usage import Usage
from penstock.stores.sql.entry import begun, ended
from penstock.stores.sql.frames import WRITTEN, frames, pack
from penstock.stores.sql.spool import Spool

_idents = itertools.count(1)


def call_of(*attempts, ident=None, **fields):
    """A request with attempts that are already written down under one id."""
    ident = ident or next(_idents)
    call = Call(id=f"req_{ident}", attempts=list(attempts))
    for attempt in attempts:
        attempt.ledger_id = ident
    return ident, Request(operation="chat", model="fast", payload={"max_tokens": 7}, call=call, **fields)


def attempt(**fields):
    return Attempt("openai", "gpt-4o-mini", 1.0, running=True, **fields)


def begin(spool, ident, request):
    spool.begin(ident, begun(ident, request, request.call.attempts, Usage(11, 0, source="estimate")))


def settle(spool, ident, request, outcome="ok"):
    return spool.settle(ended(ident, request, request.call, 0.5, outcome))


def _failing(number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    return fail


def found(spool):
    """What a next process would find after this one was killed: it releases the lock and nothing else."""
    os.close(spool._lock)
    spool._lock = -1
    (leftover,) = spool.leftovers()
    entries = list(leftover.entries())
    leftover.close()
    return entries


@pytest.fixture(params=["mapped", "written"])
def spool(request, tmp_path, monkeypatch):
    if request.param == "written":
        monkeypatch.setattr(mmap, "mmap", _failing(errno.ENODEV))
    opened = Spool(tmp_path / "spool", segment_bytes=2000)
    opened.open()
    yield opened
    opened.close()


def test_what_has_ended_and_what_was_running_is_found_after_a_kill(spool):
    first, running = call_of(attempt()), call_of(attempt())
    begin(spool, *first)
    begin(spool, *running)
    settle(spool, *first)
    ended_call, begun_call = found(spool)
    assert (ended_call.id, ended_call.outcome, begun_call.id, begun_call.outcome) == (first[0], "ok", running[0], "")
    assert (begun_call.expected.input_tokens, begun_call.most_output) == (11, 7)


def test_a_later_attempt_carries_the_end_of_the_one_before(spool):
    ident, request = call_of(attempt())
    begin(spool, ident, request)
    request.call.attempts[0].running = False
    request.call.attempts[0].outcome = "upstream_timeout"
    second = attempt(ledger_id=ident)
    request.call.attempts.append(second)
    begin(spool, ident, request)
    (entry,) = found(spool)
    assert [(each.outcome, each.running) for each in entry.attempts] == [("upstream_timeout", False), ("", True)]


def test_attempts_another_call_paid_for_are_not_running_any_more(spool):
    """The passenger of a coalesced call that began it has left, and another one's call ends with its attempts."""
    mine, theirs = call_of(attempt()), call_of(attempt())
    begin(spool, *mine)
    begin(spool, *theirs)
    theirs[1].call.attempts[:0] = mine[1].call.attempts
    settle(spool, *theirs)
    assert [entry.id for entry in found(spool)] == [theirs[0]]


def test_a_call_that_was_not_sent_after_all_is_not_found(spool):
    ident, request = call_of(attempt())
    begin(spool, ident, request)
    spool.release(ident, begun(ident, request, [], None))
    assert found(spool) == []


def test_segments_go_when_the_database_has_what_ended_in_them_and_running_calls_move_on(spool, tmp_path):
    long = call_of(attempt())
    begin(spool, *long)
    for _ in range(50):
        short = call_of(attempt())
        begin(spool, *short)
        settle(spool, *short).stored += 1
        spool.sweep()
    files = sorted((tmp_path / "spool").glob("*/[0-9]*"))
    assert len(files) == 1
    assert int(files[0].name) > 5
    assert len(list((tmp_path / "spool").glob("*/*"))) <= 2
    assert [entry.id for entry in found(spool) if not entry.outcome] == [long[0]]


def test_a_segment_waits_for_older_ones(spool, tmp_path):
    old = call_of(attempt())
    begin(spool, *old)
    kept = settle(spool, *old)
    path = kept.path
    while spool._segments[-1] is kept:
        short = call_of(attempt())
        begin(spool, *short)
        settle(spool, *short).stored += 1
    spool.sweep()
    assert path.exists()
    kept.stored += 1
    spool.sweep()
    assert not path.exists()


def test_nothing_is_left_when_all_is_stored(spool, tmp_path):
    call = call_of(attempt())
    begin(spool, *call)
    settle(spool, *call).stored += 1
    spool.close()
    assert list((tmp_path / "spool").iterdir()) == []


def test_processes_do_not_take_what_a_living_one_has_and_have_numbers_of_their_own(spool, tmp_path):
    other = Spool(tmp_path / "spool")
    other.open()
    begin(spool, *call_of(attempt()))
    assert list(other.leftovers()) == []
    assert other.node != spool.node
    other.close()


def test_two_that_recover_do_not_get_the_same(spool, tmp_path):
    begin(spool, *call_of(attempt()))
    os.close(spool._lock)
    spool._lock = -1
    first, second = Spool(tmp_path / "spool").leftovers(), Spool(tmp_path / "spool").leftovers()
    held = list(first)
    assert len(held) == 1
    assert list(second) == []
    held[0].remove()


def test_a_write_that_finds_no_room_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(mmap, "mmap", _failing(errno.ENODEV))
    spool = Spool(tmp_path / "spool")
    spool.open()
    first = call_of(attempt())
    begin(spool, *first)
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:20]))
    with pytest.raises(OSError, match="space") as failure:
        begin(spool, *call_of(attempt()))
    assert failure.value.errno == errno.ENOSPC
    monkeypatch.undo()
    settle(spool, *first)
    assert [entry.outcome for entry in found(spool)] == ["ok"]


def test_no_room_for_a_new_segment_refuses_calls_and_those_that_run_can_still_end(spool, monkeypatch):
    monkeypatch.setattr(os, "posix_fallocate", _failing(errno.ENOSPC))
    calls, segment = [], spool._segments[-1]
    while segment.size + 300 < segment.limit:
        calls.append(call_of(attempt()))
        begin(spool, *calls[-1])
    with pytest.raises(OSError, match="space"):
        begin(spool, *call_of(attempt(), metadata={"long": "x" * 300}))
    spool.sweep()
    settle(spool, *calls[0])
    monkeypatch.undo()
    for call in calls[1:]:
        settle(spool, *call)
    assert [entry.outcome for entry in found(spool)] == ["ok"] * len(calls)


@pytest.mark.parametrize("at", ["mmap", "posix_fallocate"])
def test_a_disk_that_fails_is_not_taken_for_one_that_cannot_map_files(tmp_path, monkeypatch, at):
    monkeypatch.setattr({"mmap": mmap, "posix_fallocate": os}[at], at, _failing(errno.EIO))
    spool = Spool(tmp_path / "spool")
    with pytest.raises(OSError, match="Input/output"):
        spool.open()


def test_a_file_system_that_cannot_make_room_ahead_is_written_to(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate")
    spool = Spool(tmp_path / "spool")
    spool.open()
    call = call_of(attempt())
    begin(spool, *call)
    (path,) = (tmp_path / "spool").glob("*/[0-9]*")
    assert path.stat().st_size < 1000
    assert [entry.id for entry in found(spool)] == [call[0]]


def test_what_is_larger_than_a_segment_gets_one_of_its_size(spool):
    ident, request = call_of(attempt(), metadata={"long": "x" * 10_000})
    begin(spool, ident, request)
    short = call_of(attempt())
    begin(spool, *short)
    settle(spool, ident, request)
    done, running = found(spool)
    assert (done.id, len(done.metadata["long"]), running.id) == (ident, 10_000, short[0])


def test_a_file_that_is_used_again_has_nothing_of_what_was_in_it(spool, tmp_path):
    """Old frames behind the newest one must not come back."""
    for _ in range(40):
        call = call_of(attempt())
        begin(spool, *call)
        settle(spool, *call).stored += 1
        spool.sweep()
    last = call_of(attempt())
    while spool._segments[-1].size > 800:  # until just after a new one was begun
        begin(spool, *call_of(attempt()))
    begin(spool, *last)
    entries = found(spool)
    assert entries[-1].id == last[0]
    assert all(not entry.outcome for entry in entries[-2:])


def test_what_the_version_before_wrote_is_read(tmp_path):
    folder = tmp_path / "spool" / "0007"
    folder.mkdir(parents=True)
    (first, one), (_, two) = call_of(attempt()), call_of(attempt())
    whole = frames([pack(ended(first, one, one.call, 0.5, "ok"))])
    torn = frames([pack(ended(2, two, two.call, 0.5, "ok"))])[:-3]
    (folder / "00000001").write_bytes(WRITTEN + whole + torn)
    (leftover,) = Spool(tmp_path / "spool").leftovers()
    assert [entry.id for entry in leftover.entries()] == [first]
    assert leftover.damaged == []
    leftover.close()


def test_a_closed_spool_takes_nothing(spool):
    call = call_of(attempt())
    begin(spool, *call)
    spool.close()
    with pytest.raises(OSError, match="not open"):
        settle(spool, *call)
    with pytest.raises(OSError, match="not open"):
        begin(spool, *call_of(attempt()))


def test_what_is_damaged_is_read_as_far_as_possible_and_kept_aside(spool, tmp_path):
    calls = [call_of(attempt()) for _ in range(3)]
    for call in calls:
        begin(spool, *call)
        settle(spool, *call)
    (path,) = (tmp_path / "spool").glob("*/*")
    data = bytearray(path.read_bytes())
    data[spool._segments[-1].size // 2] ^= 1
    path.write_bytes(data)
    os.close(spool._lock)
    spool._lock = -1
    (leftover,) = spool.leftovers()
    found_ids = [entry.id for entry in leftover.entries()]
    assert found_ids[:1] == [calls[0][0]]
    (aside,) = leftover.remove()
    assert aside.read_bytes() == bytes(data)
    assert [each for each in (tmp_path / "spool").iterdir() if each != aside] == []
    assert list(spool.leftovers()) == []


@pytest.mark.parametrize("content", [b"PSPOOL9\nwhatever", b"something else"])
def test_what_another_version_wrote_is_not_guessed_at(spool, tmp_path, content):
    (tmp_path / "spool" / "9999").mkdir()
    (tmp_path / "spool" / "9999" / "00000001").write_bytes(content)
    (leftover,) = spool.leftovers()
    with pytest.raises(StoreError, match="another version"):
        list(leftover.entries())
    leftover.close()


class SpoolMachine(RuleBasedStateMachine):
    """Calls begin, are retried, end and are stored; the process is killed at any store of any frame.

    What the next process finds must be exactly what the model says: every acknowledged end that is not stored, once;
    every other acknowledged beginning, as running.
    """

    folders = None

    @initialize()
    def start(self):
        self.root = SpoolMachine.folders.mktemp("spool") / "s"
        self.running, self.ended, self.stored = {}, {}, set()
        self.waiting = []
        self.idents = itertools.count(1)
        self.spool = self.opened()

    def opened(self):
        spool = Spool(self.root, segment_bytes=3000)
        spool.open()
        return spool

    @rule()
    def begin_one(self):
        ident, request = call_of(attempt(), ident=next(self.idents))
        begin(self.spool, ident, request)
        self.running[ident] = request

    @rule(data=st.data())
    def try_again(self, data):
        if self.running:
            ident = data.draw(st.sampled_from(sorted(self.running)))
            request = self.running[ident]
            request.call.attempts.append(attempt(ledger_id=ident))
            begin(self.spool, ident, request)

    @rule(data=st.data())
    def end_one(self, data):
        if self.running:
            ident = data.draw(st.sampled_from(sorted(self.running)))
            self.waiting.append((ident, settle(self.spool, ident, self.running.pop(ident))))
            self.ended[ident] = None

    @rule(data=st.data())
    def take_over(self, data):
        """Another call pays for the attempts of one that is running."""
        if len(self.running) > 1:
            giver, taker = data.draw(st.permutations(sorted(self.running)))[:2]
            given = self.running.pop(giver)
            self.running[taker].call.attempts[:0] = given.call.attempts
            ident = self.running[taker].call.attempts[0].ledger_id
            self.waiting.append((ident, settle(self.spool, ident, self.running.pop(taker))))
            self.ended[ident] = None

    @rule(count=st.integers(1, 20))
    def store(self, count):
        for ident, segment in self.waiting[:count]:
            self.stored.add(ident)
            segment.stored += 1
        del self.waiting[:count]
        self.spool.sweep()

    @rule(ends=st.booleans(), data=st.data())
    def be_killed(self, ends, data):
        """In the middle of a frame: of its payload are some bytes in the file, of its header nothing yet."""
        segment = self.spool._segments[-1]
        before = segment.size
        if ends and self.running:
            ident = data.draw(st.sampled_from(sorted(self.running)))
            settle(self.spool, ident, self.running[ident])
        else:
            begin(self.spool, *call_of(attempt(), ident=next(self.idents)))
        newest = self.spool._segments[-1]
        if newest is not segment:  # it is new, whole but for the frame, or torn; the older one still has all of it
            before = data.draw(st.sampled_from([newest.size - self.length(newest), 0]))
        written = data.draw(st.integers(before + 8, newest.size))
        newest._memory[written : newest.size] = bytes(newest.size - written)
        newest._memory[before : before + 8] = bytes(8)
        self.look()
        self.running, self.ended, self.stored, self.waiting = {}, {}, set(), []
        self.spool = self.opened()

    def length(self, segment):
        """Of the last frame."""
        at, data = 8, segment.path.read_bytes()
        while at + (size := int.from_bytes(data[at : at + 4], "little") + 8) < segment.size:
            at += size
        return size

    def look(self):
        os.close(self.spool._lock)
        self.spool._lock = -1
        (leftover,) = self.spool.leftovers()
        entries = list(leftover.entries())
        ended_ids = [entry.id for entry in entries if entry.outcome]
        running_ids = [entry.id for entry in entries if not entry.outcome]
        assert len(ended_ids) == len(set(ended_ids))
        assert set(ended_ids) >= set(self.ended) - self.stored
        assert set(ended_ids) <= set(self.ended)
        assert set(running_ids) - self.stored == set(self.running)
        for entry in entries:
            if not entry.outcome and entry.id in self.running:
                assert len(entry.attempts) == len(self.running[entry.id].call.attempts)
        assert leftover.remove() == []

    @rule()
    def little_is_kept(self):
        for _, segment in self.waiting:
            segment.stored += 1
        self.stored |= {ident for ident, _ in self.waiting}
        self.waiting = []
        self.spool.sweep()
        running = sum(len(payload) + 8 for payload in self.spool._running.values())
        assert sum(path.stat().st_size for path in self.root.glob("*/*")) < 2 * (3000 + 3 * running + 2000)

    def teardown(self):
        if hasattr(self, "spool"):
            self.spool.close()


@pytest.fixture(autouse=True)
def _folders(tmp_path_factory):
    SpoolMachine.folders = tmp_path_factory


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(max_examples=60, stateful_step_count=40)
