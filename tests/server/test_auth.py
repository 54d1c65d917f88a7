import pytest

from penstock.access.principal import Principal
from penstock.access.ring import PURPOSE, KeyRing
from penstock.access.sealing import Sealer
from penstock.config.settings import KeySettings, ServerSettings
from penstock.core.errors import InvalidRequest
from penstock.server.auth import Gate
from penstock.testing import FakeClock

KEYS = [KeySettings(key="sk-first", tenant="a"), KeySettings(key="sk-second", tenant="b"), KeySettings(key="sk-plain")]
BEARER = b"authorization"


@pytest.fixture
def gate():
    return Gate(ServerSettings(keys=KEYS))


@pytest.mark.parametrize(
    ("headers", "tenant"),
    [
        ({BEARER: b"Bearer sk-first"}, "a"),
        ({BEARER: b"bearer sk-second"}, "b"),
        ({BEARER: b"BEARER   sk-plain "}, "default"),
        ({b"x-api-key": b"sk-first"}, "a"),
        ({BEARER: b"Basic YWxhZGRpbg==", b"x-api-key": b"sk-second"}, "b"),
        ({BEARER: b"Bearer sk-first", b"x-penstock-tenant": b"b"}, "a"),
    ],
)
def test_the_key_says_whose_request_it_is(gate, headers, tenant):
    assert gate.admit(headers).tenant == tenant


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_api_key"),
        ({BEARER: b""}, "missing_api_key"),
        ({BEARER: b"Bearer"}, "missing_api_key"),
        ({BEARER: b"Basic YWxhZGRpbg=="}, "missing_api_key"),
        ({b"x-penstock-tenant": b"a"}, "missing_api_key"),
        ({BEARER: b"Bearer sk-wrong"}, "invalid_api_key"),
        ({BEARER: b"Bearer sk-first2"}, "invalid_api_key"),
        ({BEARER: b"Bearer sk-firs"}, "invalid_api_key"),
        ({BEARER: b"Bearer SK-FIRST"}, "invalid_api_key"),
        ({BEARER: b"Bearer \xff\xfe"}, "invalid_api_key"),
        ({b"x-api-key": b"sk-wrong"}, "invalid_api_key"),
        ({BEARER: b"Bearer sk-wrong", b"x-api-key": b"sk-first"}, "invalid_api_key"),
    ],
)
def test_without_a_known_key_nothing_is_served(gate, headers, code):
    with pytest.raises(InvalidRequest) as caught:
        gate.admit(headers)
    assert (caught.value.status_code, caught.value.code) == (401, code)
    assert "sk-wrong" not in caught.value.message


def test_what_was_seen_holds_no_longer_than_the_key():
    clock = FakeClock()
    ring = KeyRing(clock)
    gate = Gate(ServerSettings(keys=KEYS), ring)
    lasting, brief = {BEARER: b"Bearer sk-first"}, {BEARER: b"Bearer sk-brief"}
    seal, secret = Sealer(b"s" * 32, PURPOSE).seal, b"s" * 32
    ring.store([(seal(b"sk-brief"), Principal("c", "key_1", expires_at=clock.wall() + 10))], secret=secret)
    for _ in range(2):
        assert gate.admit(lasting).tenant == "a"
        assert gate.admit(brief).tenant == "c"
    clock.advance(10)
    with pytest.raises(InvalidRequest):
        gate.admit(brief)
    assert gate.admit(lasting).tenant == "a"
    ring.configure([])
    with pytest.raises(InvalidRequest):
        gate.admit(lasting)


def test_header_values_that_are_remembered_are_bounded():
    gate = Gate(ServerSettings(keys=KEYS))
    for spaces in range(12_000):
        gate.admit({BEARER: b"Bearer " + b" " * (spaces % 64) + b"sk-first" + b" " * (spaces // 64)})
    assert len(gate.ring.seen) <= 10_000


def test_without_keys_the_client_may_name_a_tenant():
    gate = Gate(ServerSettings())
    assert gate.admit({}).tenant == "default"
    assert gate.admit({BEARER: b"Bearer any"}).tenant == "default"
    assert gate.admit({b"x-penstock-tenant": b" team-a "}).tenant == "team-a"


@pytest.mark.parametrize("name", [b" ", b"x" * 201, b"a\x01b", b"\x7f"])
def test_a_tenants_name_must_be_printable(name):
    with pytest.raises(InvalidRequest) as caught:
        Gate(ServerSettings()).admit({b"x-penstock-tenant": name})
    assert (caught.value.status_code, caught.value.param) == (400, "x-penstock-tenant")


def test_a_reload_takes_keys_away_and_gives_new_ones(gate):
    gate.configure(ServerSettings(keys=[KeySettings(key="sk-new", tenant="c")]))
    assert gate.admit({BEARER: b"Bearer sk-new"}).tenant == "c"
    with pytest.raises(InvalidRequest):
        gate.admit({BEARER: b"Bearer sk-first"})
