"""What sections of the configuration have in common: strictness, and the forms of values."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from penstock.core.route import TEMPLATE_VARIABLES

Seconds = Annotated[float, Field(gt=0)]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
SECRET_NAME = re.compile(r"auth|cookie|key|passw|secret|sig|token", re.IGNORECASE)
_PLACE = re.compile(r"\{(\w+)\}")


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or not value.isascii() or not value.isprintable():
        raise ValueError("expected a URL such as https://host/v1")
    if parts.username is not None or parts.query or parts.fragment or " " in value:
        raise ValueError("expected a URL without credentials, query or fragment; use api_key, headers and query")
    if parts.netloc.endswith(":") or parts.port == 0:  # reading `port` also raises for one that is no number
        raise ValueError("expected a port between 1 and 65535")
    return value.rstrip("/")


def _key(value: SecretStr) -> SecretStr:
    """Keys travel in a header; the line end that `$(cat file)` and editors leave is not part of one."""
    text = value.get_secret_value().strip()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("expected a key of ASCII characters without spaces or line ends")
    return SecretStr(text)


def _proxy_url(value: str) -> str:
    parts = urlsplit(value)
    if value != "none" and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise ValueError("expected a URL such as http://host:3128, or none")
    return value


def terms(value: object) -> object:
    """``true`` takes the defaults of a section that is off without it."""
    return {} if value is True else None if value is False else value


def or_boolean(schema: dict[str, Any]) -> None:
    """Say in the schema what `terms` allows."""
    schema["anyOf"].append({"type": "boolean"})


def _store_url(value: str) -> str:
    if value != "memory:" and not (value.startswith("sqlite:///") and len(value) > len("sqlite:///")):
        raise ValueError("expected sqlite:///FILE or memory:, the only stores this version supports")
    return value


def _header_fields(value: dict[str, str]) -> dict[str, str]:
    """Names and values as RFC 9110 section 5 has them, so that none can end a header and begin another."""
    for name, text in value.items():
        if not _TOKEN.fullmatch(name) or not _FIELD_VALUE.fullmatch(text):
            raise ValueError(f"expected HTTP header names and values without control characters, not {name!r}")
    return value


def _template(value: str) -> str:
    unknown = set(_PLACE.findall(value)).difference(TEMPLATE_VARIABLES)
    if unknown:
        raise ValueError(f"expected in braces one of {', '.join(TEMPLATE_VARIABLES)}, not {', '.join(sorted(unknown))}")
    return value


Level = Annotated[Literal["ultra", "high", "medium", "low"], BeforeValidator(_lower)]
Usd = Annotated[Decimal, Field(ge=0)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
Key = Annotated[SecretStr, AfterValidator(_key)]
ProxyUrl = Annotated[str, AfterValidator(_proxy_url)]
StoreUrl = Annotated[str, AfterValidator(_store_url)]
HeaderFields = Annotated[dict[str, str], AfterValidator(_header_fields)]
Template = Annotated[str, AfterValidator(_template)]


class Section(BaseModel):
    """A part of the configuration: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)

    @field_validator("*", mode="before")
    @classmethod
    def _keep_types_apart(cls, value: object, info: ValidationInfo) -> object:
        """Refuse ``port: true`` and ``reload: 1``, which would be coerced: 1 is not true."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        kinds = {annotation, *get_args(annotation)}
        if isinstance(value, bool) and bool not in kinds and kinds & {int, float, Decimal, Usd}:
            raise ValueError("expected a number")
        if isinstance(value, (int, float)) and not isinstance(value, bool) and bool in kinds:
            raise ValueError("expected true or false")
        return value
