"""The gateways measured beside Penstock, at pinned versions in environments of their own under `.peers`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.outcome import ROOT
from benchmarks.processes import Server, free_port, running, say

LITELLM, PORTKEY = "1.106.2", "1.15.2"
KEY = "sk-bench-5f0c9a7e41d24b6e9b7d3c1a8e6f2d90"
"""LiteLLM refuses a weak master key."""

_NGINX = """\
daemon off; worker_processes 1; pid {folder}/nginx-{port}.pid; error_log {folder}/nginx-{port}.err;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 300s; default_type application/json;
  client_body_temp_path {folder}/nginx-{port}-body; proxy_temp_path {folder}/nginx-{port}-proxy;
  fastcgi_temp_path {folder}/nginx-{port}-f; uwsgi_temp_path {folder}/nginx-{port}-u;
  scgi_temp_path {folder}/nginx-{port}-s;
  client_body_buffer_size 64k;
  {more}
}}
"""
_PROXY = """\
upstream model {{ server {upstream}; keepalive 128; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{
    proxy_pass http://model; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }} }}"""
_CONSTANT = "server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 '{body}'; }} }}"


@contextmanager
def nginx_proxy(upstream: str, *, core: int, folder: Path) -> Iterator[Server]:
    """Run nginx as a plain proxy."""
    port = free_port()
    with _nginx("nginx-proxy", _PROXY.format(port=port, upstream=upstream), port, core=core, folder=folder) as server:
        yield server


@contextmanager
def nginx_constant(body: bytes, *, core: int, folder: Path) -> Iterator[Server]:
    """Run nginx returning a constant."""
    port = free_port()
    more = _CONSTANT.format(port=port, body=body.decode().replace("'", "\\'"))
    with _nginx("nginx-constant", more, port, core=core, folder=folder) as server:
        yield server


@contextmanager
def litellm(upstream: str, *, cache: bool, core: int, folder: Path) -> Iterator[Server]:
    """Run LiteLLM's proxy, tuned: one worker, no telemetry, local price list, errors only in the log."""
    home = ROOT / ".peers" / "litellm"
    executable = home / "bin" / "litellm"
    if not executable.exists():
        say("installing LiteLLM (about 750 MB, once)")
        subprocess.run([str(ROOT / "scripts" / "environment"), sys.executable, str(home)], check=True)
        _pip(home, f"litellm[proxy]=={LITELLM}")
    port, name = free_port(), "litellm-cache" if cache else "litellm"
    settings: dict[str, object] = {"telemetry": False}
    if cache:
        settings |= {"cache": True, "cache_params": {"type": "local"}}
    model = {"model": "openai/gpt-4o-mini", "api_base": f"http://{upstream}/v1", "api_key": "sk-mock"}
    config = folder / f"{name}.yaml"
    config.write_text(  # JSON is YAML
        json.dumps(
            {
                "model_list": [{"model_name": "gpt-mock", "litellm_params": model}],
                "litellm_settings": settings,
                "general_settings": {"master_key": KEY},
            }
        )
    )
    with running(
        name,
        [str(home / "bin" / "python"), str(executable), "--config", str(config), "--host", "127.0.0.1",
         "--port", str(port), "--num_workers", "1"],
        f"http://127.0.0.1:{port}", core=core, folder=folder, ready="/health/liveliness",
        environment={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION"},
    ) as server:  # fmt: skip
        yield server


@contextmanager
def portkey(*, core: int, folder: Path) -> Iterator[Server]:
    """Run Portkey's gateway; the upstream is named in each request's headers."""
    home = ROOT / ".peers" / "portkey"
    script = home / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    if not script.exists():
        say("installing Portkey's gateway")
        home.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--silent", f"@portkey-ai/gateway@{PORTKEY}"],
            cwd=home, check=True, stdout=sys.stderr,
        )  # fmt: skip
    port = free_port()
    command = ["node", str(script), f"--port={port}", "--headless"]
    with running("portkey", command, f"http://127.0.0.1:{port}", core=core, folder=folder) as server:
        yield server


def portkey_headers(upstream: str) -> dict[str, str]:
    """Headers that tell Portkey where to go."""
    return {
        "authorization": "Bearer sk-mock",
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"http://{upstream}/v1",
    }


def missing() -> list[str]:
    """Name the programs that have to be installed first."""
    return [name for name in ("wrk", "nginx", "npm", "node", "taskset") if shutil.which(name, path=_path()) is None]


@contextmanager
def _nginx(name: str, more: str, port: int, *, core: int, folder: Path) -> Iterator[Server]:
    config = folder / f"{name}.conf"
    config.write_text(_NGINX.format(folder=folder, port=port, more=more))
    program = shutil.which("nginx", path=_path()) or "nginx"
    with running(name, [program, "-c", str(config)], f"http://127.0.0.1:{port}", core=core, folder=folder) as server:
        yield server


def _path() -> str:
    return os.environ.get("PATH", "") + os.pathsep + "/usr/sbin"


def _pip(home: Path, *packages: str) -> None:
    command = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, *packages], check=True, stdout=sys.stderr)
