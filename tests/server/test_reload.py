"""A reload must not open what the start would have kept closed."""

import pytest

from penstock.access.principal import Role
from penstock.config.loader import load
from penstock.config.settings import ServerSettings
from penstock.core.errors import ConfigError, InvalidRequest
from penstock.server.listening import listen
from penstock.server.serving import _Server

CONFIG = """\
server: {host: 0.0.0.0, keys: [{key: sk-first}]}
providers: [{name: sim, kind: simulated}]
models: [{name: "*", targets: [{provider: sim, model: sim}]}]
store: {url: "memory:"}
"""


class Listening:
    """A socket on an address others reach, without one: tests listen on loopback only."""

    def getsockname(self):
        return "0.0.0.0", 4141


async def test_keys_cannot_be_reloaded_away_from_an_address_others_reach(tmp_path):
    path = tmp_path / "penstock.yaml"
    path.write_text(CONFIG)
    server = _Server(load(str(path)), Listening(), lambda: None)
    async with server.client:
        path.write_text(CONFIG.replace("keys: [{key: sk-first}]", "keys: []"))
        await server.reloader.reload()
        with pytest.raises(InvalidRequest):
            server.gateway.gate.admit({})
        path.write_text(CONFIG.replace("sk-first", "sk-second"))
        await server.reloader.reload()
        assert server.gateway.gate.admit({b"authorization": b"Bearer sk-second"}).tenant == "default"
        with pytest.raises(InvalidRequest):
            server.gateway.gate.admit({b"authorization": b"Bearer sk-first"})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_without_a_key_of_the_configuration_no_other_address_than_loopback_is_served(host):
    with pytest.raises(ConfigError, match="refusing to listen"):
        listen(ServerSettings(host=host))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_is_served_without(host):
    with listen(ServerSettings(host=host, port=0)) as listening:
        assert listening.getsockname()[0] in ("127.0.0.1", "::1")


async def test_an_admin_key_is_enough_for_any_address_and_cannot_be_reloaded_away(tmp_path):
    path = tmp_path / "penstock.yaml"
    path.write_text(CONFIG.replace("keys: [{key: sk-first}]", "admin_key: sk-0123456789abcdef"))
    server = _Server(load(str(path)), Listening(), lambda: None)
    async with server.client:
        root = {b"authorization": b"Bearer sk-0123456789abcdef"}
        assert server.gateway.gate.admit(root).role is Role.ROOT
        path.write_text(CONFIG.replace("keys: [{key: sk-first}]", "keys: []"))
        await server.reloader.reload()
        assert server.gateway.gate.admit(root).role is Role.ROOT
        with pytest.raises(InvalidRequest):
            server.gateway.gate.admit({})
