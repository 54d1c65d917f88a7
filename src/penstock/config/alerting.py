"""Settings of what is told to whom: sinks, alerts."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from penstock.config.section import Seconds, Section

_NEEDS = {"webhook": ("url",), "mail": ("host", "sender", "recipients"), "log": ()}
_LONGEST_WINDOW_S = 3600


class SinkSettings(Section):
    """Where alerts and reports go."""

    name: str = Field(min_length=1, description="What `alerts` and `reports` call it.")
    kind: Literal["webhook", "mail", "log"] = Field(
        description="`webhook` posts JSON to a URL, `mail` sends mail, `log` writes a line of the log."
    )
    url: str | None = Field(None, description="Webhook: where to post.")
    secret: SecretStr | None = Field(
        None, description="Webhook: `whsec_` and 24 to 64 bytes in base64, to sign with (Standard Webhooks)."
    )
    allow_private: bool = Field(
        False, description="Webhook: the URL may lead to addresses that are not on the public Internet."
    )
    ca_file: str | None = Field(None, description="PEM file of certificates to trust instead of the system's.")
    host: str | None = Field(None, description="Mail: the SMTP server.")
    port: int = Field(587, ge=1, le=65535, description="Mail: its port.")
    security: Literal["starttls", "tls", "none"] = Field("starttls", description="Mail: how to speak to it.")
    user: str | None = Field(None, description="Mail: whom to log in as; by default nobody.")
    password: SecretStr | None = Field(None, description="Mail: with which password.")
    sender: str | None = Field(None, description="Mail: the address it comes from.")
    recipients: list[str] = Field([], description="Mail: the addresses it goes to.")

    @model_validator(mode="after")
    def _says_where_to(self) -> Self:
        missing = [name for name in _NEEDS[self.kind] if not getattr(self, name)]
        if missing:
            raise ValueError(f"expected {' and '.join(missing)} for a sink of kind {self.kind}")
        if (self.user is None) != (self.password is None):
            raise ValueError("expected both user and password, or neither")
        return self


class AlertRuleSettings(Section):
    """When to raise an alert: while `metric` `operator` `threshold` holds."""

    name: str = Field(min_length=1, description="Unique; that of a built-in rule replaces it.")
    metric: str = Field(min_length=1, description="What is looked at, such as `error_rate`; see the guide to alerts.")
    operator: Literal["gt", "ge", "lt", "le"] = Field("gt", description="Above, at least, below, at most.")
    threshold: float = Field(description="What it is compared with.")
    window_s: float = Field(300.0, gt=0, le=_LONGEST_WINDOW_S, description="What the metric is taken over.")
    for_s: float = Field(0.0, ge=0, description="How long it must hold, and not hold for the alert to be over.")
    severity: Literal["info", "warning", "critical"] = Field("warning", description="How bad it is.")
    repeat_s: float = Field(14_400.0, ge=0, description="How often what goes on is told again; 0 for never.")
    sinks: list[str] | None = Field(None, description="Who is told; by default `alerts.sinks`.")
    actions: list[Literal["collect_garbage", "tighten_level", "serve_stale"]] = Field(
        [],
        description="What is done while it lasts: free memory, take the next stronger `level`, or answer from stale "
        "entries of the cache when providers fail.",
    )


class AlertSettings(Section):
    """What is watched, and who is told."""

    built_in: bool = Field(True, description="Rules for memory, latency, errors, processor, descriptors and more.")
    sinks: list[str] = Field([], description="Who is told; alerts are in the log in any case.")
    rules: list[AlertRuleSettings] = Field([], description="Rules of your own.")
    interval_s: Seconds = Field(5.0, description="How often is looked.")
    memory_bytes: int | None = Field(
        None, gt=0, description="What the process may use; by default what its control group or the machine has."
    )
