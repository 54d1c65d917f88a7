import os
import subprocess
import sys

import pytest

from penstock.config.providers import ProviderSettings
from penstock.core.errors import ConfigError
from penstock.providers.transport import open_transport, proxy_for
from penstock.providers.transport.lean import LeanTransport
from penstock.providers.transport.origin import parse_origin

NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def settings(**options):
    return ProviderSettings(name="up", kind="openai", **options)


@pytest.mark.parametrize(
    ("url", "place", "authority"),
    [
        ("http://example.com/v1", "example.com:80", "example.com"),
        ("https://Example.com:8443/v1?x=1", "example.com:8443", "example.com:8443"),
        ("https://example.com:443", "example.com:443", "example.com"),
        ("http://[::1]:8000/v1", "[::1]:8000", "[::1]:8000"),
        ("http://[fe80::1%25eth0]", "[fe80::1%25eth0]:80", "[fe80::1]"),
        ("http://bücher.example", "xn--bcher-kva.example:80", "xn--bcher-kva.example"),
        ("http://my_service:80", "my_service:80", "my_service"),
    ],
)
def test_origins(url, place, authority):
    origin = parse_origin(url)
    assert (origin.place, origin.authority) == (place, authority)


@pytest.mark.parametrize(
    "url",
    ["", "example.com", "ftp://example.com", "http://", "http:///v1", "http://h:0", "http://h:99999", "http://h:x",
     "http://a b", "http://a\nb", "http://a..b", "http://[::1", "http://user:sk-secret@host", "//host"],
)  # fmt: skip
def test_bad_urls(url):
    with pytest.raises(ConfigError) as caught:
        open_transport(url, settings())
    assert caught.value.key == "base_url"
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["Host", "accept-encoding", "Content-Length", "transfer-encoding", "connection"])
def test_headers_that_are_the_transports_own(name):
    with pytest.raises(ConfigError) as caught:
        open_transport("http://h", settings(headers={name: "x"}))
    assert caught.value.key == f"headers.{name}"


@pytest.mark.parametrize(
    ("url", "environment", "proxy"),
    [
        ("http://h", {}, None),
        ("http://h", {"HTTP_PROXY": "http://p:1"}, "http://p:1"),
        ("http://h", {"http_proxy": "p:1"}, "http://p:1"),
        ("https://h", {"HTTP_PROXY": "http://p:1"}, None),
        ("https://h", {"HTTPS_PROXY": "http://p:2"}, "http://p:2"),
        ("https://h", {"ALL_PROXY": "http://p:3"}, "http://p:3"),
        ("https://h", {"ALL_PROXY": "http://p:3", "https_proxy": "http://p:2"}, "http://p:2"),
        ("https://h", {"ALL_PROXY": "http://p:3", "NO_PROXY": "x,h"}, None),
        ("https://a.h", {"ALL_PROXY": "http://p:3", "NO_PROXY": ".h"}, None),
        ("https://a.h:8", {"ALL_PROXY": "http://p:3", "no_proxy": "a.h:8"}, None),
        ("https://a.h:9", {"ALL_PROXY": "http://p:3", "no_proxy": "a.h:8"}, "http://p:3"),
        ("https://h", {"ALL_PROXY": "http://p:3", "NO_PROXY": "*"}, None),
        ("https://h", {"HTTPS_PROXY": ""}, None),
        ("http://localhost:1", {"ALL_PROXY": "http://p:3"}, None),
        ("http://127.0.0.2:1", {"ALL_PROXY": "http://p:3"}, None),
        ("http://[::1]:1", {"ALL_PROXY": "http://p:3"}, None),
    ],
)
def test_proxy_from_the_environment(monkeypatch, url, environment, proxy):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url, settings()) == proxy
    assert proxy_for(url, settings(proxy="none")) is None
    assert proxy_for(url, settings(proxy="http://mine:9")) == "http://mine:9"


@pytest.mark.parametrize("proxy", ["ftp://p:1", "http://p:x", "socks5://p:1", "http://"])
def test_unusable_proxies(monkeypatch, proxy):
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(ConfigError) as caught:
        open_transport("http://h", settings())
    assert caught.value.key == "proxy"


def test_direct_connections_do_not_load_the_proxied_transport():
    program = (
        "import sys; from penstock.providers.transport import open_transport;"
        "from penstock.config.providers import ProviderSettings as S;"
        "open_transport('https://h', S(name='up', kind='openai'));"
        "sys.exit(any(name in sys.modules for name in ('httpx2', 'urllib.request')))"
    )
    environment = {name: value for name, value in os.environ.items() if name.upper() not in NAMES}
    assert subprocess.run([sys.executable, "-c", program], env=environment, check=False).returncode == 0
    assert isinstance(open_transport("https://h", settings()), LeanTransport)
