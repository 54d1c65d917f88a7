import pytest

from penstock.config.importing import import_litellm
from penstock.config.loader import load
from penstock.core.errors import ConfigError

LITELLM = """\
model_list:
  - model_name: gpt-4o
    litellm_params:
      model: azure/gpt-4o-eu
      api_base: https://eu.openai.azure.com/
      api_key: "os.environ/AZURE_EU"
      rpm: 6
  - model_name: gpt-4o
    litellm_params: {model: azure/gpt-4o-ca, api_base: "https://ca.openai.azure.com/", api_key: os.environ/AZURE_CA,
                     rpm: 60, temperature: 0.2}
  - {model_name: claude, litellm_params: {model: anthropic/claude-x, api_base: "https://api.anthropic.com/v1"}}
  - {model_name: mini, litellm_params: {model: gpt-4o-mini, timeout: 30}}
  - {model_name: local, litellm_params: {model: ollama_chat/llama3.2, api_base: "http://gpu:11434"}}
  - {model_name: own, litellm_params: {model: openai/thing, api_base: "http://gpu:8001/v1", api_key: "pa${ss"}}
  - {model_name: free, litellm_params: {model: openai/thing, api_base: "http://gpu:8002/v1"}}
  - {model_name: bed, litellm_params: {model: bedrock/thing}}
  - {model_name: "groq/*", litellm_params: {model: "groq/*", api_key: os.environ/GROQ_API_KEY}}
  - {model_name: "*", litellm_params: {model: "openai/*", api_key: os.environ/OPENAI_API_KEY}}
router_settings:
  routing_strategy: simple-shuffle
  num_retries: 2
  timeout: 30
  allowed_fails: 3
  cooldown_time: 60
  model_group_alias: {gpt-4: gpt-4o}
litellm_settings:
  fallbacks: [{gpt-4o: [claude, mini]}]
  context_window_fallbacks: [{mini: [gpt-4o]}]
  content_policy_fallbacks: [{mini: [claude]}]
  cache: true
  cache_params: {type: redis, ttl: 600}
  callbacks: [langfuse]
general_settings: {master_key: os.environ/MASTER_KEY, database_url: "postgresql://h/d"}
"""
ENVIRON = dict.fromkeys(
    ["AZURE_EU", "AZURE_CA", "ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GROQ_API_KEY", "MASTER_KEY"], "sk-x"
)


@pytest.fixture
def imported(written):
    written(LITELLM, "litellm.yaml")
    return import_litellm("litellm.yaml")


@pytest.fixture
def loaded(imported, written):
    return load(written(imported.yaml()), environ=ENVIRON)


def targets(loaded, name):
    model = next(model for model in loaded.settings.models if model.name == name)
    return [(target.provider, target.model, target.weight, target.order) for target in model.targets]


def test_what_is_written_loads_without_warnings(loaded):
    assert loaded.warnings == []


def fallbacks(loaded, name):
    found = next(model for model in loaded.settings.models if model.name == name).fallbacks
    return found and (found.context_window, found.content_policy, found.errors)


def test_rows_of_one_name_become_weighted_targets(loaded):
    assert targets(loaded, "gpt-4o") == [("azure", "gpt-4o-eu", 6, 0), ("azure-2", "gpt-4o-ca", 60, 0)]
    assert next(model for model in loaded.settings.models if model.name == "gpt-4o").strategy == "weighted"
    assert targets(loaded, "gpt-4") == targets(loaded, "gpt-4o")


def test_fallbacks_are_carried_over_by_cause(loaded):
    assert fallbacks(loaded, "gpt-4o") == ([], [], ["claude", "mini"])
    assert fallbacks(loaded, "gpt-4") == fallbacks(loaded, "gpt-4o")
    assert fallbacks(loaded, "mini") == (["gpt-4o"], ["claude"], [])
    assert fallbacks(loaded, "claude") is None


CIRCLES = """\
model_list:
  - {model_name: a, litellm_params: {model: gpt-4o, order: 3}}
  - {model_name: b, litellm_params: {model: gpt-4o-mini}}
  - {model_name: c, litellm_params: {model: o3}}
router_settings:
  fallbacks: [{a: [b, b, a, nobody], b: [c]}, {c: [a]}, {ghost: [a]}]
  content_policy_fallbacks: [{a: [b]}, {b: [a]}]
"""


def test_a_circle_is_broken_by_targets_or_listed(written):
    written(CIRCLES, "litellm.yaml")
    imported = import_litellm("litellm.yaml")
    loaded = load(written(imported.yaml()), environ=ENVIRON)
    assert targets(loaded, "a") == [("openai", "gpt-4o", 1, 3), ("openai", "gpt-4o-mini", 1, 4)]
    assert fallbacks(loaded, "a") is None
    assert fallbacks(loaded, "b") == ([], ["a"], ["c"])
    assert fallbacks(loaded, "c") == ([], [], ["a"])
    assert [(lost.key, lost.reason) for lost in imported.lost if lost.line] == [
        ("router_settings.fallbacks[0].a[3]", "there is no model 'nobody' to fall back to"),
        ("router_settings.fallbacks[2].ghost[0]", "there is no model 'ghost' to fall back from"),
        ("router_settings.content_policy_fallbacks[0].a[0]", "a circle: 'b' falls back to 'a' for the same cause"),
    ]


def test_defaults_are_for_models_without_their_own(written):
    rows = "".join(f"  - {{model_name: {name}, litellm_params: {{model: gpt-4o}}}}\n" for name in "abc")
    written(f"model_list:\n{rows}litellm_settings: {{default_fallbacks: [c], fallbacks: [{{b: [a]}}]}}", "litellm.yaml")
    loaded = load(written(import_litellm("litellm.yaml").yaml()), environ=ENVIRON)
    assert [fallbacks(loaded, name) for name in "abc"] == [([], [], ["c"]), ([], [], ["a"]), None]


def test_providers_have_penstocks_addresses_and_the_same_keys(loaded):
    found = {provider.name: provider for provider in loaded.settings.providers}
    assert found["azure"].base_url == "https://eu.openai.azure.com/openai/v1"
    assert found["anthropic"].base_url == "https://api.anthropic.com"
    assert found["ollama"].base_url == "http://gpu:11434"
    assert (found["openai-2"].kind, found["openai-2"].api_key.get_secret_value()) == ("openai", "pa${ss")
    free = found["openai-compatible"]
    assert (free.base_url, free.api_key) == ("http://gpu:8002/v1", None)
    assert "groq" in found


def test_a_wildcard_passes_names_on(loaded):
    assert targets(loaded, "*") == [("openai", "*", 1, 0)]
    assert not any(model.name == "groq/*" for model in loaded.settings.models)


def test_router_cache_and_key_settings_are_carried_over(loaded):
    settings = loaded.settings
    assert settings.retry.attempts == 3
    assert settings.timeout_s == 30
    assert (settings.breaker.failures, settings.breaker.recovery_s) == (4, 60)
    assert (settings.cache.exact.enabled, settings.cache.exact.ttl_s) == (True, 600)
    assert settings.server.keys[0].key.get_secret_value() == "sk-x"
    assert next(model for model in settings.models if model.name == "mini").targets[0].timeout_s == 30


def test_what_could_not_be_carried_over_is_listed_with_its_line(imported):
    assert [(lost.key, lost.line) for lost in imported.lost] == [
        ("model_list[0].litellm_params.rpm", 7),
        ("model_list[1].litellm_params.rpm", 10),
        ("model_list[1].litellm_params.temperature", 10),
        ("model_list[7]", 16),
        ("litellm_settings.cache_params.type", 31),
        ("litellm_settings.callbacks", 32),
        ("general_settings.database_url", 33),
    ]


def test_no_cache_setting_is_mentioned_since_penstock_caches_anyway(written):
    written("model_list: [{model_name: a, litellm_params: {model: gpt-4o}}]", "litellm.yaml")
    lost = import_litellm("litellm.yaml").lost
    assert [(each.key, each.line) for each in lost] == [("litellm_settings.cache", None)]


@pytest.mark.parametrize("text", ["", "model_list: []", "model_list: [{model_name: a}]", "model_list: 3", "- 1"])
def test_a_file_with_nothing_to_serve_is_refused(written, text):
    written(text, "litellm.yaml")
    with pytest.raises(ConfigError) as caught:
        import_litellm("litellm.yaml")
    assert caught.value.file == "litellm.yaml"


@pytest.mark.parametrize(
    "text",
    [
        "model_list: [{model_name: a, litellm_params: {model: gpt-4o, api_key: 3, timeout: x, weight: [1]}}]",
        "model_list: [{model_name: a, litellm_params: {model: gpt-4o}}]\nrouter_settings: {num_retries: x, timeout: y}",
        "model_list: [{model_name: a, litellm_params: {model: gpt-4o}}]\nlitellm_settings: {fallbacks: 3, cache: 5}",
        "model_list: [{model_name: a, litellm_params: {model: gpt-4o}}]\ngeneral_settings: {master_key: 5}",
        "model_list: [{model_name: a, litellm_params: {model: gpt-4o}}]\nlitellm_settings: {default_fallbacks: [a, b]}",
    ],
)
def test_odd_values_are_left_out_not_fatal(written, text):
    written(text, "litellm.yaml")
    imported = import_litellm("litellm.yaml")
    assert load(written(imported.yaml()), environ=ENVIRON).settings.models[0].name == "a"
    assert len(imported.lost) >= 2
