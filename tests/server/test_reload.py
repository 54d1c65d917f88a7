"""A reload must not open what the start would have kept closed."""

import pytest

from penstock.config.loader import load
from penstock.core.errors import InvalidRequest
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
    async with server._client:
        path.write_text(CONFIG.replace("keys: [{key: sk-first}]", "keys: []"))
        await server._reload()
        with pytest.raises(InvalidRequest):
            server._gateway.gate.admit({})
        path.write_text(CONFIG.replace("sk-first", "sk-second"))
        await server._reload()
        assert server._gateway.gate.admit({b"authorization": b"Bearer sk-second"}).tenant == "default"
        with pytest.raises(InvalidRequest):
            server._gateway.gate.admit({b"authorization": b"Bearer sk-first"})
