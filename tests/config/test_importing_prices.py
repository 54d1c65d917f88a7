from decimal import Decimal

from penstock.config.importing import import_litellm
from penstock.config.loader import load
from penstock.core.usage import Usage
from penstock.shared import make_pricer

LITELLM = """\
model_list:
  - model_name: fast
    litellm_params: {model: openai/gpt-4o, api_key: sk-x, input_cost_per_token: 1.5e-6, output_cost_per_token: 0.000006}
    model_info: {cache_read_input_token_cost: 7.5e-07, input_cost_per_token: 9}
  - model_name: near
    litellm_params: {model: ollama_chat/llama3.2, input_cost_per_token: soon}
    model_info: {max_tokens: 5}
"""


def test_prices_are_carried_over(written, tmp_path):
    written(LITELLM, "litellm.yaml")
    imported = import_litellm("litellm.yaml")
    (tmp_path / "imported.yaml").write_text(imported.yaml())
    settings = load(str(tmp_path / "imported.yaml"), probe=False).settings
    (price,) = settings.prices
    assert (price.provider, price.model) == ("openai", "gpt-4o")
    usage = Usage(2_000_000, 1_000_000, cached_input_tokens=1_000_000)
    assert make_pricer(settings).cost("openai", "gpt-4o", usage) == (Decimal("8.25"), "provider")
    assert {lost.reason for lost in imported.lost} >= {"not an amount", "only prices a token are carried over"}
