"""penstock doctor: find out what stands in the way, and how to mend it."""

from __future__ import annotations

import errno
import http.client
import importlib.util
import ipaddress
import os
import platform
import shutil
import socket
import sqlite3
import sys
from contextlib import closing
from email.utils import parsedate_to_datetime
from typing import Literal, NamedTuple

import click

from penstock.cli.output import config_option, emit, json_option
from penstock.cli.reaching import TIMEOUT_S, Reached, reach_all
from penstock.config.kinds import CREDENTIALS, KINDS
from penstock.config.loader import Loaded, load
from penstock.config.providers import ProviderSettings
from penstock.config.settings import ServerSettings, Settings
from penstock.core.clock import SystemClock
from penstock.core.errors import ConfigError
from penstock.server.supervisor import check as check_several

MIN_FREE_BYTES, COMFORTABLE_BYTES = 100 * 1024**2, 1024**3
MAX_SKEW_S = 60.0
RELEASED_AT = 1767225600.0
"""2026-01-01; a clock before it is wrong, and certificates seem not to be valid yet."""


class Finding(NamedTuple):
    """What one check found.

    Attributes:
        check: What was looked at.
        status: Whether it is as it should be; `warn` does not keep Penstock from working.
        detail: What was seen.
        mend: What to do, if anything.
    """

    check: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    mend: str = ""


@click.command()
@config_option
@json_option
def doctor(config: str | None, as_json: bool) -> None:
    """Find out what stands in the way, and how to mend it.

    Providers are asked for their models, which costs nothing. Exit codes: 0 nothing failed, 1 something did.
    """
    findings = [check_python(), *check_accelerators()]
    try:
        loaded = load(config)
    except ConfigError as error:
        findings += [
            Finding("configuration", "fail", str(each), "change it; `penstock config check` looks again")
            for each in error.problems or (error,)
        ]
    else:
        findings += check_all(loaded)
    emit([finding._asdict() for finding in findings], as_json, ("status", "check", "detail", "mend"))
    if any(finding.status == "fail" for finding in findings):
        raise click.exceptions.Exit(1)


def check_all(loaded: Loaded) -> list[Finding]:
    """Check what the configuration names."""
    settings = loaded.settings
    found = [Finding("configuration", "ok", loaded.path or "from the environment, there is no file")]
    found += [Finding("configuration", "warn", warning) for warning in loaded.warnings]
    found += [check_address(settings.server), *check_workers(loaded), *check_store(settings.store.url)]
    usable = [provider for provider in settings.providers if not _lacks_key(provider)]
    reached = reach_all(usable)
    for provider in settings.providers:
        if provider not in usable:
            mend = f"set {KINDS[provider.kind].key_env} or its api_key"
            found.append(Finding(f"provider {provider.name}", "warn", "it has no key", mend))
        else:
            found.append(check_provider(provider, reached.get(provider.name), _wanted(settings, provider.name)))
    return [*found, check_clock(list(reached.values()), SystemClock().wall())]


def check_python() -> Finding:
    """Which Python this is; one that is too old does not get here."""
    version = platform.python_version()
    if sys.version_info.releaselevel != "final":
        return Finding("python", "warn", version, "use a released version of Python")
    return Finding("python", "ok", version)


def check_accelerators() -> list[Finding]:
    """Whether the event loop and the HTTP parser that Penstock is fast with are there."""
    found = []
    for name in ("uvloop", "httptools"):
        if importlib.util.find_spec(name) is not None:
            found.append(Finding(name, "ok", "installed"))
        elif name == "uvloop" and sys.platform == "win32":
            found.append(Finding(name, "ok", "not made for Windows"))
        else:
            found.append(Finding(name, "warn", "not installed, so requests take longer", f"pip install {name}"))
    return found


def check_workers(loaded: Loaded) -> list[Finding]:
    """Whether there can be as many workers as are wanted; nothing for one."""
    workers = loaded.settings.server.workers
    if workers == 1:
        return []
    try:
        check_several(loaded)
    except ConfigError as error:
        return [Finding("workers", "fail", str(error), f"{error.key}: {error.expected}")]
    cores = len(os.sched_getaffinity(0))
    if workers > cores:
        return [Finding("workers", "warn", f"{workers} on {cores} cores", f"server.workers: {cores}")]
    return [Finding("workers", "ok", f"{workers} on {cores} cores")]


def check_address(server: ServerSettings) -> Finding:
    """Whether the gateway could listen where it is told to."""
    name, shown = "address", f"{server.host}:{server.port}"
    if not server.keys and server.admin_key is None and not _is_loopback(server.host):
        mend = "set PENSTOCK_ADMIN_KEY or server.keys, or server.host: 127.0.0.1"
        return Finding(name, "fail", f"{shown} can be reached from elsewhere and there are no keys", mend)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            server.host, server.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            if os.name == "posix":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            if _is_gateway(server):
                return Finding(name, "ok", f"a gateway is running on {shown}")
            return Finding(name, "fail", f"{shown} is in use", "stop what uses it, or set server.port (--port)")
        if error.errno == errno.EACCES:
            return Finding(name, "fail", f"{shown} needs privileges", "set server.port (--port) to 1024 or more")
        seen = f"{shown}: {error.strerror or error}"
        return Finding(name, "fail", seen, "set server.host to an address this machine has")
    return Finding(name, "ok", f"{shown} is free")


def check_store(url: str) -> list[Finding]:
    """Whether the store can be written, and how much room it has."""
    if url == "memory:":
        return [Finding("store", "warn", "memory: nothing is kept", "set store.url: sqlite:///penstock.db")]
    path = os.path.abspath(url.removeprefix("sqlite:///"))
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        return [Finding("store", "fail", f"there is no directory {folder}", f"mkdir -p {folder}")]
    if not os.access(folder, os.W_OK | os.X_OK):
        return [Finding("store", "fail", f"{folder} cannot be written", "change its permissions, or store.url")]
    return [_check_database(path), _check_disk(folder)]


def check_provider(provider: ProviderSettings, reached: Reached | None, wanted: list[str]) -> Finding:
    """Judge what came of asking `provider`; `wanted` are its models the configuration names."""
    name = f"provider {provider.name}"
    if reached is None:
        return Finding(name, "ok", "simulated: its answers are made up")
    if reached.status is None:
        mend = "start it, or check base_url, proxy and ca_file"
        return Finding(name, "fail", f"{provider.base_url} does not answer: {reached.error}", mend)
    if reached.status in (401, 403):
        return Finding(name, "fail", f"{provider.base_url} refuses the key ({reached.status})", "check its api_key")
    if reached.status >= 500:
        return Finding(name, "warn", f"{provider.base_url} answers {reached.status}", "see whether it has trouble")
    missing = [model for model in wanted if reached.models is not None and not _offers(reached.models, model)]
    if missing:
        pull = f"ollama pull {missing[0]}" if provider.kind == "ollama" else "check the targets' model names"
        return Finding(name, "warn", f"{provider.base_url} does not list {', '.join(missing)}", pull)
    return Finding(name, "ok", f"{provider.base_url} answers")


def check_clock(reached: list[Reached], now: float) -> Finding:
    """Compare the clock with what servers say the time is; `now` is in seconds since the epoch."""
    mend = "set the clock, or let NTP do it"
    if now < RELEASED_AT:
        return Finding("clock", "fail", "it is before this version was made", mend)
    for each in reached:
        try:
            skew = now - parsedate_to_datetime(each.date).timestamp() if each.date else 0.0
        except ValueError:
            continue
        if abs(skew) > MAX_SKEW_S:
            return Finding("clock", "warn", f"it is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}", mend)
    return Finding("clock", "ok", "plausible")


def _lacks_key(provider: ProviderSettings) -> bool:
    row = KINDS[provider.kind]
    credentials = provider.api_key or CREDENTIALS.intersection(map(str.lower, provider.headers))
    return not credentials and row.key_env is not None


def _wanted(settings: Settings, provider: str) -> list[str]:
    targets = [target for model in settings.models for target in model.targets]
    named = [t.model for t in targets if t.provider == provider and t.model != "*"]
    stages = [stage.model for model in settings.models if model.cascade for stage in model.cascade.stages]
    addressed = [name.partition("/")[2] for name in stages if name and name.partition("/")[0] == provider]
    configured = {model.name for model in settings.models}
    return list(dict.fromkeys([*named, *(each for each in addressed if f"{provider}/{each}" not in configured)]))


def _offers(models: frozenset[str], model: str) -> bool:
    return bool(models & {model, f"{model}:latest", f"models/{model}"})


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_gateway(server: ServerSettings) -> bool:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _check_database(path: str) -> Finding:
    if not os.path.exists(path):
        return Finding("store", "ok", f"{path} can be made")
    try:
        with closing(sqlite3.connect(path, timeout=1, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("ROLLBACK")
    except sqlite3.Error as error:
        if "locked" in str(error):
            return Finding("store", "warn", f"{path} is locked", "another process is writing; look again")
        return Finding("store", "fail", f"{path}: {error}", "move it away, or change its permissions or store.url")
    return Finding("store", "ok", f"{path} can be written")


def _check_disk(folder: str) -> Finding:
    free = shutil.disk_usage(folder).free
    detail = f"{free / 1024**3:.1f} GiB free in {folder}"
    if free < MIN_FREE_BYTES:
        return Finding("disk", "fail", detail, "free some space, or change store.url")
    if free < COMFORTABLE_BYTES:
        return Finding("disk", "warn", detail, "free some space soon")
    return Finding("disk", "ok", detail)
