import asyncio

import pytest

from penstock.config.providers import HealthSettings
from penstock.config.settings import BreakerSettings
from penstock.core.errors import ProviderError
from penstock.core.route import Target
from penstock.routing.checks import HealthCheck
from penstock.routing.health import Health
from penstock.testing import FakeClock

ONE, TWO, ELSEWHERE = Target("near", "one"), Target("near", "two"), Target("far", "m")


class Provider:
    """Answers checks with what it is told to."""

    def __init__(self):
        self.error = None
        self.asked = 0

    async def models(self):
        self.asked += 1
        if self.error is not None:
            raise self.error
        return []


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def health(clock):
    return Health(BreakerSettings(failures=3, recovery_s=60.0), clock)


@pytest.fixture
def provider():
    return Provider()


def check(health, provider, **plan):
    return HealthCheck("near", HealthSettings(**plan), provider.models, [ONE], health)


def fail(health, target, times=3):
    circuit = health.circuit(target)
    for _ in range(times):
        circuit.failed(circuit.admit(health.clock.monotonic()), health.clock.monotonic(), "upstream_connect")


def states(health):
    return {(each.provider, each.model): each.state for each in health.states()}


async def test_a_reachable_provider_is_probed_at_once(health, provider):
    for target in (ONE, TWO, ELSEWHERE):
        fail(health, target)
    watch = check(health, provider)
    await watch.check()
    assert states(health) == {("near", "one"): "half_open", ("near", "two"): "half_open", ("far", "m"): "open"}
    circuit = health.circuit(ONE)
    circuit.succeeded(circuit.admit(health.clock.monotonic()))
    assert health.recovers_in(ONE) == 0.0
    assert states(health)["near", "one"] == "closed"
    assert watch.state.checks == 1
    assert watch.state.cause == ""


async def test_a_check_that_fails_prolongs_the_pause_and_three_open_the_circuits(health, provider, clock):
    fail(health, TWO)
    watch = check(health, provider)
    provider.error = ProviderError("no", code="upstream_connect")
    clock.advance(50.0)
    await watch.check()
    assert health.recovers_in(TWO) == 60.0
    assert health.recovers_in(ONE) == 0.0
    await watch.check()
    await watch.check()
    assert states(health) == {("near", "one"): "open", ("near", "two"): "open"}
    assert watch.state.failed == 3
    assert watch.state.cause == "upstream_connect"
    provider.error = None
    await watch.check()
    assert set(states(health).values()) == {"half_open"}
    assert watch.state.failed == 0


async def test_a_request_that_probes_knows_better_than_a_check(health, provider, clock):
    fail(health, ONE)
    clock.advance(60.0)
    circuit = health.circuit(ONE)
    permit = circuit.admit(clock.monotonic())
    provider.error = ProviderError("no", code="upstream_connect")
    await check(health, provider).check()
    circuit.succeeded(permit)
    assert states(health)["near", "one"] == "closed"


@pytest.mark.parametrize(
    "error",
    [
        ProviderError("no", code="upstream_auth", status_code=403),
        ProviderError("no", code="rate_limit_exceeded", status_code=429),
        ProviderError("no", code="not_found", status_code=404),
    ],
)
async def test_a_refusal_is_a_sign_of_life(health, provider, error):
    fail(health, ONE)
    provider.error = error
    watch = check(health, provider)
    await watch.check()
    assert states(health)["near", "one"] == "half_open"
    assert watch.state.failed == 0


async def test_silence_is_a_failure(health):
    async def silent():
        await asyncio.Event().wait()

    watch = HealthCheck("near", HealthSettings(interval_s=0.01), silent, [ONE], health)
    await watch.check()
    assert watch.state.cause == "upstream_timeout"


@pytest.mark.parametrize(("always", "asked"), [(False, 0), (True, 3)])
async def test_without_trouble_only_a_permanent_check_asks(health, provider, clock, always, asked):
    running = asyncio.create_task(check(health, provider, interval_s=10.0, always=always).run())
    await clock.run(31.0)
    assert provider.asked == asked
    fail(health, ONE)
    await clock.run(10.0)
    assert provider.asked == asked + 1
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
