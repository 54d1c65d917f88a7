"""Two workers at one provider: together they admit what one would, and nobody waits for ever."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.limiting.account import Account
from penstock.limiting.gate import Limits
from penstock.limiting.shared_account import BUDGET_NUMBERS, shared_budget
from penstock.limiting.shared_gate import SharedGates
from penstock.limiting.ticket import Ticket
from penstock.limiting.waiting import Waiting
from penstock.shared_memory.table import Table

LIMITS = Limits(requests_per_minute=50, tokens_per_minute=5000, max_concurrency=6)


def ticket(tenant="a", tokens=100.0):
    return Ticket(tenant, "m", tokens, 0.0)


class Crew:
    """As many workers as wanted, in one process."""

    def __init__(self, folder, workers=2):
        self.served = [Table(str(Path(folder) / "limits"), 64) for _ in range(workers)]
        self.gates = [
            SharedGates(str(Path(folder) / "gates"), served, number, workers)
            for number, served in enumerate(self.served, start=1)
        ]

    def open(self, limits, places=100):
        self.waiting = [Waiting(places) for _ in self.gates]
        for waiting, gates in zip(self.waiting, self.gates, strict=True):
            waiting.elsewhere = gates.waiting_elsewhere
        return [gates.open("near", limits, each) for gates, each in zip(self.gates, self.waiting, strict=True)]

    def close(self):
        for each in (*self.gates, *self.served):
            each.close()


@pytest.fixture
def crew(tmp_path):
    made = Crew(tmp_path)
    yield made
    made.close()


class AnyOrder(RuleBasedStateMachine):
    """As `test_gate.AnyOrder`, at two gates."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.crew = Crew(self.folder.name)
        self.gates = self.crew.open(LIMITS, places=8)
        self.now = 5.0
        self.running, self.waiting = [], []

    @rule(seconds=st.floats(0, 30))
    def time_passes(self, seconds):
        self.now += seconds
        self._let_in()

    @rule(at=st.integers(0, 1), tenant=st.sampled_from("ab"), tokens=st.integers(1, 2000))
    def come(self, at, tenant, tokens):
        new, gate = ticket(tenant, float(tokens)), self.gates[at]
        free = gate.room(self.now)
        assert free == self.gates[1 - at].room(self.now)
        if gate.enter(new, self.now):
            assert free
            assert not self.waiting
            self.running.append((at, new))
        elif gate.refusal_s(new, self.now + 100, self.now) is None:
            gate.join(new)
            self.waiting.append((at, new))

    @precondition(lambda self: self.running)
    @rule(how=st.sampled_from(("answered", "failed", "overloaded")), data=st.data())
    def end(self, how, data):
        at, done = data.draw(st.sampled_from(self.running))
        self.running.remove((at, done))
        if how == "answered":
            self.gates[at].answered(done, (10, 10), self.now)
        elif how == "overloaded":
            self.gates[at].overloaded(done, 2.0, self.now)
        else:
            self.gates[at].failed(done, None, self.now)
        self._let_in()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave(self, data):
        at, gone = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove((at, gone))
        self.gates[at].leave(gone)
        self._let_in()

    def _let_in(self):
        progress = True
        while progress:
            progress = False
            for at, gate in enumerate(self.gates):
                while (admitted := gate.next_ticket(self.now)) is not None:
                    self.waiting.remove((at, admitted))
                    self.running.append((at, admitted))
                    progress = True

    @invariant()
    def counts_agree(self):
        assert [gate.in_use for gate in self.gates] == [len(self.running)] * 2
        assert len(self.running) <= 6
        assert sum(len(gate.queue) for gate in self.gates) == len(self.waiting) <= 8

    def teardown(self):
        for at, each in self.running:
            self.gates[at].answered(each, None, self.now)
        self.running.clear()
        for _ in range(1000):
            self._let_in()
            for at, each in self.running:
                self.gates[at].answered(each, None, self.now)
            self.running.clear()
            self.now += max(gate.wake_in_s(self.now) or 0.0 for gate in self.gates)
        assert not self.waiting, "everybody gets a turn when the others have left"
        self.crew.close()
        self.folder.cleanup()


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=40, stateful_step_count=40)


@given(steps=st.lists(st.tuples(st.integers(0, 1), st.floats(0, 20), st.integers(1, 400), st.integers(0, 400))))
def test_an_account_counts_as_in_one_process_but_for_half_a_second(steps):
    numbers = memoryview(bytearray(16 * BUDGET_NUMBERS)).cast("d")
    shared = [Account(20, 1000, lambda what, limit: shared_budget(numbers, BUDGET_NUMBERS * (what == "tokens"), limit))
              for _ in range(2)]  # fmt: skip
    alone, now = Account(20, 1000), 7.0
    for who, pause, tokens, used in steps:
        now += pause
        for account in (alone, shared[who]):
            while wait := account.wait_s(tokens, now):
                now += wait + 1e-6
        assert shared[1 - who].wait_s(tokens, now) == 0
        for account in (alone, shared[who]):
            account.settle(account.charge(tokens, now), used, 0, now)
        waits = alone.wait_s(tokens, now), shared[1 - who].wait_s(tokens, now)
        assert waits[0] == pytest.approx(waits[1], abs=0.51)


def serve(gates, count):
    """Answer so many requests, one at a time; return whose they were."""
    served = []
    while len(served) < count:
        for gate in gates:
            if (admitted := gate.next_ticket(1.0)) is not None:
                gate.answered(admitted, (100, 0), 1.0)
                served.append(admitted.tenant)
    return served


def test_a_noisy_tenant_at_one_worker_does_not_delay_another_ones_at_the_other(crew):
    one, other = crew.open(Limits(max_concurrency=1))
    for _ in range(50):
        one.join(ticket("noisy"))
    serve([one, other], 10)
    other.join(ticket("quiet"))
    assert "quiet" in serve([one, other], 2)


def test_who_waits_at_two_workers_gets_no_more_than_who_waits_at_one(crew):
    one, other = crew.open(Limits(max_concurrency=1))
    for _ in range(100):
        one.join(ticket("everywhere"))
        other.join(ticket("everywhere"))
        other.join(ticket("here"))
    served = serve([one, other], 60)
    assert 25 <= served.count("here") <= 35


def test_nobody_overtakes_those_who_wait_elsewhere(crew):
    one, other = crew.open(Limits(max_concurrency=1))
    one.enter(running := ticket(), 0.0)
    other.join(waiting := ticket())
    assert other.next_ticket(0.0) is None
    one.answered(running, None, 1.0)
    assert one.waits_elsewhere
    assert not one.room(1.0)
    assert not one.enter(ticket(), 1.0)
    assert other.next_ticket(1.0) is waiting


def test_a_place_is_not_kept_for_ever_for_one_who_does_not_come(crew):
    one, other = crew.open(Limits(max_concurrency=1))
    other.join(ticket("first"))
    one.join(mine := ticket("first"))
    one.queue.charge("first", 0.0)
    other.join(ticket("least"))
    serve([other], 1)
    other.join(ticket("another"))
    assert one.next_ticket(1.0) is None
    wake = one.wake_in_s(1.0)
    assert 0 < wake < 1
    assert one.next_ticket(1.0 + wake) is mine


WORKER = """
import sys, time
from penstock.limiting.gate import Limits
from penstock.limiting.shared_gate import SharedGates
from penstock.limiting.ticket import Ticket
from penstock.limiting.waiting import Waiting
from penstock.shared_memory.table import Table
gates = SharedGates(sys.argv[1] + "/gates", Table(sys.argv[1] + "/limits", 64), 2, 2)
gate = gates.open("near", Limits(max_concurrency=3, requests_per_minute=60), Waiting(9))
for _ in range(3):
    assert gate.enter(Ticket("a", "m", 1.0, 0.0), 1000.0)
gate.join(Ticket("a", "m", 1.0, 0.0))
print("full", flush=True)
time.sleep(60)
"""


def test_places_of_a_worker_that_was_killed_are_given_back_and_what_it_used_counts_on(tmp_path):
    served = Table(str(tmp_path / "limits"), 64)
    gates = SharedGates(str(tmp_path / "gates"), served, 1, 2)
    gate = gates.open("near", Limits(max_concurrency=3, requests_per_minute=60), Waiting(9))
    with subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"full\n"
        assert (gate.in_use, gate.waits_elsewhere) == (3, True)
        assert not gates.gone(2)
        assert not gate.enter(ticket(), 1000.0)
        os.kill(other.pid, signal.SIGKILL)
    assert gates.gone(2)
    assert (gate.in_use, gate.waits_elsewhere) == (0, False)
    admitted = 0
    while gate.enter(new := ticket(), 1000.0):
        gate.answered(new, None, 1000.0)
        admitted += 1
    assert admitted == 10 - 3  # bursts are of ten
    gates.close()
    served.close()
