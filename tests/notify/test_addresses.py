import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import ConfigError
from penstock.notify.addresses import Place, parse, public, resolve


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://example.org", Place(True, "example.org", 443, "/")),
        ("http://example.org:8080/a/b?c=d&e", Place(False, "example.org", 8080, "/a/b?c=d&e")),
        ("https://[2001:db8::1]/x", Place(True, "2001:db8::1", 443, "/x")),
        ("http://93.184.216.34/", Place(False, "93.184.216.34", 80, "/")),
        ("https://123abc.example/", Place(True, "123abc.example", 443, "/")),
    ],
)
def test_a_url_is_taken_apart(url, place):
    assert parse(url) == place


@pytest.mark.parametrize(
    "url",
    [
        "", "example.org", "ftp://example.org/", "file:///etc/passwd", "http://", "http:///path", "//example.org/",
        "http://user@example.org/", "http://good.example#@evil.example/", "http://good.example/#x",
        "http://good.example\\@evil.example/", "http://example.org/a b", "http://example.org/\r\nx: y",
        "http://exämple.org/", "http://example.org:0/", "http://example.org:99999/", "http://example.org:x/",
        "http://0177.0.0.1/", "http://2130706433/", "http://0x7f.0.0.1/", "http://0x7f000001/", "http://127.1/",
        "http://0/", "http://[::1", "http://127.0.0.1@example.org/",
    ],
)  # fmt: skip
def test_a_url_with_two_meanings_is_refused(url):
    with pytest.raises(ConfigError):
        parse(url)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1", "::", "::1", "fe80::1", "fc00::1",
        "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:db8::1",
    ],
)  # fmt: skip
def test_what_is_not_public_is_refused(address):
    assert not public(ipaddress.ip_address(address))
    with pytest.raises(ConfigError, match="not on the public Internet"):
        resolve(Place(False, address, 80, "/"), private=False)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8"])
def test_what_is_public_is_not(address):
    assert public(ipaddress.ip_address(address))
    assert resolve(Place(False, address, 80, "/"), private=False)


def test_a_name_is_refused_when_any_of_its_addresses_is():
    with pytest.raises(ConfigError, match="localhost leads to"):
        resolve(Place(False, "localhost", 80, "/"), private=False)
    assert resolve(Place(False, "localhost", 80, "/"), private=True) in ("127.0.0.1", "::1")


@given(st.ip_addresses(v=4))
def test_wrapping_an_address_does_not_make_it_public(address):
    wrapped = [ipaddress.ip_address(f"::ffff:{address}"), ipaddress.ip_address(0x64FF9B << 96 | int(address))]
    assert all(public(each) <= public(address) for each in wrapped)
