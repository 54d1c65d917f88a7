"""Any sequence of changes by two processes on one database, against what should come of it."""

import asyncio
import tempfile

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from penstock.access.principal import Principal, Role
from penstock.access.ring import KeyRing
from penstock.accounts.directory import Accounts
from penstock.accounts.keys import Keys, KeyTerms
from penstock.accounts.teams import Teams, TeamTerms
from penstock.core.errors import InvalidRequest
from penstock.stores.opening import open_store
from penstock.testing import FakeClock

ROOT = Principal("default", role=Role.ROOT)
TENANTS = ("acme/one", "acme/two")


class Process:
    def __init__(self, url, clock):
        self.stores = open_store(url, clock)
        self.ring = KeyRing(clock)
        self.accounts = Accounts(self.stores.keys, self.ring, clock)
        self.keys, self.teams = Keys(self.accounts, ROOT), Teams(self.accounts, ROOT)


class Lives(RuleBasedStateMachine):
    """The model: of each key its tenant, its end and whether it is revoked; of each team whether it is archived."""

    made = Bundle("made")
    which = st.integers(0, 1)

    @initialize()
    def start(self):
        self.loop = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = FakeClock()
        url = f"sqlite:///{self.folder.name}/penstock.db"
        self.processes = [Process(url, self.clock) for _ in range(2)]
        for process in self.processes:
            self.run(process.stores.start())
        for tenant in TENANTS:
            self.run(self.processes[0].teams.create(TeamTerms(tenant)))
        self.model = {}
        self.archived = set()

    def run(self, awaitable):
        return self.loop.run(awaitable)

    def valid(self, key):
        tenant, ends, revoked = self.model[key]
        return not revoked and tenant not in self.archived and (ends is None or self.clock.wall() < ends)

    @rule(target=made, which=which, tenant=st.sampled_from(TENANTS), life=st.none() | st.integers(1, 20))
    def create(self, which, tenant, life):
        ends = None if life is None else self.clock.wall() + life
        creating = self.processes[which].keys.create(KeyTerms("k", tenant, expires_at=ends))
        if tenant in self.archived:
            with pytest.raises(InvalidRequest, match="no team"):
                self.run(creating)
            return None
        key, text = self.run(creating)
        self.model[key.id, text] = (tenant, ends, False)
        return key.id, text

    @rule(target=made, which=which, key=made, overlap=st.integers(0, 10))
    def rotate(self, which, key, overlap):
        if key is None:
            return None
        tenant, ends, revoked = self.model.get(key, (None, None, True))
        rotating = self.processes[which].keys.rotate(key[0], overlap_s=overlap)
        if revoked or (ends is not None and ends <= self.clock.wall()):
            with pytest.raises(InvalidRequest, match="revoked or has expired"):
                self.run(rotating)
            return None
        new, text = self.run(rotating)
        self.model[key] = (tenant, min(self.clock.wall() + overlap, ends or 1e12), False)
        self.model[new.id, text] = (tenant, ends, False)
        return new.id, text

    @rule(which=which, key=made)
    def revoke(self, which, key):
        if key in self.model:
            self.run(self.processes[which].keys.revoke(key[0]))
            self.model[key] = (*self.model[key][:2], True)

    @rule(which=which, key=consumes(made))
    def delete(self, which, key):
        if key in self.model:
            self.run(self.processes[which].keys.delete(key[0]))
            self.model[key] = (*self.model[key][:2], True)

    @rule(which=which, tenant=st.sampled_from(TENANTS), archived=st.booleans())
    def archive(self, which, tenant, archived):
        self.run(self.processes[which].teams.update(tenant, {"archived": archived}))
        (self.archived.add if archived else self.archived.discard)(tenant)

    @rule(seconds=st.integers(1, 15))
    def wait(self, seconds):
        self.clock.advance(seconds)

    @invariant()
    def each_key_is_what_it_should_be(self):
        for process in self.processes:
            self.run(process.accounts.refresh())
            for ident, text in self.model:
                found = process.ring.find(text.encode())
                assert (found is not None) == self.valid((ident, text))
                assert found is None or (found.key_id, found.tenant) == (ident, self.model[ident, text][0])

    def teardown(self):
        if hasattr(self, "processes"):
            for process in self.processes:
                self.run(process.stores.aclose())
            self.loop.close()
            self.folder.cleanup()


Lives.TestCase.settings = settings(max_examples=12, stateful_step_count=20)
TestLives = Lives.TestCase
