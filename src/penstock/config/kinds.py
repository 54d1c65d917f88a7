"""The providers Penstock knows by name. One that is only configuration is a row here, not code."""

from __future__ import annotations

from typing import Literal, NamedTuple

Dialect = Literal["openai", "anthropic", "ollama", "simulated"]

CREDENTIALS = frozenset({"authorization", "api-key", "x-api-key"})
"""Headers that carry a key, or stand in for one."""


class Kind(NamedTuple):
    """A kind of provider.

    Attributes:
        name: What `kind:` says in the configuration.
        dialect: The wire dialect, which picks the implementation.
        base_url: Default address; None means that the configuration must give one.
        key_env: Environment variable that holds the key; None when none is needed.
        models: Patterns of model names the provider is asked for when Penstock configures itself.
        url_env: Environment variable that overrides `base_url`.
    """

    name: str
    dialect: Dialect
    base_url: str | None
    key_env: str | None
    models: tuple[str, ...] = ()
    url_env: str | None = None


ROWS: tuple[Kind, ...] = (
    Kind("openai", "openai", "https://api.openai.com/v1", "OPENAI_API_KEY",
         ("gpt-*", "o1*", "o3*", "o4*", "chatgpt-*", "text-embedding-*"), "PENSTOCK_OPENAI_BASE_URL"),
    Kind("anthropic", "anthropic", "https://api.anthropic.com", "ANTHROPIC_API_KEY", ("claude-*",)),
    Kind("ollama", "ollama", "http://127.0.0.1:11434", None, (), "OLLAMA_HOST"),
    Kind("simulated", "simulated", None, None),
    Kind("azure", "openai", None, "AZURE_OPENAI_API_KEY"),
    Kind("vllm", "openai", "http://127.0.0.1:8000/v1", None),
    Kind("llamacpp", "openai", "http://127.0.0.1:8080/v1", None),
    Kind("lmstudio", "openai", "http://127.0.0.1:1234/v1", None),
    Kind("openai-compatible", "openai", None, None),
    Kind("gemini", "openai", "https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY",
         ("gemini-*",)),
    Kind("mistral", "openai", "https://api.mistral.ai/v1", "MISTRAL_API_KEY",
         ("mistral-*", "codestral-*", "ministral-*")),
    Kind("groq", "openai", "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    Kind("deepseek", "openai", "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY", ("deepseek-*",)),
    Kind("openrouter", "openai", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    Kind("together", "openai", "https://api.together.xyz/v1", "TOGETHER_API_KEY"),
    Kind("fireworks", "openai", "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    Kind("cerebras", "openai", "https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
    Kind("xai", "openai", "https://api.x.ai/v1", "XAI_API_KEY", ("grok-*",)),
    Kind("perplexity", "openai", "https://api.perplexity.ai", "PERPLEXITY_API_KEY", ("sonar*",)),
)  # fmt: skip

KINDS: dict[str, Kind] = {row.name: row for row in ROWS}
