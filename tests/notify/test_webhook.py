import asyncio
import base64
import hmac
import json
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import trustme

from penstock.core.errors import ConfigError, DeliveryFailed
from penstock.notify.message import Message
from penstock.notify.webhook import Webhook
from penstock.testing import FakeClock

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
MESSAGE = Message("msg_1", "alert.firing", 1_700_000_000.0, "slow", "It is slow.", {"rule": "slow", "value": 7.5})


@pytest.fixture
def receiver():
    """A real server that remembers what it was sent and answers as told."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            server.heard.append((self.path, dict(self.headers.items()), body))
            status, headers = server.answers.pop(0) if server.answers else (200, {})
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.heard, server.answers = [], []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def hook(server, path="/hook?x=1", scheme="http", host="127.0.0.1", **options):
    url = f"{scheme}://{host}:{server.server_port}{path}"
    return Webhook("ops", url, FakeClock(), **{"private": True, **options})


async def test_what_arrives_is_signed_and_says_what_happened(receiver):
    clock = FakeClock()
    await hook(receiver, secret=SECRET).send(MESSAGE)
    ((path, headers, body),) = receiver.heard
    assert path == "/hook?x=1"
    assert headers["Host"] == f"127.0.0.1:{receiver.server_port}"
    assert headers["webhook-id"] == "msg_1"
    assert headers["webhook-timestamp"] == str(int(clock.wall()))
    signed = f"msg_1.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.new(bytes(range(32)), signed, "sha256").digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()
    assert json.loads(body) == {
        "type": "alert.firing",
        "timestamp": "2023-11-14T22:13:20Z",
        "data": {"subject": "slow", "text": "It is slow.", "rule": "slow", "value": 7.5},
    }


async def test_without_a_secret_nothing_is_signed(receiver):
    await hook(receiver).send(MESSAGE)
    assert "webhook-signature" not in receiver.heard[0][1]


@pytest.mark.parametrize(("status", "permanent"), [(500, False), (404, False), (410, True)])
async def test_a_status_that_is_no_success_is_a_failure(receiver, status, permanent):
    receiver.answers = [(status, {})]
    with pytest.raises(DeliveryFailed, match=f"webhook ops answered {status}") as caught:
        await hook(receiver).send(MESSAGE)
    assert caught.value.permanent is permanent


async def test_a_redirect_is_not_followed(receiver):
    receiver.answers = [(302, {"location": "/elsewhere"})]
    with pytest.raises(DeliveryFailed, match="answered 302"):
        await hook(receiver).send(MESSAGE)
    assert len(receiver.heard) == 1


async def test_nobody_listening_is_worth_another_try(receiver):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(DeliveryFailed, match="cannot be reached") as caught:
        await Webhook("ops", f"http://127.0.0.1:{port}/", FakeClock(), private=True).send(MESSAGE)
    assert not caught.value.permanent


async def test_private_addresses_are_refused_unless_they_are_allowed(receiver):
    with pytest.raises(DeliveryFailed, match=r"127\.0\.0\.1, which is not on the public Internet") as caught:
        await hook(receiver, private=False).send(MESSAGE)
    assert caught.value.permanent
    assert receiver.heard == []


async def test_a_name_that_changes_its_address_is_connected_to_at_the_checked_one(receiver, monkeypatch):
    """The resolver says something public first and the receiver's address from then on."""
    real, asked = socket.getaddrinfo, []

    def rebinding(host, port, *rest, **options):
        if host != "rebinding.example":
            return real(host, port, *rest, **options)
        asked.append(host)
        address = "192.0.9.1" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    connected = []

    def connect(address, *rest, **options):
        connected.append(address[0])
        raise OSError("unreachable")

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(DeliveryFailed, match="unreachable"):
        await hook(receiver, host="rebinding.example", private=False).send(MESSAGE)
    assert connected == ["192.0.9.1"]


async def test_tls_is_checked_against_the_name(receiver, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    receiver.socket = context.wrap_socket(receiver.socket, server_side=True)
    ca_file = str(tmp_path / "ca.pem")
    await hook(receiver, scheme="https", host="localhost", ca_file=ca_file).send(MESSAGE)
    assert len(receiver.heard) == 1
    with pytest.raises(DeliveryFailed, match="CERTIFICATE_VERIFY_FAILED"):
        await hook(receiver, scheme="https", ca_file=ca_file).send(MESSAGE)
    with pytest.raises(DeliveryFailed, match="CERTIFICATE_VERIFY_FAILED"):
        await hook(receiver, scheme="https", host="localhost").send(MESSAGE)


async def test_the_loop_goes_on_while_a_receiver_takes_its_time():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        sending = asyncio.create_task(Webhook("ops", url, FakeClock(), private=True).send(MESSAGE))
        accepted = await asyncio.to_thread(silent.accept)
        assert not sending.done()
        accepted[0].sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        await sending
        accepted[0].close()


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_!!!", "hunter2", SECRET.removeprefix("whsec_"), "whsec_c2hvcnQ="]
)
def test_a_secret_of_another_form_is_refused_and_not_repeated(secret):
    with pytest.raises(ConfigError, match="24 to 64 bytes in base64") as caught:
        Webhook("ops", "https://example.org/", FakeClock(), secret=secret)
    assert secret in ("", "whsec_") or secret not in str(caught.value)
