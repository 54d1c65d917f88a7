"""Starts TensorZero's gateway and writes its address to a file: python tensorzero_server.py CONFIG FILE.

Runs in the environment of `benchmarks.peers.tensorzero`. The package has the gateway itself, with its HTTP server, for
tests of programs that use it; it chooses a port.
"""

import signal
import sys
from pathlib import Path

import tensorzero

config, address = sys.argv[1:]
gateway = tensorzero._start_http_gateway(
    config_file=config, clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
)
Path(address).write_text(gateway.base_url.removesuffix("/openai/v1"))
signal.pause()
