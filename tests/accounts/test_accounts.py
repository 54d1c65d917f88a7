"""Keys and teams over two sorts of store, and over time."""

import asyncio

import msgspec
import pytest

from penstock.access.principal import Principal, Role
from penstock.access.ring import KeyRing
from penstock.accounts.directory import Accounts
from penstock.accounts.keys import Keys, KeyTerms
from penstock.accounts.teams import Teams, TeamTerms
from penstock.core.clock import SystemClock
from penstock.core.errors import InvalidRequest, StoreError
from penstock.stores.memory import MemoryKeyStore
from penstock.stores.opening import open_store
from penstock.testing import FakeClock

ROOT = Principal("default", role=Role.ROOT)
SEARCH = "acme/search"


class Bench:
    """A process."""

    def __init__(self, store, clock=None, **options):
        self.clock = clock or FakeClock()
        self.ring = KeyRing(self.clock)
        self.accounts = Accounts(store, self.ring, self.clock, **options)

    def keys(self, by=ROOT):
        return Keys(self.accounts, by)

    def teams(self, by=ROOT):
        return Teams(self.accounts, by)

    def find(self, text):
        return self.ring.find(text.encode())

    async def principal(self, *, by=ROOT, **terms):
        _, text = await self.keys(by).create(KeyTerms(**{"name": "key", "tenant": SEARCH, **terms}))
        return self.find(text)


class FailingStore(MemoryKeyStore):
    """A store that can be taken away."""

    down = False

    async def version(self):
        if self.down:
            raise StoreError("down")
        return await super().version()


@pytest.fixture
def store():
    return FailingStore()


@pytest.fixture
async def bench(store):
    made = Bench(store)
    for tenant in (SEARCH, "acme/other", "foreign/team"):
        await made.teams().create(TeamTerms(tenant))
    return made


async def refused(code, awaitable):
    with pytest.raises(InvalidRequest) as caught:
        await awaitable
    assert caught.value.code == code
    return caught.value


async def test_a_key_lives_from_its_creation_to_its_revocation(bench):
    key, text = await bench.keys().create(KeyTerms("web", SEARCH, models=["gpt-4*"], requests_per_minute=5))
    assert text.startswith("sk-")
    assert text.endswith(key.hint)
    assert text.encode() not in msgspec.json.encode(key)
    found = bench.find(text)
    assert (found.tenant, found.key_id, found.role, found.requests_per_minute) == (SEARCH, key.id, Role.USER, 5)
    assert found.may_ask("gpt-4o")
    assert not found.may_ask("o3")
    revoked = await bench.keys().revoke(key.id)
    assert revoked.revoked_at == bench.clock.wall()
    assert bench.find(text) is None
    bench.clock.advance(5)
    assert await bench.keys().revoke(key.id) == revoked
    await refused("key_not_valid", bench.keys().rotate(key.id))
    await bench.keys().delete(key.id)
    await refused("key_not_found", bench.keys().get(key.id))


async def test_a_rotated_key_stays_valid_for_the_overlap(bench):
    old, old_text = await bench.keys().create(KeyTerms("web", SEARCH, "admin", models=["a"]))
    new, new_text = await bench.keys().rotate(old.id, overlap_s=60)
    assert (new.replaces, new.role, new.models, new.expires_at) == (old.id, "admin", ["a"], None)
    assert bench.find(old_text).key_id == old.id
    assert bench.find(new_text).key_id == new.id
    bench.clock.advance(60)
    assert bench.find(old_text) is None
    assert bench.find(new_text).key_id == new.id
    await refused("key_not_valid", bench.keys().rotate(old.id))


async def test_rotation_lengthens_no_life(bench):
    ends = bench.clock.wall() + 30
    old, old_text = await bench.keys().create(KeyTerms("web", SEARCH, expires_at=ends))
    new, _ = await bench.keys().rotate(old.id, overlap_s=1000)
    assert new.expires_at == ends
    assert (await bench.keys().get(old.id)).expires_at == ends
    bench.clock.advance(30)
    assert bench.find(old_text) is None


async def test_what_a_team_and_its_organisation_allow_holds_for_their_keys(bench):
    await bench.teams().create(TeamTerms("acme", models=["a*"]))
    await bench.teams().update(SEARCH, {"models": ["*1"]})
    _, text = await bench.keys().create(KeyTerms("web", SEARCH, models=["a*", "b"]))
    key = bench.find(text)
    assert [name for name in ("a1", "a2", "b", "b1") if key.may_ask(name)] == ["a1"]
    await bench.teams().update(SEARCH, {"archived": True})
    assert bench.find(text) is None
    await refused("team_not_found", bench.keys().create(KeyTerms("web", SEARCH)))
    await bench.teams().update(SEARCH, {"archived": False, "models": None})
    assert bench.find(text).may_ask("a2")


async def test_nobody_gives_more_than_they_have(bench):
    ends = bench.clock.wall() + 100
    admin = await bench.principal(
        role="admin", models=["gpt-4*", "o3"], requests_per_minute=10, tokens_per_minute=1000, expires_at=ends
    )
    keys = bench.keys(admin)
    same = KeyTerms("k", "acme/other")
    for terms, param in (
        ({"models": ["gpt-5"]}, "models"),
        ({"models": ["gpt-4o", "*"]}, "models"),
        ({"models": ["gpt-*"]}, "models"),
        ({"requests_per_minute": 11}, "requests_per_minute"),
        ({"tokens_per_minute": 1001}, "tokens_per_minute"),
        ({"expires_at": ends + 1}, "expires_at"),
    ):
        error = await refused("grant_exceeded", keys.create(msgspec.structs.replace(same, **terms)))
        assert (error.param, error.status_code) == (param, 403)
    key, _ = await keys.create(same)
    assert (key.models, key.requests_per_minute, key.expires_at) == (["gpt-4*", "o3"], 10, ends)
    assert key.created_by == admin.key_id
    key, _ = await keys.create(msgspec.structs.replace(same, role="admin", models=["gpt-4o*"], requests_per_minute=3))
    await refused("grant_exceeded", keys.update(key.id, {"models": ["*"]}))
    await refused("grant_exceeded", keys.update(admin.key_id, {"requests_per_minute": 20}))
    assert (await keys.update(key.id, {"models": None})).models == ["gpt-4*", "o3"]
    wide, _ = await bench.keys().create(KeyTerms("wide", "acme/other"))
    await refused("grant_exceeded", keys.rotate(wide.id))
    await refused("invalid_value", keys.create(msgspec.structs.replace(same, role="root")))
    assert (await keys.revoke(wide.id)).revoked_at


async def test_an_admin_keeps_to_its_organisation_and_lifts_no_restriction_of_its_own(bench):
    admin = await bench.principal(role="admin")
    foreign, _ = await bench.keys().create(KeyTerms("k", "foreign/team"))
    keys, teams = bench.keys(admin), bench.teams(admin)
    for attempt in (keys.get, keys.revoke, keys.rotate, keys.delete, lambda each: keys.update(each, {"name": "x"})):
        error = await refused("key_not_found", attempt(foreign.id))
        assert error.status_code == 404
    assert (await refused("team_not_found", keys.create(KeyTerms("k", "foreign/team")))).status_code == 404
    assert (await refused("team_not_found", teams.get("foreign/team"))).status_code == 404
    for tenant in ("foreign/new", "acme", "new"):
        await refused("grant_exceeded", teams.create(TeamTerms(tenant)))
    await refused("grant_exceeded", teams.update(SEARCH, {"requests_per_minute": 1000}))
    assert (await teams.update("acme/other", {"requests_per_minute": 7})).requests_per_minute == 7
    assert [each.tenant for each in await teams.list()] == [SEARCH, "acme/other"]
    assert [each.tenant for each in await keys.list()] == [SEARCH]
    assert (await bench.keys().get(foreign.id)).name == "k"


@pytest.mark.parametrize(
    ("terms", "param"),
    [
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"role": "owner"}, "role"),
        ({"models": []}, "models"),
        ({"models": [""]}, "models"),
        ({"requests_per_minute": 0}, "requests_per_minute"),
        ({"tokens_per_minute": -5}, "tokens_per_minute"),
        ({"expires_at": 1.0}, "expires_at"),
        ({"expires_at": 1e300}, "expires_at"),
    ],
)
async def test_terms_that_make_no_sense(bench, terms, param):
    error = await refused("invalid_value", bench.keys().create(KeyTerms(**{"name": "k", "tenant": SEARCH, **terms})))
    assert error.param == param
    assert not bench.ring.guarded


@pytest.mark.parametrize("tenant", ["", "/", "a/", "/b", "a/b/c", "a b", "a/../b", "ä", "a" * 81, "a\n"])
async def test_names_of_teams(bench, tenant):
    await refused("invalid_value", bench.teams().create(TeamTerms(tenant)))


async def test_others_changes_hold_within_two_seconds(bench, store):
    other = Bench(store, bench.clock)
    await other.accounts.refresh()
    key, text = await bench.keys().create(KeyTerms("k", SEARCH))
    assert other.find(text) is None
    following = asyncio.ensure_future(other.accounts.follow(lambda: 60.0))
    await bench.clock.run(2)
    assert other.find(text).key_id == key.id
    await bench.keys().revoke(key.id)
    await bench.clock.run(2)
    assert other.find(text) is None
    following.cancel()


async def test_without_the_store_known_keys_are_served_for_a_while(bench, store):
    _, text = await bench.keys().create(KeyTerms("k", SEARCH))
    following = asyncio.ensure_future(bench.accounts.follow(lambda: 60.0))
    await bench.clock.run(2)
    store.down = True
    await bench.clock.run(2)
    assert not bench.ring.reachable
    assert bench.find(text)
    await bench.clock.run(57)
    assert bench.find(text)
    await bench.clock.run(3)
    assert bench.find(text) is None
    assert bench.ring.guarded
    store.down = False
    await bench.clock.run(1)
    assert bench.find(text)
    assert bench.ring.reachable
    following.cancel()


async def test_a_lost_secret_is_said_and_lets_nobody_in(tmp_path):
    stores = open_store(f"sqlite:///{tmp_path}/penstock.db", SystemClock())
    await stores.start()
    bench = Bench(stores.keys)
    await bench.keys().create(KeyTerms("k"))
    (tmp_path / "penstock.db.secret").unlink()
    with pytest.raises(StoreError, match="PENSTOCK_SECRET"):
        await Bench(stores.keys).accounts.refresh()
    await stores.aclose()


@pytest.mark.parametrize("secrets", [(None, "b" * 40), ("a" * 40, "b" * 40), ("a" * 40, None)])
async def test_another_secret_is_told_from_unknown_keys(tmp_path, secrets):
    stores = open_store(f"sqlite:///{tmp_path}/penstock.db", SystemClock())
    await stores.start()
    first, second = secrets
    bench = Bench(stores.keys, secret=first)
    old, text = await bench.keys().create(KeyTerms("k"))
    other = Bench(stores.keys, secret=second)
    with pytest.raises(StoreError, match=r"secret.*PENSTOCK_SECRET") as refused:
        await other.accounts.refresh()
    assert text not in str(refused.value)
    assert other.find(text) is None
    # Who only looks after keys may read them, and end those that are lost, but makes none beside them.
    keeper = Bench(stores.keys, secret=second, serving=False)
    assert [key.id for key in await keeper.keys().list()] == [old.id]
    with pytest.raises(StoreError, match="penstock keys revoke"):
        await keeper.keys().create(KeyTerms("new"))
    with pytest.raises(StoreError, match="penstock keys revoke"):
        await keeper.keys().rotate(old.id)
    await bench.accounts.refresh()
    assert bench.find(text)
    await keeper.keys().revoke(old.id)
    await other.accounts.refresh()
    _, new = await other.keys().create(KeyTerms("new"))
    assert other.find(new)
    await stores.aclose()
