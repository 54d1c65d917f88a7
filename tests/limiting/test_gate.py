import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.core.quota import Quota
from penstock.limiting.gate import Gate, Limits
from penstock.limiting.shared_gate import SharedGate, SharedGates
from penstock.limiting.ticket import Ticket
from penstock.limiting.waiting import Waiting
from penstock.shared_memory.table import Table


def ticket(tenant="a", tokens=100.0):
    return Ticket(tenant, "m", tokens, 0.0)


@pytest.fixture(params=["alone", "shared"])
def gate(request, tmp_path):
    """Make a gate of a process of its own, or the same as one of two workers has it."""
    if request.param == "alone":
        yield lambda *, queued=100, **limits: Gate(Limits(**limits), Waiting(queued))
        return
    served = Table(str(tmp_path / "limits"), 64)
    gates = SharedGates(str(tmp_path / "gates"), served, number=1, workers=2)
    yield lambda *, queued=100, **limits: gates.open("near", Limits(**limits), Waiting(queued))
    gates.close()
    served.close()


def test_as_many_as_the_limit_and_the_next_when_one_ends(gate):
    made = gate(max_concurrency=2)
    first, second, third = ticket(), ticket(), ticket()
    assert made.enter(first, 0.0)
    assert made.enter(second, 0.0)
    assert not made.enter(third, 0.0)
    assert made.refusal_s(third, None, 0.0) is None
    made.join(third)
    assert made.next_ticket(1.0) is None
    assert made.wake_in_s(1.0) == (1.0 if isinstance(made, SharedGate) else None)
    made.answered(first, (50, 50), 2.0)
    assert made.next_ticket(2.0) is third
    assert made.in_use == 2


def test_nobody_overtakes_those_who_wait(gate):
    made = gate(max_concurrency=1)
    made.enter(first := ticket(), 0.0)
    made.join(second := ticket())
    made.answered(first, None, 1.0)
    assert not made.enter(ticket(), 1.0)
    assert not made.room(1.0)
    assert made.next_ticket(1.0) is second


def test_a_request_that_cannot_be_in_time_is_refused_and_told_when(gate):
    made = gate(max_concurrency=1)
    made.enter(first := ticket(), 0.0)
    made.answered(first, None, 10.0)
    made.enter(ticket(), 10.0)
    assert made.refusal_s(ticket(), 15.0, 10.0) == 10.0  # holding a place takes 10 s, so its turn is in 10 s
    patient = ticket()
    assert made.refusal_s(patient, 100.0, 10.0) is None
    assert patient.latest == 90.0
    for _ in range(4):
        made.join(ticket())
    refusal = made.refusal_s(ticket(), 100.0, 10.0)
    assert refusal is not None
    assert 1.0 <= refusal <= 50.0


def test_a_quiet_tenants_request_is_not_refused_for_a_noisy_ones_queue(gate):
    made = gate(max_concurrency=1)
    made.enter(first := ticket(), 0.0)
    made.answered(first, None, 1.0)
    made.enter(ticket("noisy"), 1.0)
    for _ in range(60):
        made.join(ticket("noisy"))
    assert made.refusal_s(ticket("noisy"), 31.0, 1.0) is not None
    assert made.refusal_s(ticket("quiet"), 31.0, 1.0) is None


def test_one_tenant_cannot_take_all_the_places_to_wait():
    waiting = Waiting(10)
    made = Gate(Limits(max_concurrency=1), waiting)
    made.enter(ticket(), 0.0)
    while made.refusal_s(noisy := ticket("noisy"), None, 0.0) is None:
        made.join(noisy)
    assert len(waiting) == 5
    assert made.refusal_s(ticket("quiet"), None, 0.0) is None
    nobody = Gate(Limits(max_concurrency=1), Waiting(0))
    nobody.enter(ticket(), 0.0)
    assert nobody.refusal_s(ticket(), None, 0.0) == 2.0


def test_requests_wait_for_the_minute_when_nothing_else_holds_them(gate):
    made = gate(requests_per_minute=60)
    for _ in range(10):
        assert made.enter(ticket(), 0.0)
    late = ticket()
    assert not made.enter(late, 0.0)
    assert made.wait_s(late, 0.0) == pytest.approx(1.0)
    made.join(late)
    assert made.wake_in_s(0.0) == pytest.approx(1.0)
    assert made.next_ticket(0.5) is None
    assert made.next_ticket(1.0) is late


def test_tokens_are_charged_as_predicted_and_settled(gate):
    made = gate(tokens_per_minute=6000)
    made.enter(first := ticket(tokens=1000), 0.0)
    assert not made.room(0.0)
    made.answered(first, (100, 20), 0.0)
    assert made.room(0.0)
    assert made.enter(ticket(tokens=880), 0.0)


def test_a_failed_request_gives_its_tokens_back_and_one_given_up_does_not(gate):
    made = gate(tokens_per_minute=6000)
    made.enter(failed := ticket(tokens=1000), 0.0)
    made.failed(failed, (0, 0), 0.0)
    assert made.room(0.0)
    made.enter(given_up := ticket(tokens=1000), 0.0)
    made.failed(given_up, None, 0.0)
    assert not made.room(0.0)


def test_a_provider_that_asks_for_a_pause_gets_it(gate):
    made = gate(max_concurrency=5)
    made.enter(first := ticket(), 0.0)
    made.overloaded(first, 7.0, 0.0)
    waiting = ticket()
    assert not made.enter(waiting, 3.0)
    assert made.wait_s(waiting, 3.0) == 4.0
    made.join(waiting)
    assert made.wake_in_s(3.0) == 4.0
    assert made.next_ticket(7.0) is waiting


def test_what_the_provider_says_is_left_is_heeded(gate):
    made = gate(requests_per_minute=600)
    made.enter(first := ticket(), 0.0)
    made.heed(first, Quota(requests_remaining=0), 0.0)
    assert not made.enter(ticket(), 0.0)
    assert made.enter(ticket(), 0.2)


def test_other_limits_keep_what_is_under_way_and_what_was_used(gate):
    made = gate(max_concurrency=3, requests_per_minute=10)
    running = [ticket() for _ in range(3)]
    for each in running:
        made.enter(each, 0.0)
    made.put_in_force(Limits(max_concurrency=2, requests_per_minute=4), 0.0)
    made.answered(running[0], (1, 1), 1.0)
    assert not made.enter(ticket(), 1.0)
    made.answered(running[1], (1, 1), 1.0)
    assert made.enter(ticket(), 1.0)
    made.answered(running[2], (1, 1), 1.0)
    assert not made.enter(ticket(), 1.0)  # four in this minute
    made.put_in_force(Limits(max_concurrency=2), 1.0)
    assert made.enter(ticket(), 1.0)


def test_what_an_adaptive_limit_has_learnt_survives_another_ceiling(gate):
    made = gate(adaptive=True)
    made.enter(first := ticket(), 0.0)
    made.overloaded(first, 0.0, 0.0)
    learnt = made.limit
    made.put_in_force(Limits(adaptive=True, max_concurrency=100), 0.0)
    assert made.limit == learnt
    made.put_in_force(Limits(adaptive=True, max_concurrency=2), 0.0)
    assert made.limit == 2
    made.put_in_force(Limits(max_concurrency=9), 0.0)
    assert made.limit == 9


def test_predictions_follow_what_was_used(gate):
    made = gate(max_concurrency=5)
    for _ in range(100):
        made.enter(each := Ticket("a", "m", *made.predict("m", {}, 100, generates=True)), 0.0)
        made.answered(each, (120, 30), 1.0)
    assert made.predict("m", {}, 100, generates=True)[:2] == pytest.approx((120, 30), rel=0.05)
    assert made.predict("other", {}, 100, generates=True) == (100, 256, 0)
    for number in range(2000):
        made.predict(str(number), {}, 1, generates=True)
    assert len(made._histories) <= 1024


def test_no_limits_are_no_gate(gate):
    assert not Limits()
    assert Limits(adaptive=True)
    assert gate().limit == math.inf


class AnyOrder(RuleBasedStateMachine):
    """Requests come, wait, are answered, fail, are refused and leave in any order."""

    def __init__(self):
        super().__init__()
        self.waiting_places = Waiting(8)
        limits = Limits(requests_per_minute=50, tokens_per_minute=5000, max_concurrency=6, adaptive=True)
        self.gate = Gate(limits, self.waiting_places)
        self.now = 0.0
        self.running, self.waiting = [], []

    @rule(seconds=st.floats(0, 30))
    def time_passes(self, seconds):
        self.now += seconds
        self._let_in()

    @rule(tenant=st.sampled_from("ab"), tokens=st.integers(1, 2000))
    def come(self, tenant, tokens):
        new = ticket(tenant, float(tokens))
        free = self.gate.room(self.now)
        if self.gate.enter(new, self.now):
            assert free
            assert not self.waiting
            self.running.append(new)
        elif self.gate.refusal_s(new, self.now + 100, self.now) is None:
            self.gate.join(new)
            self.waiting.append(new)

    @precondition(lambda self: self.running)
    @rule(how=st.sampled_from(("answered", "failed", "late", "overloaded")), data=st.data())
    def end(self, how, data):
        done = data.draw(st.sampled_from(self.running))
        self.running.remove(done)
        if how == "answered":
            self.gate.answered(done, (10, 10), self.now)
        elif how == "overloaded":
            self.gate.overloaded(done, 2.0, self.now)
        else:
            self.gate.failed(done, None, self.now, late=how == "late")
        self._let_in()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave(self, data):
        gone = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(gone)
        self.gate.leave(gone)
        self.gate.leave(gone)
        self._let_in()

    def _let_in(self):
        while (admitted := self.gate.next_ticket(self.now)) is not None:
            assert self.gate.in_use <= self.gate.limit
            self.waiting.remove(admitted)
            self.running.append(admitted)

    @invariant()
    def counts_agree(self):
        assert self.gate.in_use == len(self.running) <= 6
        assert len(self.gate.queue) == len(self.waiting) == len(self.waiting_places) <= 8
        assert 1 <= self.gate.limit <= 6

    @invariant()
    def who_waits_is_woken_in_time(self):
        wake = self.gate.wake_in_s(self.now)
        if self.waiting and self.gate.in_use < self.gate.limit:
            assert wake is not None
            assert 0 <= wake <= 600

    def teardown(self):
        for each in self.running:
            self.gate.answered(each, None, self.now)
        self.running.clear()
        for _ in range(1000):
            self._let_in()
            for each in self.running:
                self.gate.answered(each, None, self.now)
            self.running.clear()
            self.now += self.gate.wake_in_s(self.now) or 0.0
        assert not self.waiting, "everybody gets a turn when the others have left"


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=50)
