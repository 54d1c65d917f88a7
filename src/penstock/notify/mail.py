"""Messages as mail (RFC 5322), handed to an SMTP server."""

from __future__ import annotations

import asyncio
import logging
import smtplib
import ssl
from collections.abc import Sequence
from email.message import EmailMessage
from email.utils import formatdate, parseaddr
from typing import Literal

from penstock.core.errors import ConfigError, DeliveryFailed
from penstock.notify.message import Message

TIMEOUT_S = 30.0
_PERMANENT = range(500, 600)
_log = logging.getLogger("penstock.notify")

Security = Literal["starttls", "tls", "none"]


class Mail:
    """A `penstock.notify.message.Sink` that sends mail.

    Attributes:
        name: Its name in the configuration.
    """

    def __init__(
        self, name: str, host: str, sender: str, recipients: Sequence[str], *, port: int = 587,
        security: Security = "starttls", login: tuple[str, str] | None = None, ca_file: str | None = None,
    ) -> None:  # fmt: skip
        """Nothing is sent yet.

        Args:
            name: Its name in the configuration.
            host: The SMTP server.
            sender: The address it comes from; a name may stand before it: ``Penstock <penstock@example.com>``.
            recipients: The addresses it goes to.
            port: The server's port.
            security: ``starttls`` speaks in the clear until the server agrees to TLS, and then says who it is;
                ``tls`` speaks TLS from the start; ``none`` is for a server on this machine.
            login: User and password; None to send without.
            ca_file: Certificates to trust instead of the system's.

        Raises:
            ConfigError: An address is none.
            OSError: The certificates cannot be read.
        """
        for address in (sender, *recipients):
            if "@" not in parseaddr(address)[1] or not address.isprintable():
                raise ConfigError(f"{address!r} is no mail address", expected="name@example.com")
        self.name = name
        self._host, self._port, self._security = host, port, security
        self._sender, self._recipients = sender, list(recipients)
        self._login = login
        self._tls = None if security == "none" else ssl.create_default_context(cafile=ca_file)

    async def send(self, message: Message) -> None:
        """Hand `message` to the server, trying once.

        Raises:
            DeliveryFailed: It was not taken; for good when the server will not take it later either.
        """
        await asyncio.to_thread(self._send, self._mail(message))

    def _mail(self, message: Message) -> EmailMessage:
        mail = EmailMessage()
        mail["Subject"] = "".join(char for char in message.subject if char.isprintable())
        mail["From"] = self._sender
        mail["To"] = ", ".join(self._recipients)
        mail["Date"] = formatdate(message.at)
        mail["Message-ID"] = f"<{message.id}@{parseaddr(self._sender)[1].rpartition('@')[2]}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(message.text)
        if message.html:
            mail.add_alternative(message.html, subtype="html")
        for each in message.attachments:
            kind, _, subtype = each.media_type.partition(";")[0].partition("/")
            charset = {"charset": "utf-8"} if kind == "text" else {}
            content = each.content.encode()
            mail.add_attachment(content, maintype=kind, subtype=subtype, filename=each.name, params=charset)
        return mail

    def _send(self, mail: EmailMessage) -> None:
        where = f"{self._host}:{self._port}"
        try:
            with self._connect() as server:
                if self._login is not None:
                    server.login(*self._login)
                refused = server.send_message(mail)
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            said = "; ".join(f"{address}: {_text(why)}" for address, (_, why) in error.recipients.items())
            raise DeliveryFailed(
                f"{where} takes no mail for {said}", permanent=all(code in _PERMANENT for code in codes)
            ) from error
        except smtplib.SMTPResponseException as error:
            raise DeliveryFailed(
                f"{where} answered {error.smtp_code}: {_text(error.smtp_error)}",
                permanent=error.smtp_code in _PERMANENT,
            ) from error
        except smtplib.SMTPNotSupportedError as error:
            raise DeliveryFailed(f"{where}: {error}", permanent=True) from error
        except ssl.SSLCertVerificationError as error:
            raise DeliveryFailed(f"{where}: {error.verify_message}", permanent=True) from error
        except (smtplib.SMTPException, OSError) as error:
            raise DeliveryFailed(f"{where}: {error}") from error
        if refused:  # the others have it, so it must not be sent again
            _log.error("%s took the mail, but not for %s", where, ", ".join(refused))

    def _connect(self) -> smtplib.SMTP:
        if self._security == "tls":
            return smtplib.SMTP_SSL(self._host, self._port, timeout=TIMEOUT_S, context=self._tls)
        server = smtplib.SMTP(self._host, self._port, timeout=TIMEOUT_S)
        if self._tls is not None:
            try:
                server.starttls(context=self._tls)
            except BaseException:
                server.close()
                raise
        return server


def _text(answer: bytes | str) -> str:
    text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
    return " ".join(text.split())[:200]
