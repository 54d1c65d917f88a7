"""Which class answers for which kind of provider."""

from __future__ import annotations

import os
from collections.abc import Callable

from penstock.abc import Provider, Transport
from penstock.config import ollama
from penstock.config.kinds import KINDS, Dialect, Kind
from penstock.config.settings import ProviderSettings
from penstock.core.clock import Clock
from penstock.core.errors import ConfigError
from penstock.providers.anthropic import AnthropicProvider
from penstock.providers.ollama import OllamaProvider
from penstock.providers.openai import OpenAIProvider
from penstock.providers.simulated import SimulatedProvider
from penstock.providers.transport import open_transport
from penstock.providers.transport.origin import parse_origin

Make = Callable[[ProviderSettings, Kind, Transport, str | None], Provider]

DIALECTS: dict[Dialect, Make] = {
    "openai": OpenAIProvider,
    "anthropic": AnthropicProvider,
    "ollama": OllamaProvider,
}
"""The dialects that are spoken over a network."""


def build(settings: ProviderSettings, *, clock: Clock) -> Provider:
    """Make the provider `settings` describe; no connection is opened yet.

    The key is the settings' or the kind's environment variable's. The address is the settings', the kind's environment
    variable's, or the kind's.

    Raises:
        ConfigError: The kind is unknown, or the address is missing or unusable.
    """
    kind = KINDS.get(settings.kind)
    if kind is None:
        raise ConfigError(
            f"provider {settings.name} is of an unknown kind: {settings.kind}", key="kind", expected=", ".join(KINDS)
        )
    if kind.dialect == "simulated":
        return SimulatedProvider(settings, clock)
    base_url = _base_url(settings, kind)
    if base_url is None:
        raise ConfigError(
            f"provider {settings.name} of kind {kind.name} has no address",
            key="base_url",
            expected="the URL of its API, e.g. http://127.0.0.1:8000/v1",
        )
    settings = settings.model_copy(update={"base_url": base_url})
    return DIALECTS[kind.dialect](settings, kind, open_transport(base_url, settings), _key(settings, kind))


def _key(settings: ProviderSettings, kind: Kind) -> str | None:
    if settings.api_key is not None:
        return settings.api_key.get_secret_value() or None
    return os.environ.get(kind.key_env) or None if kind.key_env else None


def _base_url(settings: ProviderSettings, kind: Kind) -> str | None:
    value = os.environ.get(kind.url_env) if kind.url_env else None
    if settings.base_url or not value:
        return settings.base_url or kind.base_url
    try:
        url = ollama.base_url(value) if kind.dialect == "ollama" else value
        parse_origin(url)
    except (ValueError, ConfigError) as error:
        raise ConfigError(
            f"the environment variable {kind.url_env}, which provider {settings.name} uses, is not a usable address: "
            f"{error}",
            key="base_url",
        ) from None
    return url
