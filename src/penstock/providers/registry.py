"""Which class answers for which kind of provider."""

from __future__ import annotations

from collections.abc import Callable

from penstock.abc import Provider, Transport
from penstock.config.kinds import KINDS, Dialect, Kind
from penstock.config.providers import ProviderSettings
from penstock.core.clock import Clock
from penstock.core.errors import ConfigError
from penstock.providers.anthropic import AnthropicProvider
from penstock.providers.ollama import OllamaProvider
from penstock.providers.openai import OpenAIProvider
from penstock.providers.simulated import SimulatedProvider
from penstock.providers.transport import open_transport

Make = Callable[[ProviderSettings, Kind, Transport, str | None], Provider]

DIALECTS: dict[Dialect, Make] = {
    "openai": OpenAIProvider,
    "anthropic": AnthropicProvider,
    "ollama": OllamaProvider,
}
"""The dialects that are spoken over a network."""


def build(settings: ProviderSettings, *, clock: Clock) -> Provider:
    """Make the provider `settings` describe; no connection is opened yet.

    What the environment has for it is in `settings` already: `penstock.config` puts it there.

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
    base_url = settings.base_url or kind.base_url
    if base_url is None:
        raise ConfigError(
            f"provider {settings.name} of kind {kind.name} has no address",
            key="base_url",
            expected="the URL of its API, e.g. http://127.0.0.1:8000/v1",
        )
    key = settings.api_key.get_secret_value() if settings.api_key is not None else None
    return DIALECTS[kind.dialect](settings, kind, open_transport(base_url, settings), key)
