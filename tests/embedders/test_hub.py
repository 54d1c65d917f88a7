"""Models by name, from a hub on a loopback address that answers as the real one."""

import json
import os
import subprocess
import sys
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

COMMIT = "c" * 40
PROGRAM = """\
import sys
from penstock.core.errors import ConfigError
from penstock.embedders.graph import Graph
from penstock.embedders.hub import download
try:
    path = download(sys.argv[1])
    print(path.name, Graph(path, sys.argv[1]).name)
except ConfigError as error:
    print(error)
"""


class Hub:
    """Serves the files of one model, and counts what is fetched."""

    def __init__(self, model, folder):
        self.fetched = []
        files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                status, body, headers = 404, b"{}", {}
                path = self.path.partition("?")[0]
                name = path.removeprefix(f"/{model}/resolve/{COMMIT}/")
                if path in (f"/api/models/{model}/tree/main", f"/api/models/{model}/tree/{COMMIT}"):
                    tree = [{"type": "file", "path": name, "size": len(files[name]), "oid": "0"} for name in files]
                    status, body = 200, json.dumps(tree).encode()
                elif path == f"/api/models/{model}/revision/main":
                    there = {"id": model, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
                    status, body = 200, json.dumps(there).encode()
                elif name in files:
                    status, body = 200, files[name]
                    headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{sha1(body).hexdigest()}"'}
                    hub.fetched += [name] if self.command == "GET" else []
                self.send_response(status)
                for field, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(field, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET  # noqa: N815 - the library's name for it

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def hub(tiny):
    (tiny / "config.json").write_text("{}")
    (tiny / "pytorch_model.bin").write_bytes(b"not wanted")
    running = Hub("acme/tiny", tiny)
    yield running
    running.close()


def download(model, hub, home):
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, model], capture_output=True, text=True, env=environment, check=True
    )
    return done.stdout.strip()


def test_a_model_is_downloaded_once_and_only_what_is_needed(hub, tmp_path):
    first = download("acme/tiny", hub, tmp_path / "home")
    assert first.startswith("model.onnx onnx:acme/tiny:")
    assert sorted(hub.fetched) == ["config.json", "model.onnx", "tokenizer.json"]
    hub.close()
    assert download("acme/tiny", hub, tmp_path / "home") == first


def test_a_model_that_is_not_there_is_a_configuration_error(hub, tmp_path):
    said = download("acme/other", hub, tmp_path / "home")
    assert "the model acme/other cannot be downloaded" in said
    assert "copy its directory here and give its path" in said


def test_a_model_without_a_graph_is_a_configuration_error(tiny, tmp_path):
    (tiny / "model.onnx").rename(tiny / "weights.bin")
    hub = Hub("acme/tiny", tiny)
    said = download("acme/tiny", hub, tmp_path / "home")
    hub.close()
    assert "acme/tiny is published without an ONNX graph (expected one of model_quantized.onnx" in said
