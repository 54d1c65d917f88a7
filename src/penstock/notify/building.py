"""From settings to sinks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from penstock.config.alerting import SinkSettings
from penstock.core.clock import Clock
from penstock.core.errors import ConfigError
from penstock.notify.log import LogSink
from penstock.notify.message import Sink
from penstock.notify.webhook import Webhook


def build_sinks(settings: Sequence[SinkSettings], clock: Clock) -> Mapping[str, Sink]:
    """Return the configured sinks by name.

    Raises:
        ConfigError: One cannot be used; says which.
    """
    return {each.name: _build(each, clock) for each in settings}


def _build(settings: SinkSettings, clock: Clock) -> Sink:
    try:
        if settings.kind == "webhook":
            secret = None if settings.secret is None else settings.secret.get_secret_value()
            return Webhook(settings.name, settings.url or "", clock, secret=secret, private=settings.allow_private,
                           ca_file=settings.ca_file)  # fmt: skip
        if settings.kind == "mail":
            from penstock.notify.mail import Mail  # noqa: PLC0415 - smtplib is for those who send mail

            password = None if settings.password is None else settings.password.get_secret_value()
            login = None if settings.user is None or password is None else (settings.user, password)
            return Mail(settings.name, settings.host or "", settings.sender or "", settings.recipients,
                        port=settings.port, security=settings.security, login=login,
                        ca_file=settings.ca_file)  # fmt: skip
        return LogSink(settings.name)
    except (ConfigError, OSError) as error:
        raise ConfigError(f"sink {settings.name}: {error}", key="sinks") from error
