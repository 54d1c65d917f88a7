from __future__ import annotations

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from penstock.matching.labels.pending import Decided, Pending

MOST, RETENTION_S = 4, 100.0


def decided(request_id: str, tenant: str = "a", at: float = 0.0) -> Decided:
    return Decided(request_id, tenant, "fast", 7, b"k", (0.9, 0.5), 0.99, 0.05, served=True, at=at)


def test_a_request_is_found_by_its_own_tenant_once() -> None:
    pending = Pending()
    pending.add(decided("r1"))
    assert pending.take("b", "r1", now=1) is None
    assert pending.take("a", "r1", now=1) == decided("r1")
    assert pending.take("a", "r1", now=1) is None


def test_it_can_be_labelled_for_so_long() -> None:
    pending = Pending(retention_s=RETENTION_S)
    pending.add(decided("r1", at=0.0))
    pending.add(decided("r2", at=50.0))
    assert pending.take("a", "r1", now=100.5) is None
    assert pending.take("a", "r2", now=100.5) is not None


def test_it_survives_a_restart_and_a_tenant_can_be_forgotten() -> None:
    pending = Pending(retention_s=RETENTION_S)
    pending.add(decided("r1", at=0.0))
    pending.add(decided("r2", at=50.0))
    pending.add(decided("r1", "b", at=50.0))
    again = Pending(retention_s=RETENTION_S)
    again.restore(pending.dump(), now=120.0)
    assert len(again) == 2
    again.forget("b")
    assert again.take("b", "r1", now=120.0) is None
    assert again.take("a", "r2", now=120.0) == decided("r2", at=50.0)
    with pytest.raises(msgspec.DecodeError):
        again.restore(b"\xc1", now=0.0)


class AgainstADict(RuleBasedStateMachine):
    """The latest few, each once, only to their tenant, only for so long."""

    def __init__(self) -> None:
        super().__init__()
        self.pending = Pending(MOST, RETENTION_S)
        self.model: dict[tuple[str, str], Decided] = {}
        self.now = 0.0

    def tidy(self) -> None:
        live = [place for place, each in self.model.items() if self.now - each.at <= RETENTION_S]
        self.model = {place: self.model[place] for place in live[-MOST:]}

    @rule(seconds=st.floats(0, 60))
    def passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(tenant=st.sampled_from("ab"), request_id=st.sampled_from("123456"))
    def adds(self, tenant: str, request_id: str) -> None:
        each = decided(request_id, tenant, self.now)
        self.pending.add(each)
        self.model.pop((tenant, request_id), None)
        self.model[tenant, request_id] = each
        self.tidy()

    @rule(tenant=st.sampled_from("ab"), request_id=st.sampled_from("123456"))
    def takes(self, tenant: str, request_id: str) -> None:
        self.tidy()
        assert self.pending.take(tenant, request_id, self.now) == self.model.pop((tenant, request_id), None)

    @rule()
    def restarts(self) -> None:
        state = self.pending.dump()
        self.pending = Pending(MOST, RETENTION_S)
        self.pending.restore(state, self.now)
        self.tidy()

    @invariant()
    def stays_small(self) -> None:
        assert len(self.pending) <= MOST


TestPending = AgainstADict.TestCase
