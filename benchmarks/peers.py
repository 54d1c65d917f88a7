"""The gateways measured beside Penstock, at pinned versions in environments of their own under `.peers`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.outcome import ROOT
from benchmarks.processes import Server, free_port, running, say

LITELLM, PORTKEY, SGLANG, TENSORZERO = "1.106.2", "1.15.2", "0.3.2", "2026.6.0"
_TELEMETRY = "opentelemetry-sdk==1.45.2"
"""LiteLLM is said to try to import it with every request when it is not there; not measured here."""
PROGRAMS = {"wrk": "wrk", "nginx": "nginx", "haproxy": "haproxy", "taskset": "util-linux"}
"""Those of every run, and the packages they are in."""
SLOW_PROGRAMS = {"npm": "npm", "node": "nodejs"}
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
_HAPROXY = """\
global
 nbthread 1
 maxconn 4096
defaults
 mode http
 timeout connect 5s
 timeout client 300s
 timeout server 300s
 http-reuse always
listen model
 bind 127.0.0.1:{port} backlog 4096
 server m {upstream}
"""
_TENSORZERO = """\
[gateway]
observability.enabled = false
[models.gpt-mock]
routing = ["mock"]
[models.gpt-mock.providers.mock]
type = "openai"
model_name = "gpt-mock"
api_base = "http://{upstream}/v1/"
api_key_location = "none"
"""
_SETTLE_S = 2.0
_CONSTANT = "server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 '{body}'; }} }}"


@contextmanager
def nginx_proxy(upstream: str, *, core: int | str, folder: Path) -> Iterator[Server]:
    """Run nginx as a plain proxy."""
    port = free_port()
    with _nginx("nginx-proxy", _PROXY.format(port=port, upstream=upstream), port, core=core, folder=folder) as server:
        yield server


@contextmanager
def nginx_constant(body: bytes, *, core: int | str, folder: Path) -> Iterator[Server]:
    """Run nginx returning a constant."""
    port = free_port()
    more = _CONSTANT.format(port=port, body=body.decode().replace("'", "\\'"))
    with _nginx("nginx-constant", more, port, core=core, folder=folder) as server:
        yield server


@contextmanager
def haproxy(upstream: str, *, core: int | str, folder: Path) -> Iterator[Server]:
    """Run HAProxy as a plain proxy, on one thread."""
    port = free_port()
    config = folder / "haproxy.cfg"
    config.write_text(_HAPROXY.format(port=port, upstream=upstream))
    command = [_program("haproxy"), "-f", str(config)]
    with running("haproxy", command, f"http://127.0.0.1:{port}", core=core, folder=folder) as server:
        yield server


@contextmanager
def sglang(upstream: str, *, core: int | str, folder: Path) -> Iterator[Server]:
    """Run SGLang's router before one worker."""
    python, port = _environment("sglang-router", f"sglang-router=={SGLANG}"), free_port()
    command = [
        python, "-m", "sglang_router.launch_router", "--host", "127.0.0.1", "--port", str(port),
        "--worker-urls", f"http://{upstream}", "--policy", "round_robin", "--log-level", "error",
        "--prometheus-port", str(free_port()),
    ]  # fmt: skip
    with running("sglang", command, f"http://127.0.0.1:{port}", core=core, folder=folder, ready="/v1/models") as server:
        time.sleep(_SETTLE_S)  # it looks for its workers first
        yield server


@contextmanager
def tensorzero(upstream: str, *, core: int | str, folder: Path) -> Iterator[Server]:
    """Run TensorZero's gateway as its Python package starts it, records off."""
    python = _environment("tensorzero", f"tensorzero=={TENSORZERO}")
    config, address = folder / "tensorzero.toml", folder / "tensorzero.url"
    config.write_text(_TENSORZERO.format(upstream=upstream))
    address.unlink(missing_ok=True)
    script = Path(__file__).with_name("tensorzero_server.py")
    command = [python, str(script), str(config), str(address)]
    with running("tensorzero", command, address, core=core, folder=folder, ready="/health") as server:
        server.path, server.model = "/openai/v1/chat/completions", "tensorzero::model_name::gpt-mock"
        yield server


@contextmanager
def litellm(upstream: str, *, cache: bool, core: int | str, folder: Path) -> Iterator[Server]:
    """Run LiteLLM's proxy, tuned: one worker, no telemetry, local price list, errors only in the log."""
    python = _environment("litellm", f"litellm[proxy]=={LITELLM}", _TELEMETRY)
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
        [python, str(Path(python).with_name("litellm")), "--config", str(config), "--host", "127.0.0.1",
         "--port", str(port), "--num_workers", "1"],
        f"http://127.0.0.1:{port}", core=core, folder=folder, ready="/health/liveliness",
        environment={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION"},
    ) as server:  # fmt: skip
        server.headers = {"authorization": f"Bearer {KEY}"}
        yield server


@contextmanager
def portkey(upstream: str, *, core: int | str, folder: Path) -> Iterator[Server]:
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
        server.headers = {
            "authorization": "Bearer sk-mock",
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": f"http://{upstream}/v1",
        }
        yield server


def missing(*, slow: bool) -> list[str]:
    """Name the packages of Debian that have to be installed first."""
    programs = PROGRAMS | SLOW_PROGRAMS if slow else PROGRAMS
    return [package for name, package in programs.items() if shutil.which(name, path=_path()) is None]


@contextmanager
def _nginx(name: str, more: str, port: int, *, core: int | str, folder: Path) -> Iterator[Server]:
    config = folder / f"{name}.conf"
    config.write_text(_NGINX.format(folder=folder, port=port, more=more))
    command = [_program("nginx"), "-c", str(config)]
    with running(name, command, f"http://127.0.0.1:{port}", core=core, folder=folder) as server:
        yield server


def _program(name: str) -> str:
    return shutil.which(name, path=_path()) or name


def _path() -> str:
    return os.environ.get("PATH", "") + os.pathsep + "/usr/sbin"


def _environment(name: str, *packages: str) -> str:
    """Return the Python of an environment of its own with `packages`, which is made once."""
    home = ROOT / ".peers" / name
    python, made = home / "bin" / "python", home / "packages"
    wanted = "\n".join(packages)
    if not made.exists() or made.read_text() != wanted:
        say(f"installing {wanted}, once")
        subprocess.run([str(ROOT / "scripts" / "environment"), sys.executable, str(home)], check=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
        subprocess.run(command, check=True, stdout=sys.stderr)
        made.write_text(wanted)
    return str(python)
