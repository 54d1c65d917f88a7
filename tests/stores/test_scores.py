"""Scores, and what came of calls that took part in experiments, on every store."""

from decimal import Decimal

import pytest

from penstock.core.experiment import Score
from penstock.stores.opening import open_store
from penstock.stores.sql.upkeep import Upkeep
from penstock.testing import FakeClock, check_score_store, check_state_store

DAY = 86_400.0


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture(params=["memory", "sqlite"])
async def both(request, path, clock):
    opened = open_store("memory:" if request.param == "memory" else f"sqlite:///{path}", clock)
    await opened.start()
    yield opened
    await opened.aclose()


async def _outcomes(stores, **terms):
    await stores.flush()
    return await stores.scores.outcomes(**{"after": 0, "since": 0.0, "until": 4e9, "limit": 100, **terms})


async def test_the_promises_of_the_interfaces_are_kept(both):
    await check_state_store(both.states)
    await check_score_store(both.scores, both.ledger)


async def test_the_first_score_of_a_name_stays_and_tenants_are_apart(both):
    scores = both.scores
    first = Score("acme", "req_1", "helpful", 1.0, 100.5)
    assert await scores.put(first) == first
    assert await scores.put(Score("acme", "req_1", "helpful", 0.0, 200.0)) == first
    other = Score("globex", "req_1", "helpful", 0.25, 300.0)
    assert await scores.put(other) == other


async def test_calls_of_experiments_come_with_what_they_cost_and_their_own_tenants_scores(both, record, attempt):
    record(both.ledger, attempt(), id="plain", started_at=1000.0)
    record(both.ledger, attempt(), id="a", arms={"tone": "kind"}, unit="0a", tenant="acme", started_at=1001.0)
    record(both.ledger, id="b", arms={"tone": "plain"}, unit="0b", cache="hit", tenant="acme", started_at=1002.0)
    record(both.ledger, id="c", arms={"tone": "plain"}, unit="0c", outcome="template", tenant="acme", started_at=1003.0)
    await both.scores.put(Score("acme", "a", "helpful", 0.5, 1010.0))
    await both.scores.put(Score("globex", "b", "helpful", 1.0, 1010.0))
    one, two, three = await _outcomes(both)
    assert [(each.unit, each.at, dict(each.arms)) for each in (one, two, three)] == [
        ("0a", 1001.0, {"tone": "kind"}), ("0b", 1002.0, {"tone": "plain"}), ("0c", 1003.0, {"tone": "plain"}),
    ]  # fmt: skip
    assert one.values["cost_usd"] == float(Decimal("0.000135"))
    assert (one.values["error"], one.values["cache_hit"], dict(one.scores)) == (0.0, 0.0, {"helpful": (0.5, 1010.0)})
    assert one.values["duration_s"] == 0.5
    assert (two.values["cost_usd"], two.values["cache_hit"], dict(two.scores)) == (0.0, 1.0, {})
    assert (three.values["error"], three.values["degraded"]) == (1.0, 1.0)


async def test_a_cost_that_is_not_known_is_left_out(both, record, attempt):
    record(both.ledger, attempt(None, "unknown"), arms={"tone": "kind"}, unit="0a", started_at=1000.0)
    (outcome,) = await _outcomes(both)
    assert "cost_usd" not in outcome.values


async def test_outcomes_come_in_pages_and_inside_their_time(both, record):
    for number in range(5):
        record(both.ledger, id=f"r{number}", arms={"tone": "kind"}, unit="0a", started_at=1000.0 + number)
    first = await _outcomes(both, since=1001.0, until=1004.0, limit=2)
    assert [outcome.at for outcome in first] == [1001.0, 1002.0]
    rest = await _outcomes(both, after=first[-1].id, since=1001.0, until=1004.0, limit=2)
    assert [outcome.at for outcome in rest] == [1003.0]


async def test_old_scores_are_removed_with_the_calls(path, clock):
    stores = open_store(f"sqlite:///{path}", clock)
    await stores.start()
    now = clock.wall()
    for number in range(3):
        await stores.scores.put(Score("acme", f"old{number}", "helpful", 1.0, now - 91 * DAY))
    await stores.scores.put(Score("acme", "new", "helpful", 1.0, now - 89 * DAY))
    await Upkeep(stores.states._database, clock, 90.0).once()
    replaced = [await stores.scores.put(Score("acme", name, "helpful", 0.0, now)) for name in ("old0", "old2", "new")]
    assert [score.value for score in replaced] == [0.0, 0.0, 1.0]
    await stores.aclose()
