from penstock.config.settings import BreakerSettings
from penstock.core.route import Target
from penstock.routing.health import Health, TargetState

A, B = Target("a", "m"), Target("b", "m")


class Clock:
    now = 0.0

    def monotonic(self):
        return self.now

    wall = monotonic

    async def sleep(self, seconds):
        raise AssertionError


def health(**limits):
    return Health(BreakerSettings(**limits), Clock())


def fail(health, target, times=1):
    for _ in range(times):
        circuit = health.circuit(target)
        circuit.failed(circuit.admit(health.clock.monotonic()), health.clock.monotonic(), "upstream_error")


def test_it_reports_the_targets_that_were_used():
    known = health(failures=2, recovery_s=5)
    fail(known, A, 2)
    known.circuit(B)
    known.clock.now = 1.0
    assert known.states() == [TargetState("a", "m", "open", 4.0), TargetState("b", "m", "closed", 0.0)]


def test_health_is_of_provider_and_model_however_the_route_weighs_them():
    known = health(failures=1)
    fail(known, A)
    assert known.recovers_in(Target("a", "m", weight=3, order=2)) > 0
    assert known.recovers_in(Target("a", "other")) == 0


def test_names_from_clients_cannot_fill_the_memory():
    known = health(failures=1)
    fail(known, A)
    for number in range(5000):
        known.circuit(Target("b", f"model-{number}"))
        known.circuit(A)
    assert len(known.states()) == 1024
    assert known.recovers_in(A) > 0


def test_the_one_that_recovers_soonest_is_hastened():
    known = health(failures=1, recovery_s=10)
    fail(known, B)
    known.clock.now = 3.0
    fail(known, A)
    assert known.hasten([A, B]) == B
    assert known.circuit(B).admit(3.0) is not None
    assert known.hasten([A, B]) == A
    assert known.circuit(A).admit(3.0) is not None
    assert known.hasten([A, B]) is None
