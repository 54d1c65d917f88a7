"""Webhooks, signed as Standard Webhooks says: https://github.com/standard-webhooks/standard-webhooks, version 1.0.0.

webhook-id: the message's id, the same when it is sent again
webhook-timestamp: seconds since the epoch, of this try
webhook-signature: v1,base64(HMAC-SHA256(secret, "{id}.{timestamp}.{body}"))
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import http.client
import socket
import ssl
from datetime import UTC, datetime

import msgspec

from penstock.core.clock import Clock
from penstock.core.errors import ConfigError, DeliveryFailed
from penstock.notify.addresses import Place, parse, resolve
from penstock.notify.message import Message

TIMEOUT_S = 15.0
_PREFIX = "whsec_"
_SECRET_BYTES = range(24, 65)
_GONE = 410
_MOST_READ = 64 * 1024

_encode = msgspec.json.Encoder().encode


class Webhook:
    """A `penstock.notify.message.Sink` that posts JSON to a URL.

    Attributes:
        name: Its name in the configuration.
    """

    def __init__(
        self, name: str, url: str, clock: Clock, *, secret: str | None = None, private: bool = False,
        ca_file: str | None = None,
    ) -> None:  # fmt: skip
        """Nothing is sent yet.

        Args:
            name: Its name in the configuration.
            url: Where to post.
            clock: Says when now is.
            secret: ``whsec_`` and 24 to 64 bytes in base64; without it messages are not signed.
            private: The URL may lead to addresses that are not on the public Internet.
            ca_file: Certificates to trust instead of the system's.

        Raises:
            ConfigError: The URL or the secret cannot be used.
        """
        self.name = name
        self._place = parse(url)
        self._clock = clock
        self._secret = None if secret is None else read_secret(secret)
        self._private = private
        self._context = ssl.create_default_context(cafile=ca_file) if self._place.secure else None

    async def send(self, message: Message) -> None:
        """Post `message` once; any status from 200 to 299 means that it arrived.

        Raises:
            DeliveryFailed: It did not; for good if the receiver says so (410) or the address is not allowed.
        """
        body = _encode({
            "type": message.type,
            "timestamp": datetime.fromtimestamp(message.at, UTC).isoformat().replace("+00:00", "Z"),
            "data": {"subject": message.subject, "text": message.text, **message.data},
        })  # fmt: skip
        headers = self._headers(message, body)
        try:
            status = await asyncio.to_thread(self._post, headers, body)
        except ConfigError as error:
            raise DeliveryFailed(f"webhook {self.name}: {error.message}", permanent=True) from error
        except (OSError, http.client.HTTPException) as error:
            raise DeliveryFailed(f"webhook {self.name} cannot be reached: {error or type(error).__name__}") from error
        if not 200 <= status < 300:
            raise DeliveryFailed(f"webhook {self.name} answered {status}", permanent=status == _GONE)

    def _headers(self, message: Message, body: bytes) -> dict[str, str]:
        stamp = str(int(self._clock.wall()))
        headers = {"content-type": "application/json", "user-agent": "penstock", "connection": "close",
                   "webhook-id": message.id, "webhook-timestamp": stamp}  # fmt: skip
        if self._secret is not None:
            headers["webhook-signature"] = sign(self._secret, message.id, stamp, body)
        return headers

    def _post(self, headers: dict[str, str], body: bytes) -> int:
        """Post in a thread; returns the status. Redirects are answers like any other."""
        connection = _Connection(self._place, resolve(self._place, private=self._private), self._context)
        try:
            connection.request("POST", self._place.target, body=body, headers=headers)
            answer = connection.getresponse()
            answer.read(_MOST_READ)
            return answer.status
        finally:
            connection.close()


class _Connection(http.client.HTTPConnection):
    """A connection to an address that was checked, in the name of the host."""

    def __init__(self, place: Place, address: str, context: ssl.SSLContext | None) -> None:
        super().__init__(place.host, place.port, timeout=TIMEOUT_S)
        self.default_port = 443 if place.secure else 80  # decides whether the port is named in Host
        self._address = address
        self._context = context

    def connect(self) -> None:
        """Connect, and speak TLS with the host's name if wanted."""
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._context is not None:
            self.sock = self._context.wrap_socket(self.sock, server_hostname=self.host)


def sign(secret: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    """Return the value of ``webhook-signature``."""
    digest = hmac.digest(secret, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    return f"v1,{base64.b64encode(digest).decode()}"


def read_secret(text: str) -> bytes:
    """Return a secret's bytes.

    Raises:
        ConfigError: It is not ``whsec_`` and 24 to 64 bytes in base64. The message does not repeat it.
    """
    try:
        secret = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if not text.startswith(_PREFIX) or len(secret) not in _SECRET_BYTES:
        raise ConfigError("a webhook's secret is whsec_ and 24 to 64 bytes in base64", key="secret")
    return secret
