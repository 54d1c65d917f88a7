import pytest

from penstock.config.kinds import KINDS
from penstock.config.settings import ProviderSettings
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


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for kind in KINDS.values():
        for name in (kind.key_env, kind.url_env):
            if name:
                monkeypatch.delenv(name, raising=False)


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


async def test_where_the_address_comes_from(opened, monkeypatch):
    build("openai")
    monkeypatch.setenv("PENSTOCK_OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    build("openai")
    build("openai", base_url="http://127.0.0.1:8/v1")
    monkeypatch.setenv("OLLAMA_HOST", "0.0.0.0:7000")
    build("ollama")
    build("ollama", base_url="http://127.0.0.1:7001")
    assert opened == [
        "https://api.openai.com/v1",
        "http://127.0.0.1:9/v1",
        "http://127.0.0.1:8/v1",
        "http://127.0.0.1:7000",
        "http://127.0.0.1:7001",
    ]


@pytest.mark.parametrize(
    ("kind", "value"),
    [("ollama", "127.0.0.1:port"), ("ollama", "ftp://h"), ("openai", "localhost"), ("openai", "http://")],
)
def test_an_unusable_variable_is_refused_by_name(kind, value, monkeypatch):
    variable = KINDS[kind].url_env
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=variable) as caught:
        build(kind)
    assert caught.value.key == "base_url"


@pytest.mark.parametrize("where", ["settings", "environment", "nowhere", "empty"])
async def test_where_the_key_comes_from(where, monkeypatch):
    settings = {"api_key": "sk-settings"} if where == "settings" else {}
    if where in ("environment", "empty"):
        monkeypatch.setenv("OPENAI_API_KEY", "sk-environment" if where == "environment" else "")
    provider = build("openai", base_url="http://127.0.0.1:1/v1", proxy="none", **settings)
    with pytest.raises(ProviderError) as caught:
        await provider.send(Request("chat", "m", {"messages": []}, Call("c")), Target("p", "m"))
    has_key = where in ("settings", "environment")
    assert caught.value.code == ("upstream_connect" if has_key else "upstream_auth")
    await provider.aclose()
