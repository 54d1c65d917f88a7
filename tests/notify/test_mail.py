import email
import email.policy
import socket
import ssl

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from penstock.config.alerting import SinkSettings
from penstock.core.clock import SystemClock
from penstock.core.errors import ConfigError, DeliveryFailed
from penstock.notify.building import build_sinks
from penstock.notify.mail import Mail
from penstock.notify.message import Attachment, Message

MESSAGE = Message(
    "msg_1", "report.daily", 1_700_000_000.0, "Wie war’s?\r\nBcc: evil@example.com", "Gut.\n.\nEnde",
    html="<p>Gut.</p>", attachments=(Attachment("usage.csv", "text/csv; charset=utf-8", "a,b\r\n1,ü\r\n"),),
)  # fmt: skip
SECRET = "canary-password-1"


class Mailbox:
    def __init__(self, answers=()):
        self.mails, self.answers = [], dict(answers)

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802 - aiosmtpd's name
        answer = self.answers.get(address, "250 OK")
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server, session, envelope):  # noqa: N802 - aiosmtpd's name
        if "DATA" in self.answers:
            return self.answers["DATA"]
        self.mails.append((envelope, session))
        return "250 taken"


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def serve(authority, tmp_path):
    running = []

    def start(box, *, starttls=False, tls=False, login=False):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        more = {"tls_context": context, "require_starttls": True} if starttls else {}
        if login:
            more |= {"authenticator": check, "auth_required": True, "auth_require_tls": starttls}
        running.append(Controller(box, "127.0.0.1", port, ssl_context=context if tls else None, **more))
        running[-1].start()
        return port

    def check(server, session, envelope, mechanism, data):
        good = isinstance(data, LoginPassword) and data.password == SECRET.encode()
        return AuthResult(success=good, handled=good)

    yield start
    for controller in running:
        controller.stop()


@pytest.fixture
def ca_file(authority, tmp_path):
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


def mail(port, **more):
    return Mail("ops", "127.0.0.1", "Penstock <penstock@example.com>", ["a@example.com", "b@example.com"],
                **{"port": port, "security": "none", **more})  # fmt: skip


async def test_a_message_arrives_whole(serve):
    box = Mailbox()
    await mail(serve(box)).send(MESSAGE)
    ((envelope, _),) = box.mails
    assert (envelope.mail_from, envelope.rcpt_tos) == ("penstock@example.com", ["a@example.com", "b@example.com"])
    found = email.message_from_bytes(envelope.content.replace(b"\r\n", b"\n"), policy=email.policy.default)
    assert found["Subject"] == "Wie war’s?Bcc: evil@example.com"
    assert (found["Bcc"], found["Message-ID"]) == (None, "<msg_1@example.com>")
    assert found["Date"].datetime.timestamp() == 1_700_000_000
    assert found.get_body(("plain",)).get_content() == "Gut.\n.\nEnde\n"
    assert found.get_body(("html",)).get_content() == "<p>Gut.</p>\n"
    (file,) = found.iter_attachments()
    assert (file.get_filename(), file.get_content()) == ("usage.csv", "a,b\r\n1,ü\r\n")


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_over_tls_with_a_password(serve, ca_file, security):
    box = Mailbox()
    port = serve(box, **{security: True}, login=security == "starttls")
    login = ("user", SECRET) if security == "starttls" else None
    sink = mail(port, security=security, ca_file=ca_file, login=login)
    await sink.send(MESSAGE)
    assert len(box.mails) == 1


async def test_an_unknown_certificate_or_a_server_without_tls_gets_nothing(serve):
    box = Mailbox()
    for port, security in (
        (serve(box, starttls=True), "starttls"),
        (serve(box, tls=True), "tls"),
        (serve(box), "starttls"),
    ):
        with pytest.raises(DeliveryFailed) as caught:
            await mail(port, security=security, login=("user", SECRET)).send(MESSAGE)
        assert caught.value.permanent
    assert box.mails == []


async def test_a_wrong_password_is_told_and_not_shown(serve, ca_file):
    sink = mail(serve(Mailbox(), starttls=True, login=True), security="starttls", ca_file=ca_file,
                login=("user", "canary-wrong"))  # fmt: skip
    with pytest.raises(DeliveryFailed, match="535") as caught:
        await sink.send(MESSAGE)
    assert caught.value.permanent
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("answers", "permanent", "said"),
    [
        ({"a@example.com": "550 nobody", "b@example.com": "550 nobody"}, True, "a@example.com: nobody"),
        ({"a@example.com": "450 later", "b@example.com": "550 nobody"}, False, "later"),
        ({"DATA": "554 spam"}, True, "554: spam"),
        ({"DATA": "451 busy"}, False, "451: busy"),
    ],
)
async def test_refusals_say_whether_later_may_help(serve, answers, permanent, said):
    with pytest.raises(DeliveryFailed, match=said) as caught:
        await mail(serve(Mailbox(answers))).send(MESSAGE)
    assert caught.value.permanent is permanent


async def test_some_recipients_are_enough(serve, caplog):
    box = Mailbox({"b@example.com": "550 nobody"})
    await mail(serve(box)).send(MESSAGE)
    assert len(box.mails) == 1
    assert "not for b@example.com" in caplog.text


async def test_nobody_there_is_worth_another_try():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(DeliveryFailed) as caught:
        await mail(port).send(MESSAGE)
    assert not caught.value.permanent


def test_sinks_are_built_from_settings():
    fields = {"name": "ops", "kind": "mail", "host": "h", "sender": "a@b.example", "recipients": ["c@d.example"]}
    assert isinstance(build_sinks([SinkSettings(**fields)], SystemClock())["ops"], Mail)
    with pytest.raises(ConfigError, match="sink ops: 'nobody' is no mail address"):
        build_sinks([SinkSettings(**{**fields, "recipients": ["nobody"]})], SystemClock())
