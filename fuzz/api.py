"""Schemathesis against a running gateway: no 5xx, and every answer, errors above all, as /openapi.json describes it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

CONFIG = """\
providers: [{name: sim, kind: simulated, latency: {first_token_s: 0, tokens_per_s: 0}}]
models: [{name: "*", targets: [{provider: sim, model: sim}]}]
server: {keys: [{key: sk-fuzz}]}
"""
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
)


def main() -> int:
    """Run for the seconds of the first argument; without a second one, ``keyless``, with a key."""
    seconds, keyless = sys.argv[1], "keyless" in sys.argv[2:]
    tool = Path(sys.executable).parent / "schemathesis"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "penstock.yaml").write_text(CONFIG)
        command = [sys.executable, "-m", "penstock", "serve", "--port", "0", "--json"]
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as gateway:
            try:
                assert gateway.stdout is not None
                url = json.loads(gateway.stdout.readline())["url"]
                options = ["--max-time", seconds, "--checks", ",".join(CHECKS), "--warnings", "off", "--no-color"]
                key = [] if keyless else ["-H", "authorization: Bearer sk-fuzz"]
                return subprocess.run([tool, "run", f"{url}/openapi.json", *options, *key], cwd=folder).returncode
            finally:
                gateway.terminate()


if __name__ == "__main__":
    sys.exit(main())
