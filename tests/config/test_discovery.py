import http.server
import threading

import pytest

from penstock.config import ollama
from penstock.config.loader import discover, load
from penstock.core.errors import ConfigError


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def routes(loaded):
    return {
        model.name: [f"{target.provider}/{target.model}" for target in model.targets]
        for model in loaded.settings.models
    }


def test_nothing_found_is_simulated_and_says_so():
    loaded = discover({}, probe=False)
    assert routes(loaded) == {"*": ["sim/sim"]}
    assert loaded.settings.providers[0].kind == "simulated"
    assert "simulated" in loaded.warnings[0]
    assert "OPENAI_API_KEY" in loaded.warnings[0]


def test_keys_in_the_environment_are_providers():
    loaded = discover({"ANTHROPIC_API_KEY": "a", "OPENAI_API_KEY": "o", "GROQ_API_KEY": " "}, probe=False)
    assert [provider.name for provider in loaded.settings.providers] == ["openai", "anthropic"]
    found = routes(loaded)
    assert found["gpt-*"] == ["openai/*"]
    assert found["claude-*"] == ["anthropic/*"]
    assert found["*"] == ["openai/*"]
    assert loaded.warnings == []
    assert loaded.settings.providers[1].api_key.get_secret_value() == "a"
    assert loaded.sources["providers[1].api_key"] == "environment ANTHROPIC_API_KEY"
    assert loaded.sources["providers[0].name"] == "found: OPENAI_API_KEY"


def test_the_first_provider_answers_everything_else():
    loaded = discover({"MISTRAL_API_KEY": "m", "OLLAMA_HOST": "gpu"}, probe=False)
    assert routes(loaded)["*"] == ["ollama/*"]
    assert loaded.settings.providers[0].base_url == "http://gpu:11434"
    assert loaded.sources["providers[0].base_url"] == "environment OLLAMA_HOST"


def test_an_address_in_the_environment_is_used_with_the_key():
    loaded = discover({"PENSTOCK_OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "OPENAI_API_KEY": "k"}, probe=False)
    openai = loaded.settings.providers[0]
    assert (openai.base_url, openai.api_key.get_secret_value()) == ("http://127.0.0.1:9/v1", "k")
    assert loaded.warnings == []
    assert loaded.sources["providers[0].base_url"] == "environment PENSTOCK_OPENAI_BASE_URL"


def test_a_running_ollama_is_found(monkeypatch):
    monkeypatch.setattr(ollama, "answers", lambda: True)
    loaded = discover({})
    assert routes(loaded) == {"*": ["ollama/*"]}
    assert loaded.settings.providers[0].base_url == "http://127.0.0.1:11434"


def test_a_vendors_key_that_goes_elsewhere_is_mentioned_unless_the_file_says_so(loading):
    environ = {"OPENAI_API_KEY": "sk-x"}
    loaded = loading("providers: [{name: mine, kind: openai, base_url: 'http://other:1/v1'}]", environ)
    assert loaded.settings.providers[0].api_key.get_secret_value() == "sk-x"
    assert "provider mine sends OPENAI_API_KEY to an address that is not the vendor's" in loaded.warnings[0]
    said = "providers: [{name: mine, kind: openai, base_url: 'http://other:1/v1', api_key: '${OPENAI_API_KEY}'}]"
    assert loading(said, environ).warnings == []
    assert (
        loading("providers: [{name: mine, kind: openai, base_url: 'https://api.openai.com/v1/'}]", environ).warnings
        == []
    )


def test_a_provider_that_brings_its_own_credentials_needs_no_key(loading):
    loaded = loading("providers: [{name: a, kind: openai, headers: {Authorization: Bearer x}}]")
    assert routes(loaded)["*"] == ["a/*"]
    assert loaded.warnings == []


def test_providers_without_models_answer_what_they_are_known_for(loading):
    loaded = loading("providers: [{name: near, kind: ollama}, {name: a, kind: anthropic, api_key: k}]")
    assert routes(loaded) == {"claude-*": ["a/*"], "*": ["near/*"]}


def test_a_target_may_name_a_kind_but_not_beside_a_provider_of_it(loading):
    loaded = loading("models: [{name: m, targets: [{provider: openai}, {provider: ollama}]}]", {"OPENAI_API_KEY": "k"})
    assert [provider.name for provider in loaded.settings.providers] == ["openai", "ollama"]
    with pytest.raises(ConfigError, match="no provider named 'openai', did you mean 'openai-eu'"):
        loading(
            "providers: [{name: openai-eu, kind: openai, api_key: k}]\n"
            "models: [{name: m, targets: [{provider: openai}]}]"
        )


def test_without_a_file_load_discovers():
    loaded = load(environ={"OPENAI_API_KEY": "o"}, probe=False, arguments={"server.port": 0})
    assert (loaded.path, loaded.settings.server.port) == (None, 0)
    assert [provider.name for provider in loaded.settings.providers] == ["openai"]


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080"),
        (":5000", "http://127.0.0.1:5000"),
        ("gpu.example", "http://gpu.example:11434"),
        ("http://gpu.example", "http://gpu.example:80"),
        ("https://gpu.example", "https://gpu.example:443"),
        ("https://gpu.example:1/ollama/", "https://gpu.example:1/ollama"),
        (' "gpu:1" ', "http://gpu:1"),
        ("::1", "http://[::1]:11434"),
        ("[::1]:7", "http://[::1]:7"),
        ("http://[::]:7", "http://[::1]:7"),
    ],
)
def test_ollama_host_is_read_as_ollama_does(host, url):
    assert ollama.base_url(host) == url


def test_a_bad_ollama_host_is_an_error_that_names_it():
    with pytest.raises(ConfigError, match="OLLAMA_HOST"):
        discover({"OLLAMA_HOST": "gpu:port"}, probe=False)


class _Replies(http.server.BaseHTTPRequestHandler):
    body = b""

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *args):
        pass


@pytest.mark.parametrize(("body", "expected"), [(b'{"version": "0.5.1"}', True), (b"<html>", False), (b"3", False)])
def test_only_ollama_counts_as_ollama(body, expected):
    handler = type("Handler", (_Replies,), {"body": body})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        assert ollama.answers("127.0.0.1", server.server_address[1], timeout_s=5) is expected


def test_nobody_listening_is_no_ollama():
    with http.server.HTTPServer(("127.0.0.1", 0), _Replies) as server:
        port = server.server_address[1]
    assert ollama.answers("127.0.0.1", port) is False
