import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from penstock.core.errors import ProviderError
from penstock.routing.breaker import Circuit, judge

LIMIT, RECOVERY = 3, 10.0


def opened(now=0.0, strikes=1):
    """A circuit that opened `strikes` times in a row, the last time at `now`."""
    circuit = Circuit(LIMIT, RECOVERY)
    for _ in range(LIMIT):
        circuit.failed(circuit.admit(now), now, "upstream_error")
    for _ in range(strikes - 1):
        assert circuit.hasten(now)
        circuit.failed(circuit.admit(now), now, "upstream_error")
    return circuit


def test_consecutive_failures_open_it():
    circuit = Circuit(LIMIT, RECOVERY)
    for outcome in ("bad", "bad", "good", "bad", "bad"):
        permit = circuit.admit(0.0)
        circuit.succeeded(permit) if outcome == "good" else circuit.failed(permit, 0.0, "upstream_error")
    assert circuit.state(0.0) == "closed"
    circuit.failed(circuit.admit(0.0), 0.0, "upstream_connect")
    assert (circuit.state(0.0), circuit.cause) == ("open", "upstream_connect")
    assert circuit.admit(9.9) is None
    assert circuit.recovers_in(4.0) == 6.0


def test_one_probe_passes_and_closes_it():
    circuit = opened()
    permit = circuit.admit(10.0)
    assert permit is not None
    assert circuit.admit(10.0) is None
    assert circuit.recovers_in(10.0) > 0
    circuit.succeeded(permit)
    assert circuit.state(10.0) == "closed"
    assert circuit.admit(10.0) == circuit.admit(10.0)


@pytest.mark.parametrize(("strikes", "pause"), [(1, 10), (2, 20), (3, 40), (4, 80), (5, 80), (9, 80)])
def test_each_failed_probe_doubles_the_recovery_time_up_to_eightfold(strikes, pause):
    assert opened(strikes=strikes).recovers_in(0.0) == pause


def test_a_success_forgets_earlier_strikes():
    circuit = opened(strikes=4)
    circuit.succeeded(circuit.admit(100.0))
    for _ in range(LIMIT):
        circuit.failed(circuit.admit(100.0), 100.0, "upstream_error")
    assert circuit.recovers_in(100.0) == RECOVERY


def test_an_abandoned_probe_leaves_its_place_to_the_next():
    circuit = opened()
    circuit.released(circuit.admit(10.0))
    assert circuit.state(10.0) == "half_open"
    assert circuit.admit(10.0) is not None


def test_reports_from_before_it_opened_are_old_news():
    circuit = Circuit(LIMIT, RECOVERY)
    old = [circuit.admit(0.0) for _ in range(LIMIT + 2)]
    for permit in old[:LIMIT]:
        circuit.failed(permit, 0.0, "upstream_error")
    circuit.succeeded(old[-1])
    assert circuit.state(1.0) == "open"
    circuit.failed(old[-2], 9.0, "upstream_error")
    assert circuit.recovers_in(9.0) == 1.0


def test_a_stream_that_begins_lets_others_pass_but_is_on_probation():
    circuit = opened()
    permit = circuit.admit(10.0)
    circuit.answering(permit)
    assert circuit.state(10.0) == "closed"
    assert circuit.admit(10.0) is not None
    circuit.failed(permit, 11.0, "upstream_incomplete")
    assert circuit.recovers_in(11.0) == 2 * RECOVERY


def test_a_rate_limit_only_pauses():
    circuit = Circuit(LIMIT, RECOVERY)
    for _ in range(2 * LIMIT):
        circuit.limited(circuit.admit(0.0) or 0, 0.0, 7.0)
    assert (circuit.state(0.0), circuit.recovers_in(0.0)) == ("cooling", 7.0)
    assert circuit.admit(6.9) is None
    assert not circuit.hasten(6.9)
    assert circuit.admit(7.0) is not None
    assert circuit.state(7.0) == "closed"


@pytest.mark.parametrize(("asked", "paused"), [(None, 1.0), (0.0, 0.0), (1e9, 300.0)])
def test_a_pause_without_or_with_an_absurd_length(asked, paused):
    circuit = Circuit(LIMIT, RECOVERY)
    circuit.limited(circuit.admit(0.0), 0.0, asked)
    assert circuit.recovers_in(0.0) == paused


def test_hastening_lets_one_probe_pass_early():
    circuit = opened()
    assert circuit.hasten(1.0)
    assert circuit.admit(1.0) is not None
    assert not circuit.hasten(1.0)
    assert not Circuit(LIMIT, RECOVERY).hasten(1.0)


@pytest.mark.parametrize(
    ("status", "code", "verdict"),
    [
        (None, "upstream_connect", "failure"),
        (None, "upstream_dns", "failure"),
        (None, "upstream_tls", "failure"),
        (None, "upstream_timeout", "failure"),
        (200, "upstream_invalid", "failure"),
        (200, "upstream_incomplete", "failure"),
        (503, "upstream_error", "failure"),
        (401, "upstream_auth", "failure"),
        (403, "upstream_auth", "failure"),
        (429, "rate_limit_exceeded", "limited"),
        (400, "invalid_request", "alive"),
        (400, "upstream_error", "alive"),
        (404, "model_not_found", "alive"),
        (413, "request_too_large", "alive"),
        (422, "rate_limit_exceeded", "alive"),
    ],
)
def test_what_an_error_says_about_the_target(status, code, verdict):
    assert judge(ProviderError("", status_code=status, code=code)) == verdict


class CircuitMachine(RuleBasedStateMachine):
    """Any interleaving of requests, outcomes and time, beside a plain account of what happened."""

    permits = Bundle("permits")

    def __init__(self):
        super().__init__()
        self.circuit = Circuit(LIMIT, RECOVERY)
        self.now = 0.0
        self.probes = 0

    @rule(target=permits)
    def admit(self):
        probing = self.circuit.state(self.now) == "half_open"
        ready = self.circuit.recovers_in(self.now) == 0
        permit = self.circuit.admit(self.now)
        assert (permit is not None) == ready
        self.probes += probing and permit is not None
        return [permit, probing]

    def _report(self, held):
        permit, probing = held
        if permit is not None and probing:
            self.probes -= 1
        return permit

    @rule(held=consumes(permits))
    def succeed(self, held):
        permit = self._report(held)
        if permit is not None:
            self.circuit.succeeded(permit)

    @rule(target=permits, held=consumes(permits))
    def begin_stream(self, held):
        permit = self._report(held)
        if permit is not None:
            self.circuit.answering(permit)
        return [permit, False]

    @rule(held=consumes(permits))
    def fail(self, held):
        permit, before = self._report(held), self.circuit.state(self.now)
        if permit is not None:
            self.circuit.failed(permit, self.now, "upstream_error")
            if held[1] and before == "half_open":
                assert self.circuit.state(self.now) == "open"

    @rule(held=consumes(permits), seconds=st.none() | st.floats(0, 30))
    def limit(self, held, seconds):
        permit = self._report(held)
        if permit is not None:
            self.circuit.limited(permit, self.now, seconds)

    @rule(held=consumes(permits))
    def release(self, held):
        permit = self._report(held)
        if permit is not None:
            self.circuit.released(permit)

    @rule(seconds=st.floats(0, 100))
    def wait(self, seconds):
        self.now += seconds

    @rule()
    def hasten(self):
        if self.circuit.hasten(self.now):
            assert self.circuit.recovers_in(self.now) == 0

    @invariant()
    def at_most_one_probe(self):
        assert self.probes <= 1

    @invariant()
    def recovery_is_bounded(self):
        assert 0 <= self.circuit.recovers_in(self.now) <= 8 * RECOVERY + 1e-6

    @invariant()
    def it_always_recovers(self):
        if self.probes == 0:
            assert self.circuit.recovers_in(self.now + 8 * RECOVERY) == 0


CircuitMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
test_any_interleaving = CircuitMachine.TestCase
