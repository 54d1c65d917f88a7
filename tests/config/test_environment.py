import pytest

from penstock.client import AsyncClient
from penstock.config.caches import ExactCacheSettings
from penstock.config.environment import supplied
from penstock.config.settings import PollingSettings, Settings
from penstock.core.errors import ConfigError
from penstock.testing.answers import answer
from penstock.testing.faultd import UpstreamServer, json_reply

SIM = 'models: [{name: "*", targets: [{provider: simulated}]}]\n'


def test_variables_go_into_values_and_are_typed_by_their_field(loading):
    loaded = loading(
        'server: {port: "${PORT}", reload: os.environ/RELOAD, host: "${HOST:-localhost}"}\n'
        'timeout_s: "${TIMEOUT:-90}"\n' + SIM,
        {"PORT": "5000", "RELOAD": "no", "HOST": ""},
    )
    server = loaded.settings.server
    assert (server.port, server.reload, server.host, loaded.settings.timeout_s) == (5000, False, "localhost", 90)
    assert loaded.sources["server.port"] == "penstock.yaml:1"


def test_a_variable_cannot_add_structure(loading):
    evil = "x}, {name: evil, kind: openai-compatible, base_url: 'http://evil'}\nserver: {host: 0.0.0.0}"
    loaded = loading('providers: [{name: a, kind: vllm, query: {v: "${EVIL}"}}]', {"EVIL": evil})
    assert [provider.name for provider in loaded.settings.providers] == ["a"]
    assert loaded.settings.providers[0].query == {"v": evil}


def test_a_variable_is_not_expanded_again(loading):
    loaded = loading('providers: [{name: a, kind: vllm, query: {v: "${A}"}}]', {"A": "${B}", "B": "secret"})
    assert loaded.settings.providers[0].query == {"v": "${B}"}


def test_dollars_can_be_written_literally(loading):
    loaded = loading('providers: [{name: a, kind: vllm, query: {v: "$${A} $5 ${A}"}}]', {"A": "x"})
    assert loaded.settings.providers[0].query == {"v": "${A} $5 x"}


@pytest.mark.parametrize("value", ["${NOPE}", "os.environ/NOPE", "x-${NOPE}"])
def test_an_unset_variable_is_an_error_with_its_place(loading, value):
    with pytest.raises(ConfigError) as caught:
        loading(f'server:\n  host: "{value}"\n' + SIM, {"NOPE": ""})
    error = caught.value
    assert (error.file, error.line, error.key) == ("penstock.yaml", 2, "server.host")
    assert "NOPE is not set" in error.message


def test_an_unset_number_is_one_problem_not_two(loading):
    with pytest.raises(ConfigError) as caught:
        loading('timeout_s: "${NOPE}"\n' + SIM)
    assert caught.value.problems == ()


@pytest.mark.parametrize("value", ["${a b}", "${", "${A:x}", "${1A}"])
def test_a_broken_reference_is_an_error(loading, value):
    with pytest.raises(ConfigError, match="begins no variable"):
        loading(f'server: {{host: "{value}"}}\n' + SIM)


def test_keys_lose_the_line_end_of_the_file_they_came_from(loading):
    loaded = loading('providers: [{name: a, kind: vllm, api_key: "${KEY}"}]', {"KEY": "sk-1\n"})
    assert loaded.settings.providers[0].api_key.get_secret_value() == "sk-1"


def test_lists_and_sections_are_given_as_yaml_or_json(loading):
    loaded = loading(
        SIM,
        {
            "PENSTOCK_SERVER__KEYS": '[{"key": "k1", "tenant": "a"}]',
            "PENSTOCK_CACHE": "{coalesce: false, exact: {ttl_s: 5}}",
            "PENSTOCK_CACHE__EXACT__TTL_S": "6",
        },
    )
    assert loaded.settings.server.keys[0].tenant == "a"
    assert loaded.settings.cache.coalesce is False
    assert loaded.settings.cache.exact.ttl_s == 6
    assert loaded.sources["server.keys[0].tenant"] == "environment PENSTOCK_SERVER__KEYS"


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("PENSTOCK_SERVER__PORT", "http", "server.port: got a string (from environment PENSTOCK_SERVER__PORT)"),
        ("PENSTOCK_SERVER__KEYS", "[{", "not usable as YAML or JSON"),
        ("PENSTOCK_SERVER__KEYS", "{a: 1, a: 2}", "twice"),
        ("AI_OPTIMIZATION_LEVEL", "MAXIMUM", "from environment AI_OPTIMIZATION_LEVEL"),
        ("DATABASE_URL", "sqlite:///", "from environment DATABASE_URL"),
    ],
)
def test_a_bad_variable_is_an_error_that_names_it(loading, name, value, part):
    with pytest.raises(ConfigError) as caught:
        loading(SIM, {name: value})
    assert part in str(caught.value)
    assert name in str(caught.value)
    assert "penstock.yaml" not in str(caught.value).partition("problems")[0]


def test_an_unknown_variable_is_a_warning_with_the_nearest_name(loading):
    loaded = loading(SIM, {"PENSTOCK_SERVR__PORT": "1", "PENSTOCKED": "1", "PENSTOCK_CONFIG": ""})
    assert loaded.warnings == [
        "the environment variable PENSTOCK_SERVR__PORT sets nothing, did you mean PENSTOCK_SERVER__PORT?"
    ]


def test_variables_the_file_refers_to_may_have_any_name(loading):
    loaded = loading('server: {keys: [{key: "${PENSTOCK_MASTER}"}]}\n' + SIM, {"PENSTOCK_MASTER": "k"})
    assert loaded.warnings == []


@pytest.mark.parametrize(
    ("level", "polling", "ttl"),
    [
        ("ULTRA", (3, 10, 2.0), 14400),
        ("high", (2, 8, 1.5), 7200),
        ("Medium", (1, 4, 1.3), 3600),
        ("LOW", (0.5, 2, 1.2), 1800),
    ],
)
@pytest.mark.parametrize("where", ["file", "AI_OPTIMIZATION_LEVEL", "PENSTOCK_LEVEL"])
def test_levels_set_defaults(loading, level, polling, ttl, where):
    loaded = loading(f"level: {level}\n" + SIM) if where == "file" else loading(SIM, {where: level})
    found = loaded.settings.polling
    assert (found.min_s, found.max_s, found.backoff) == polling
    assert loaded.settings.cache.exact.ttl_s == ttl
    assert loaded.sources["polling.min_s"] == f"level {level.lower()}"
    assert loaded.settings.level == level.lower()


def test_the_default_level_says_the_same_as_the_models():
    assert (PollingSettings().min_s, PollingSettings().max_s, PollingSettings().backoff) == (2, 8, 1.5)
    assert ExactCacheSettings().ttl_s == 7200


def test_explicit_settings_override_a_level(loading):
    loaded = loading("polling: {min_s: 1.5}\n" + SIM, {"AI_OPTIMIZATION_LEVEL": "LOW"})
    assert (loaded.settings.polling.min_s, loaded.settings.polling.max_s) == (1.5, 2)


def test_penstocks_own_names_win_over_others(loading):
    loaded = loading(
        SIM,
        {
            "AI_OPTIMIZATION_LEVEL": "LOW",
            "PENSTOCK_LEVEL": "ultra",
            "DATABASE_URL": "sqlite:///a.db",
            "PENSTOCK_STORE__URL": "memory:",
        },
    )
    assert (loaded.settings.level, loaded.settings.store.url) == ("ultra", "memory:")


def test_the_admin_key_has_a_short_name_too(loading):
    loaded = loading(SIM, {"PENSTOCK_ADMIN_KEY": "sk-0123456789abcdef\n"})
    assert loaded.settings.server.admin_key.get_secret_value() == "sk-0123456789abcdef"
    assert loaded.sources["server.admin_key"] == "environment PENSTOCK_ADMIN_KEY"
    assert "0123" not in str(loaded.settings.document())
    with pytest.raises(ConfigError, match="admin_key"):
        loading(SIM, {"PENSTOCK_ADMIN_KEY": "short"})


def test_database_url_counts_when_it_is_sqlite(loading):
    loaded = loading(SIM, {"DATABASE_URL": "sqlite:///app.db"})
    assert (loaded.settings.store.url, loaded.sources["store.url"]) == ("sqlite:///app.db", "environment DATABASE_URL")


def test_another_database_url_is_a_warning(loading):
    loaded = loading(SIM, {"DATABASE_URL": "postgresql://u:hunter2@h/d"})
    assert loaded.settings.store.url == "sqlite:///penstock.db"
    assert "DATABASE_URL is not used" in loaded.warnings[0]
    assert "hunter2" not in loaded.warnings[0]
    assert loading("store: {url: 'memory:'}\n" + SIM, {"DATABASE_URL": "postgresql://h/d"}).warnings == []


def provide(environ, kind="openai", **fields):
    made = Settings(providers=[{"name": "p", "kind": kind, **fields}])
    return supplied(made, environ).providers[0]


@pytest.mark.parametrize(
    ("kind", "environ", "given", "expected"),
    [
        ("openai", {}, None, None),
        ("openai", {"PENSTOCK_OPENAI_BASE_URL": "http://127.0.0.1:9/v1/"}, None, "http://127.0.0.1:9/v1"),
        ("openai", {"PENSTOCK_OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}, "http://h/v1", "http://h/v1"),
        ("ollama", {"OLLAMA_HOST": "0.0.0.0:7000"}, None, "http://127.0.0.1:7000"),
        ("ollama", {"OLLAMA_HOST": "0.0.0.0:7000"}, "http://h", "http://h"),
        ("simulated", {"OLLAMA_HOST": "0.0.0.0:7000"}, None, None),
    ],
)
def test_settings_of_a_program_get_the_address_the_environment_has(kind, environ, given, expected):
    assert provide(environ, kind, base_url=given).base_url == expected


@pytest.mark.parametrize(
    ("fields", "value", "expected"),
    [
        ({}, " sk-environment\n", "sk-environment"),
        ({}, " ", None),
        ({"api_key": "sk-settings"}, "sk-environment", "sk-settings"),
        ({"headers": {"Authorization": "Bearer own"}}, "sk-environment", None),
    ],
)
def test_settings_of_a_program_get_the_key_the_environment_has(fields, value, expected):
    key = provide({"OPENAI_API_KEY": value}, **fields).api_key
    assert (key and key.get_secret_value()) == expected


@pytest.mark.parametrize(
    ("kind", "variable", "value"),
    [
        ("ollama", "OLLAMA_HOST", "127.0.0.1:port"),
        ("ollama", "OLLAMA_HOST", "ftp://h"),
        ("openai", "PENSTOCK_OPENAI_BASE_URL", "localhost"),
        ("openai", "PENSTOCK_OPENAI_BASE_URL", "http://"),
        ("openai", "OPENAI_API_KEY", "sk-my secret"),
    ],
)
def test_what_a_program_cannot_use_of_the_environment_is_named(kind, variable, value):
    with pytest.raises(ConfigError, match=variable) as caught:
        provide({variable: value}, kind)
    assert caught.value.key in ("base_url", "api_key")
    assert "secret" not in str(caught.value)


async def test_a_client_made_from_settings_asks_with_the_environments_key(monkeypatch):
    async with UpstreamServer(json_reply(answer("Hi"))) as upstream:
        monkeypatch.setenv("PENSTOCK_OPENAI_BASE_URL", f"{upstream.origin}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-environment")
        models = [{"name": "m", "targets": [{"provider": "p", "model": "gpt"}]}]
        settings = Settings(providers=[{"name": "p", "kind": "openai"}], models=models, store={"url": "memory:"})
        async with AsyncClient(settings) as client:
            await client.chat("Hello", model="m")
    assert upstream.requests[0].headers["authorization"] == "Bearer sk-environment"
