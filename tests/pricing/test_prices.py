from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage as TheirUsage
from genai_prices import calc_price
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.usage import Usage
from penstock.pricing.prices import MAX_MODELS, SELLERS, Pricer


class At:
    """A clock that stands where it is put."""

    def __init__(self, *when: int) -> None:
        self.moment = datetime(*when, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0

    def wall(self) -> float:
        return self.moment.timestamp()

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


def theirs(kind, model, usage, when):
    given = TheirUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cached_input_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        output_reasoning_tokens=usage.reasoning_tokens,
    )
    return calc_price(given, model, provider_id=SELLERS[kind], genai_request_timestamp=when).total_price


def called(info):
    """The name the provider's API knows the model by; Fireworks' differ from the price list's."""
    return info.id if info.is_match(info.id) else getattr(info.match, "equals", info.id)


usages = st.builds(
    lambda read, write, fresh, reasoning, said: Usage(
        input_tokens=read + write + fresh,
        output_tokens=reasoning + said,
        cached_input_tokens=read,
        cache_write_tokens=write,
        reasoning_tokens=reasoning,
    ),
    *[st.integers(0, 300_000)] * 5,
)

MODELS = [
    (kind, called(info))
    for kind, seller in SELLERS.items()
    for provider in get_snapshot().providers
    if provider.id == seller
    for info in provider.models
]


@pytest.mark.parametrize("kind", SELLERS)
def test_every_model_costs_what_the_price_list_says(kind):
    clock = At(2026, 3, 4, 12, 34)
    pricer = Pricer(clock)
    usage = Usage(
        input_tokens=1234, output_tokens=567, cached_input_tokens=89, cache_write_tokens=12, reasoning_tokens=3
    )
    large = Usage(input_tokens=1_234_567, output_tokens=5_678, cached_input_tokens=123_456)
    priced = 0
    for owner, model in MODELS:
        if owner != kind:
            continue
        for one in (usage, large, Usage()):
            cost, source = pricer.cost(kind, model, one)
            if cost is None:
                assert source == "unknown"
                continue
            assert cost == theirs(kind, model, one, clock.moment), model
            assert source == "provider"
            priced += 1
    assert priced > 3


@given(usages, st.sampled_from(MODELS))
def test_any_usage_costs_what_the_price_list_says(usage, which):
    clock = At(2026, 3, 4, 12, 34)
    cost, _ = Pricer(clock).cost(*which, usage)
    assert cost is None or cost == theirs(*which, usage, clock.moment)


@pytest.mark.parametrize(("kind", "model"), [(k, m) for k, m in MODELS if k == "deepseek"])
def test_a_price_that_depends_on_the_time_follows_it(kind, model):
    clock = At(2025, 6, 1, 12, 0)
    pricer = Pricer(clock)
    usage = Usage(input_tokens=1000, output_tokens=1000)
    for moment in ((2025, 6, 1, 18, 0), (2025, 6, 2, 12, 0), (2026, 9, 9, 3, 30)):
        clock.moment = datetime(*moment, tzinfo=UTC)
        assert pricer.cost(kind, model, usage)[0] == theirs(kind, model, usage, clock.moment)


def test_a_cost_from_estimated_tokens_says_so():
    cost, source = Pricer().cost("openai", "gpt-4o-mini", Usage(1_000_000, 0, source="estimate"))
    assert (cost, source) == (Decimal("0.15"), "estimate")


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("openai", "no-such-model"),
        ("ollama", "llama3"),
        ("vllm", "x"),
        ("openai-compatible", "gpt-4o"),
        ("?", "gpt-4o"),
    ],
)
def test_no_published_price_is_unknown_and_not_free(kind, model):
    assert Pricer().cost(kind, model, Usage(10, 10)) == (None, "unknown")


def test_no_usage_is_unknown_and_the_simulated_provider_is_free():
    pricer = Pricer()
    assert pricer.cost("openai", "gpt-4o-mini", None) == (None, "unknown")
    assert pricer.cost("simulated", "sim", None) == (Decimal(0), "none")


def test_embeddings_are_priced():
    assert Pricer().cost("openai", "text-embedding-3-small", Usage(1_000_000))[0] == Decimal("0.02")


def test_invented_model_names_do_not_fill_memory():
    pricer = Pricer()
    for number in range(MAX_MODELS + 10):
        pricer.cost("cerebras", f"invented-{number}", Usage(1, 1))
    assert len(pricer._known) <= MAX_MODELS
