"""Checks of stores for what was decided, and for how good answers were; as in `penstock.testing.conformance`."""

from __future__ import annotations

import os

from penstock.abc import Ledger, ScoreStore, StateStore
from penstock.core.call import Call
from penstock.core.experiment import Score
from penstock.core.request import Request


async def check_state_store(store: StateStore) -> None:
    """Check a store of states: keep, replace, find by the beginning of the name, remove; what else is in it stays."""
    place = f"check {os.urandom(8).hex()}/"
    await store.save(f"{place}a%_", b"1")
    await store.save(f"{place}b", b"2")
    await store.save(f"{place}b", b"\x003")
    found = dict(await store.load(place))
    _require(found == {f"{place}a%_": b"1", f"{place}b": b"\x003"}, "load() did not return what was saved last")
    _require(not await store.load(place.upper()), "load() takes capitals and small letters for the same")
    _require(await store.delete(f"{place}b"), "delete() did not find a state")
    _require(not await store.delete(f"{place}b"), "delete() found a state twice")
    _require(list(await store.load(place)) == [f"{place}a%_"], "delete() removed another state, or none")
    await store.delete(f"{place}a%_")


async def check_score_store(store: ScoreStore, ledger: Ledger) -> None:
    """Check a store of scores: the first one stays, tenants are apart, and calls of experiments come with theirs.

    Args:
        store: The store.
        ledger: The ledger whose calls it knows.
    """
    ident = os.urandom(8).hex()
    now = float(int(Call(ident).started_at))
    mine, other = f"check {ident}/a", f"check {ident}/b"
    first = Score(mine, ident, "helpful", 0.25, now)
    _require(await store.put(first) == first, "put() did not return what it keeps")
    again = await store.put(Score(mine, ident, "helpful", 0.75, now + 1))
    _require(again == first, "put() replaced a score")
    theirs = Score(other, ident, "helpful", 1.0, now)
    _require(await store.put(theirs) == theirs, "put() took another tenant's score for this one's")
    for arms in (None, {"check": "a"}, {"check": "b"}):
        call = Call(ident, started_at=now, arms=arms, unit="0a" if arms else "")
        ledger.record(Request("chat", "m", {}, call, tenant=mine), call, duration_s=0.5, outcome="ok")
    await ledger.flush()
    known = await store.outcomes(after=0, since=now - 1, until=now + 1, limit=1000)
    found = [each for each in known if each.arms.get("check") and each.scores.get("helpful") == (0.25, first.at)]
    _require(len(found) == 2, "outcomes() did not return each call of an experiment, once, with its own tenant's score")
    _require(found[0].id < found[1].id, "outcomes() are not in the order of their numbers")
    _require(found[0].values["duration_s"] == 0.5 and found[0].values["error"] == 0.0, "outcomes() have other values")
    later = await store.outcomes(after=found[0].id, since=now - 1, until=now + 1, limit=1)
    _require([each.id for each in later] == [found[1].id], "outcomes() ignores `after` or `limit`")
    _require(not await store.outcomes(after=0, since=now + 1, until=now + 2, limit=10), "outcomes() ignores `since`")


def _require(kept: bool, otherwise: str) -> None:  # noqa: FBT001 - reads like an assertion
    if not kept:
        raise AssertionError(otherwise)
