import pytest

from penstock.config.kinds import KINDS
from penstock.config.providers import ProviderSettings
from penstock.core.call import Call
from penstock.core.clock import SystemClock
from penstock.core.errors import ConfigError, ProviderError
from penstock.core.request import Request
from penstock.core.route import Target
from penstock.providers import registry
from penstock.providers.anthropic import AnthropicProvider
from penstock.providers.ollama import OllamaProvider
from penstock.providers.openai import OpenAIProvider
from penstock.providers.simulated import SimulatedProvider

CLASSES = {
    "openai": OpenAIProvider,
    "anthropic": AnthropicProvider,
    "ollama": OllamaProvider,
    "simulated": SimulatedProvider,
}


def build(kind, **settings):
    return registry.build(ProviderSettings(name="p", kind=kind, **settings), clock=SystemClock())


@pytest.fixture
def opened(monkeypatch):
    """The base URLs transports were opened for."""
    urls = []
    real = registry.open_transport

    def record(base_url, settings):
        urls.append(base_url)
        return real(base_url, settings)

    monkeypatch.setattr(registry, "open_transport", record)
    return urls


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_can_be_built(kind):
    row = KINDS[kind]
    needs_url = row.base_url is None and row.dialect != "simulated"
    provider = build(kind, **({"base_url": "http://127.0.0.1:1/v1"} if needs_url else {}))
    assert type(provider) is CLASSES[row.dialect]
    assert provider.name == "p"
    await provider.aclose()


@pytest.mark.parametrize("kind", ["openai-compatible", "azure"])
def test_an_address_that_must_be_given_is_asked_for(kind):
    with pytest.raises(ConfigError) as caught:
        build(kind)
    assert caught.value.key == "base_url"
    assert kind in str(caught.value)


def test_an_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="openai-compatible") as caught:
        build("openay")
    assert caught.value.key == "kind"


async def test_where_the_address_comes_from(opened):
    build("openai")
    build("openai", base_url="http://127.0.0.1:8/v1")
    assert opened == ["https://api.openai.com/v1", "http://127.0.0.1:8/v1"]


@pytest.mark.parametrize("key", [None, "", "sk-settings"])
async def test_the_environment_is_not_asked_for_a_key(key, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-environment")
    provider = build("openai", base_url="http://127.0.0.1:1/v1", proxy="none", api_key=key)
    with pytest.raises(ProviderError) as caught:
        await provider.send(Request("chat", "m", {"messages": []}, Call("c")), Target("p", "m"))
    assert caught.value.code == ("upstream_connect" if key else "upstream_auth")
    await provider.aclose()
