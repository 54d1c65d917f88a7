import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.access.principal import Principal, Role
from penstock.access.ring import PURPOSE, KeyRing
from penstock.access.sealing import Sealer, new_key, new_secret
from penstock.testing import FakeClock


@given(st.binary(min_size=1, max_size=100), st.binary(max_size=200))
def test_the_seal_is_hmac_with_a_derived_key(secret, data):
    derived = hmac.digest(secret, b"penstock api keys", "sha256")
    assert Sealer(secret, "api keys").seal(data) == hmac.digest(derived, data, "sha256")
    assert Sealer(secret, "other").seal(data) != Sealer(secret, "api keys").seal(data)


def test_keys_are_256_bits_and_never_the_same():
    made = {new_key() for _ in range(1000)}
    assert len(made) == 1000
    assert all(key.startswith("sk-") and len(key) == 3 + 43 and key.isascii() for key in made)


@pytest.fixture
def ring():
    return KeyRing(FakeClock())


def test_keys_of_the_store_and_of_the_configuration_stand_side_by_side(ring):
    secret = new_secret()
    stored, configured = Principal("a/b", "key_1"), Principal("c", role=Role.ROOT)
    ring.configure([("sk-configured", configured)])
    ring.store([(Sealer(secret, PURPOSE).seal(b"sk-stored"), stored)], secret=secret)
    assert ring.find(b"sk-stored") is stored
    assert ring.find(b"sk-configured") is configured
    assert ring.find(b"sk-other") is None
    assert ring.find(b"") is None
    ring.configure([])
    assert ring.find(b"sk-configured") is None
    assert ring.find(b"sk-stored") is stored
    assert len(ring) == 1


def test_a_key_is_over_at_its_time():
    clock = FakeClock()
    ring = KeyRing(clock)
    ring.configure([("sk-brief", Principal("a", expires_at=clock.wall() + 10))])
    assert ring.find(b"sk-brief")
    clock.advance(10)
    assert ring.find(b"sk-brief") is None
    assert ring.guarded


def test_revoked_keys_keep_the_gate_closed(ring):
    assert not ring.guarded
    ring.store([], guarded=True)
    assert ring.guarded
    ring.store([], guarded=False)
    assert not ring.guarded
