import pytest

from penstock.config.loader import Loaded, load, load_mapping
from penstock.core.errors import ConfigError

FULL = """\
server: {host: 127.0.0.1, port: 4141}
level: high
providers:
  - {name: openai, kind: openai, api_key: "${OPENAI_API_KEY}"}
  - {name: near, kind: ollama, base_url: "http://127.0.0.1:11434"}
  - {name: sim, kind: simulated, latency: {first_token_s: 0.05, tokens_per_s: 200}}
models:
  - {name: fast, targets: [{provider: near, model: "llama3.2:3b"}, {provider: openai, model: gpt-4o-mini}]}
  - {name: "*", targets: [{provider: sim, model: sim}]}
cache: {exact: {ttl_s: 3600, max_entries: 10000}}
store: {url: "sqlite:///penstock.db"}
"""
MINIMAL = 'models: [{name: "*", targets: [{provider: simulated, model: sim}]}]'


def problems_of(error):
    return [str(each) for each in error.problems or (error,)]


def test_full_example_loads_with_its_key(loading):
    loaded = loading(FULL, {"OPENAI_API_KEY": "sk-test"})
    assert loaded.warnings == []
    fast = loaded.settings.models[0]
    assert [(target.provider, target.model) for target in fast.targets] == [
        ("near", "llama3.2:3b"),
        ("openai", "gpt-4o-mini"),
    ]
    openai = loaded.settings.providers[0]
    assert openai.base_url == "https://api.openai.com/v1"
    assert openai.api_key.get_secret_value() == "sk-test"


def test_full_example_loads_without_its_key_and_skips_the_targets_that_need_it(loading):
    loaded = loading(FULL)
    assert loaded.warnings == [
        "provider openai has no key: OPENAI_API_KEY is not set (penstock.yaml:4); its targets are skipped"
    ]
    assert [target.provider for target in loaded.settings.models[0].targets] == ["near"]
    assert loaded.settings.providers[0].api_key is None


def test_one_line_is_enough(loading):
    loaded = loading(MINIMAL)
    assert [(provider.name, provider.kind) for provider in loaded.settings.providers] == [("simulated", "simulated")]
    assert loaded.settings.models[0].targets[0].provider == "simulated"
    assert loaded.warnings == []


def test_each_value_knows_its_source(loading):
    loaded = loading(
        "level: low\nserver:\n  port: 1\n  drain_s: 9\ncache: {exact: {max_entries: 5}}\n" + MINIMAL,
        {"PENSTOCK_SERVER__DRAIN_S": "7", "PENSTOCK_TIMEOUT_S": "50"},
        arguments={"server.port": 5000, "server.host": None},
    )
    settings, sources = loaded.settings, loaded.sources
    assert (settings.server.port, sources["server.port"]) == (5000, "argument")
    assert (settings.server.drain_s, sources["server.drain_s"]) == (7, "environment PENSTOCK_SERVER__DRAIN_S")
    assert (settings.timeout_s, sources["timeout_s"]) == (50, "environment PENSTOCK_TIMEOUT_S")
    assert (settings.cache.exact.max_entries, sources["cache.exact.max_entries"]) == (5, "penstock.yaml:5")
    assert (settings.cache.exact.ttl_s, sources["cache.exact.ttl_s"]) == (1800, "level low")
    assert (settings.server.host, sources["server.host"]) == ("127.0.0.1", "default")
    assert sources["level"] == "penstock.yaml:1"


def test_every_value_has_a_source(loading):
    loaded = loading(FULL)
    shown = loaded.settings.document()
    assert set(loaded.sources) >= {"server.keys", "providers[1].timeouts.connect_s", "models[1].targets[0].weight"}
    assert shown["server"]["port"] == 4141


def test_all_problems_are_named_with_file_line_key_and_what_was_expected(loading):
    with pytest.raises(ConfigError) as caught:
        loading(
            "server: {port: 99999, prot: 1}\n"
            "tmeout_s: 3\n"
            "providers:\n"
            "  - {name: near, kind: olama}\n"
            "  - {name: near, kind: simulated}\n"
            "models:\n"
            "  - {name: a, targets: [{provider: naer, model: 3}]}\n"
            "  - {name: a, strategy: wieghted, targets: []}\n"
            "cache: {exact: {enabled: 1, ttl_s: true}}\n"
            "store: {url: 'postgresql://u:hunter2@h/d'}\n"
            "polling: {min_s: 9, max_s: 3}\n"
        )
    found = problems_of(caught.value)
    for part in [
        "penstock.yaml:1: server.port: got 99999 (expected at most 65535)",
        "penstock.yaml:1: server: unknown key 'prot', did you mean 'port'?",
        "penstock.yaml:2: unknown key 'tmeout_s', did you mean 'timeout_s'?",
        "penstock.yaml:4: providers[0].kind: unknown kind 'olama', did you mean 'ollama'?",
        "penstock.yaml:5: providers[1].name: there is another provider named 'near' (penstock.yaml:4)",
        "penstock.yaml:7: models[0].targets[0].provider: there is no provider named 'naer', did you mean 'near'?",
        "penstock.yaml:7: models[0].targets[0].model: not a string (expected a string; put it in quotes)",
        "penstock.yaml:8: models[1].name: there is another model named 'a' (penstock.yaml:7)",
        "penstock.yaml:8: models[1].strategy: got 'wieghted', did you mean 'weighted'? "
        "(expected ordered, weighted, balanced)",
        "penstock.yaml:8: models[1].targets: got a list (expected at least one entry)",
        "penstock.yaml:9: cache.exact.enabled: not usable (expected true or false)",
        "penstock.yaml:9: cache.exact.ttl_s: not usable (expected a number)",
        "penstock.yaml:11: polling: not usable (expected min_s (9.0) at most max_s (3.0))",
    ]:
        assert part in found
    assert any(
        each.startswith("penstock.yaml:10: store.url: ") and "sqlite:///FILE or memory:" in each for each in found
    )
    assert len(found) == 14
    assert "hunter2" not in str(caught.value)
    assert all(part in str(caught.value) for part in found)


def test_a_single_problem_is_one_line_with_structure(loading):
    with pytest.raises(ConfigError) as caught:
        loading("server:\n  port: abc\n")
    error = caught.value
    assert (error.file, error.line, error.key, error.expected) == (
        "penstock.yaml", 2, "server.port", "a whole number",
    )  # fmt: skip
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("providers: [{name: x, kind: azure}]", "kind azure has no address of its own"),
        ("providers: [{name: x, kind: openai, base_url: 'ftp://h'}]", "https://host/v1"),
        ("providers: [{name: x, kind: openai, base_url: 'http://u:p@h/v1'}]", "without credentials"),
        ("providers: [{name: x, kind: openai, base_url: 'http://h:0/v1'}]", "port"),
        ("providers: [{name: x, kind: vllm, latency: {jitter: 0.5}}]", "does not apply to kind vllm"),
        ("providers: [{name: x, kind: simulated, base_url: 'http://h'}]", "does not apply to kind simulated"),
        ('providers: [{name: x, kind: vllm, headers: {X-A: "b\\r\\nEvil: 1"}}]', "control characters"),
        ("providers: [{name: 'a/b', kind: vllm}]", "letters, digits"),
        ("providers: [{name: x, kind: vllm, api_key: 'a b'}]", "without spaces"),
        ("server: {keys: [{key: a}, {key: a}]}", "each key once"),
        ("server: {keys: [{key: ''}]}", "server.keys[0].key"),
        ("level: extreme", "ultra, high, medium, low"),
        ("polling: {min_s: .inf}", "polling.min_s"),
        ("store: {url: 'sqlite:///'}", "sqlite:///FILE"),
        ("- a\n- b", "not a mapping"),
        ("server: 3", "a mapping"),
        ("models: [{name: m, targets: [{provider: azure}]}]", "kind azure has no address"),
    ],
)
def test_bad_values_are_refused_with_the_reason(loading, text, part):
    with pytest.raises(ConfigError) as caught:
        loading(text)
    assert part in str(caught.value)
    assert "penstock.yaml:1" in str(caught.value)


def test_secrets_stay_out_of_errors_and_documents(loading):
    text = (
        "server: {keys: [{key: CANARY-1}]}\nproviders:\n"
        "  - {name: x, kind: vllm, api_key: CANARY-2, headers: {Authorization: CANARY-3, X-Shown: yes}, "
        "query: {sig: CANARY-4}, proxy: 'http://u:CANARY-5@proxy:1'}\n"
    )
    loaded = loading(text)
    assert "CANARY" not in str(loaded.settings.document())
    assert "CANARY-1" not in repr(loaded)
    assert loaded.settings.document()["providers"][0]["headers"]["X-Shown"] == "yes"
    with pytest.raises(ConfigError) as caught:
        loading(text + "oops: 1\n" + "timeout_s: CANARY-6\n" + "breaker: {failures: CANARY-7}")
    assert "CANARY" not in str(caught.value)


def test_a_model_without_any_usable_target_is_an_error(loading):
    with pytest.raises(ConfigError) as caught:
        loading("models:\n- name: smart\n  targets: [{provider: openai, model: gpt-4o}]\n")
    assert str(caught.value) == (
        "penstock.yaml:2: models[0]: model 'smart' has no usable target (openai: OPENAI_API_KEY is not set)"
    )


def test_providers_without_a_key_and_no_models_are_an_error(loading):
    with pytest.raises(ConfigError, match="no provider is usable"):
        loading("providers: [{name: a, kind: openai}, {name: b, kind: anthropic}]")


def test_the_path_comes_from_the_argument_else_the_environment_else_the_working_directory(written):
    written("server: {port: 1}\n" + MINIMAL)
    two = written("server: {port: 2}\n" + MINIMAL, "two.yaml")
    three = written("server: {port: 3}\n" + MINIMAL, "three.yaml")
    environ = {"PENSTOCK_CONFIG": str(two)}
    assert load(environ={}).settings.server.port == 1
    assert load(environ=environ).settings.server.port == 2
    loaded = load(three, environ=environ)
    assert (loaded.settings.server.port, loaded.path) == (3, str(three))


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_a_file_that_cannot_be_read_is_named(written, name):
    with pytest.raises(ConfigError) as caught:
        load(name, environ={})
    assert caught.value.file == name


def test_mappings_are_as_strict_and_interpolated(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    loaded = load_mapping(
        {"server": {"port": "${PORT}"}, "models": [{"name": "*", "targets": [{"provider": "simulated"}]}]},
        environ={"PORT": "5001"},
    )
    assert isinstance(loaded, Loaded)
    assert loaded.settings.server.port == 5001
    assert loaded.sources["server.port"] == "mapping"
    assert loaded.path is None
    with pytest.raises(ConfigError) as caught:
        load_mapping({"servr": {}, "models": [{"name": "*", "targets": [{"provider": "simulated"}]}]}, environ={})
    assert str(caught.value) == "unknown key 'servr', did you mean 'server'?"


def test_an_empty_file_is_the_same_as_none(loading):
    loaded = loading("# nothing yet\n")
    assert [provider.kind for provider in loaded.settings.providers] == ["simulated"]
    assert "simulated" in loaded.warnings[0]


def test_settings_loaded_from_their_own_dump_are_the_same(loading):
    settings = loading(FULL, {"OPENAI_API_KEY": "k"}).settings
    dump = settings.model_dump()
    dump["providers"][0]["api_key"] = "k"
    again = load_mapping(dump, environ={}).settings
    assert again == settings
