"""Asking a running gateway, for commands that are about what it has in memory."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import click

from penstock.cli.reaching import NoRedirects
from penstock.core.errors import ConfigError, PenstockError

F = TypeVar("F", bound=Callable[..., Any])
URL, KEY = "http://127.0.0.1:4141", "PENSTOCK_ADMIN_KEY"
_TIMEOUT_S = 900.0
"""Longest wait for the next piece of an answer: as long as a model may take for one of many questions."""
_HERE = ("127.0.0.1", "localhost", "::1")
_MOST_BYTES = 64 * 1024 * 1024


class Running:
    """A gateway that runs.

    Args:
        url: Its address, such as ``http://127.0.0.1:4141``.
        key_env: The environment variable that has a key.

    Raises:
        ConfigError: `url` is none.
    """

    def __init__(self, url: str, key_env: str) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self._key_env = key_env
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"--url {url!r} is no address of a gateway", expected=f"such as {URL}")
        # Proxies are for what is elsewhere; the environment seldom says so.
        proxies: dict[str, str] | None = {} if parts.hostname in _HERE else None
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies), NoRedirects())

    def get(self, path: str, **query: object) -> Any:  # noqa: ANN401 JSON
        """Return what is at `path`, decoded; a parameter that is None is left out.

        Raises:
            PenstockError: There is no gateway, or it refuses.
        """
        with self._open(path, query, None) as reply:
            return _decode(reply.read(_MOST_BYTES))

    def post(self, path: str, body: Mapping[str, object] | bytes = b"", **query: object) -> Any:  # noqa: ANN401 JSON
        """Send `body` to `path`, as JSON or as it is, and return the answer decoded.

        Raises:
            PenstockError: There is no gateway, or it refuses.
        """
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        with self._open(path, query, data) as reply:
            return _decode(reply.read(_MOST_BYTES))

    def lines(self, path: str, body: bytes | None = None, **query: object) -> Iterator[bytes]:
        """Yield the lines of an answer as they come; `body` makes it a POST.

        Raises:
            PenstockError: There is no gateway, or it refuses, or fails on the way.
        """
        with self._open(path, query, body) as reply:
            for line in reply:
                if line.startswith(b'{"error":'):
                    raise _refused(line, f"The gateway at {self.url} failed")
                yield line

    @contextmanager
    def _open(self, path: str, query: Mapping[str, object], body: bytes | None) -> Iterator[HTTPResponse]:
        given = urlencode({name: value for name, value in query.items() if value is not None})
        headers = {"user-agent": "penstock", "content-type": "application/json"}
        key = os.environ.get(self._key_env)
        if key:
            headers["authorization"] = f"Bearer {key}"
        request = urllib.request.Request(f"{self.url}{path}{'?' if given else ''}{given}", body, headers)
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as reply:
                yield reply
        except urllib.error.HTTPError as error:
            with error:
                raise self._denied(error) from error
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise PenstockError(
                f"no gateway answers at {self.url} ({getattr(reason, 'strerror', None) or reason}): start one with "
                "`penstock serve`, or say with --url where it runs"
            ) from error

    def _denied(self, error: urllib.error.HTTPError) -> PenstockError:
        said = _refused(error.read(_MOST_BYTES), f"{self.url} answered {error.code}; is it a Penstock gateway?")
        if error.code == 401:
            return PenstockError(f"{said.message} Put a key in the environment as {self._key_env}.", code=said.code)
        return said


def _refused(body: bytes, otherwise: str) -> PenstockError:
    try:
        error = json.loads(body)["error"]
        return PenstockError(str(error["message"]), code=str(error["code"]))
    except (ValueError, KeyError, TypeError):
        return PenstockError(otherwise)


def _decode(body: bytes) -> Any:  # noqa: ANN401 JSON
    try:
        return json.loads(body)
    except ValueError as error:
        raise PenstockError("The answer is not JSON; is it a Penstock gateway?") from error


def running_options(command: F) -> F:
    """Give a command the options that say which gateway, as the parameter `gateway`."""
    for option in (
        click.option("--url", "gateway", default=URL, envvar="PENSTOCK_URL", show_default=True, callback=_gateway,
                     help="Where the gateway runs; also PENSTOCK_URL."),
        click.option("--key-env", default=KEY, show_default=True, metavar="NAME", is_eager=True, expose_value=False,
                     callback=_key_env, help="The environment variable that has the key."),
    ):  # fmt: skip
        command = option(command)
    return command


def _key_env(context: click.Context, _param: click.Parameter, value: str) -> None:
    """Eager, so that it is there when the gateway is made."""
    context.meta[__name__] = value


def _gateway(context: click.Context, _param: click.Parameter, value: str) -> Running:
    return Running(value, context.meta[__name__])
