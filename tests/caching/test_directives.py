import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.caching.directives import read_directives
from penstock.core.errors import InvalidRequest
from penstock.core.request import NO_DIRECTIVES, CacheDirectives


def test_nothing_said():
    assert read_directives(None, None) is NO_DIRECTIVES
    assert read_directives("", {}) == NO_DIRECTIVES


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("no-cache", CacheDirectives(no_cache=True)),
        ("No-Cache , NO-STORE", CacheDirectives(no_cache=True, no_store=True)),
        ("only-if-cached", CacheDirectives(only_if_cached=True)),
        ("max-age=60", CacheDirectives(max_age=60)),
        ('max-age="60"', CacheDirectives(max_age=60)),
        ("max-age=0", CacheDirectives(max_age=0)),
        ("max-age=99999999999999999999999", CacheDirectives(max_age=2**31)),
        ("max-age=60, max-age=5", CacheDirectives(max_age=5)),
        ("stale-if-error=600,max-age=60", CacheDirectives(max_age=60, stale_if_error=600)),
        (",, ,no-store,", CacheDirectives(no_store=True)),
        ("max-age=60\t,\tno-cache", CacheDirectives(no_cache=True, max_age=60)),
    ],
)
def test_directives_of_the_header(header, expected):
    assert read_directives(header) == expected


@pytest.mark.parametrize(
    "header",
    [
        "max-age",
        "max-age=",
        "max-age=-1",
        "max-age=1.5",
        "max-age=soon",
        "max-age=1e3",
        "max-age=١",
        "stale-if-error",
        "public, immutable, max-stale=5, min-fresh=9, no-transform",
        'private="no-store", x="no-cache, no-store"',
        "xno-store, no-storex",
        '"',
        "=",
    ],
)
def test_what_is_unknown_or_malformed_is_ignored(header):
    assert read_directives(header) == NO_DIRECTIVES


@given(st.text(max_size=60))
def test_no_header_is_an_error(header):
    read_directives(header)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ({"ttl": 600}, CacheDirectives(ttl=600)),
        ({"ttl": 0}, CacheDirectives(ttl=0)),
        ({"ttl": 0.5, "s-maxage": 10}, CacheDirectives(ttl=0.5, max_age=10)),
        ({"s-max-age": 10}, CacheDirectives(max_age=10)),
        ({"no-cache": True}, CacheDirectives(no_cache=True)),
        ({"no-store": True, "no-cache": False}, CacheDirectives(no_store=True)),
        ({"namespace": "team-a"}, CacheDirectives(namespace="team-a")),
        ({"use-cache": True}, NO_DIRECTIVES),
        ({"use-cache": False}, CacheDirectives(no_cache=True, no_store=True)),
        (dict.fromkeys(["ttl", "s-maxage", "no-cache", "no-store", "namespace", "use-cache"]), NO_DIRECTIVES),
    ],
)
def test_the_body_field(field, expected):
    assert read_directives(None, field) == expected


@pytest.mark.parametrize(
    ("field", "param"),
    [
        (True, "cache"),
        ("no-store", "cache"),
        ([], "cache"),
        ({"ttl": "600"}, "cache.ttl"),
        ({"ttl": True}, "cache.ttl"),
        ({"ttl": -1}, "cache.ttl"),
        ({"ttl": float("inf")}, "cache.ttl"),
        ({"ttl": float("nan")}, "cache.ttl"),
        ({"s-maxage": []}, "cache.s-maxage"),
        ({"no-cache": 1}, "cache.no-cache"),
        ({"no-store": "true"}, "cache.no-store"),
        ({"use-cache": 0}, "cache.use-cache"),
        ({"namespace": 7}, "cache.namespace"),
        ({"no_store": True}, "cache.no_store"),
    ],
)
def test_a_wrong_body_field_is_named(field, param):
    with pytest.raises(InvalidRequest) as caught:
        read_directives(None, field)
    assert caught.value.param == param
    assert param in caught.value.message
    assert caught.value.status_code == 400


def test_of_both_the_stricter_wins():
    both = read_directives("max-age=60, no-cache", {"s-maxage": 30, "no-store": True, "no-cache": False})
    assert both == CacheDirectives(no_cache=True, no_store=True, max_age=30)
    assert read_directives("max-age=10", {"s-maxage": 30}).max_age == 10
