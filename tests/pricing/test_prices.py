from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage as TheirUsage
from genai_prices import calc_price
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.usage import Usage
from penstock.pricing.prices import MAX_MODELS, Account, OwnPrice, Pricer
from penstock.pricing.published import SELLERS
from penstock.pricing.rates import PARENTS, counts

ACCOUNTS = {kind: Account(kind) for kind in (*SELLERS, "simulated", "ollama", "vllm", "openai-compatible")}


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


def make_pricer(*own, clock=None, accounts=ACCOUNTS):
    return Pricer(accounts, own, clock=clock)


def theirs(kind, model, usage, when):
    counted = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cached_input_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "cache_write_1h_tokens": usage.cache_write_1h_tokens,
        "output_reasoning_tokens": usage.reasoning_tokens,
        "input_audio_tokens": usage.input_audio_tokens,
        "cache_audio_read_tokens": usage.cached_audio_tokens,
        "output_audio_tokens": usage.output_audio_tokens,
        "input_image_tokens": usage.input_image_tokens,
        "cache_image_read_tokens": usage.cached_image_tokens,
        "output_image_tokens": usage.output_image_tokens,
        "web_searches": usage.web_searches,
    }
    context = {"service_tier": usage.service_tier} if usage.service_tier else None
    return calc_price(
        TheirUsage(**counted), model, provider_id=SELLERS[kind], genai_request_timestamp=when, price_context=context
    ).total_price


def called(info):
    """The name the provider's API knows the model by; Fireworks' differ from the price list's."""
    return info.id if info.is_match(info.id) else getattr(info.match, "equals", info.id)


def build(fresh, cached, write, hour, audio, cached_audio, image, cached_image, said, reasoning, out_audio, out_image):
    return Usage(
        input_tokens=fresh + cached + write + hour + audio + cached_audio + image + cached_image,
        output_tokens=said + reasoning + out_audio + out_image,
        cached_input_tokens=cached + cached_audio + cached_image,
        cache_write_tokens=write + hour,
        cache_write_1h_tokens=hour,
        reasoning_tokens=reasoning,
        input_audio_tokens=audio + cached_audio,
        cached_audio_tokens=cached_audio,
        output_audio_tokens=out_audio,
        input_image_tokens=image + cached_image,
        cached_image_tokens=cached_image,
        output_image_tokens=out_image,
    )


usages = st.builds(build, *[st.integers(0, 300_000)] * 12)

MODELS = [
    (kind, called(info))
    for kind, seller in SELLERS.items()
    for provider in get_snapshot().providers
    if provider.id == seller
    for info in provider.models
]
MODERN = [("openai", "gpt-4o-audio-preview"), ("openai", "gpt-realtime"), ("gemini", "gemini-2.5-flash"),
          ("gemini", "gemini-2.5-flash-image"), ("anthropic", "claude-sonnet-4-5"), ("anthropic", "claude-opus-4-1"),
          ("openai", "gpt-5.4"), ("perplexity", "sonar-deep-research"), ("gemini", "gemini-2.5-pro")]  # fmt: skip


@pytest.mark.parametrize("kind", SELLERS)
def test_every_model_costs_what_the_price_list_says(kind):
    clock = At(2026, 3, 4, 12, 34)
    pricer = make_pricer(clock=clock)
    usage = Usage(
        input_tokens=1234, output_tokens=567, cached_input_tokens=89, cache_write_tokens=12, reasoning_tokens=3
    )
    large = Usage(input_tokens=1_234_567, output_tokens=5_678, cached_input_tokens=123_456)
    priced = 0
    for owner, model in MODELS:
        if owner != kind:
            continue
        for one in (usage, large, Usage(10)):
            cost, source = pricer.cost(kind, model, one)
            if cost is None:
                assert source == "unknown"
                continue
            assert cost == theirs(kind, model, one, clock.moment), model
            assert source == "provider"
            priced += 1
    assert priced > 3


@pytest.mark.parametrize("tier", ["", "flex", "priority", "never-heard-of"])
@given(usages, st.sampled_from(MODERN + MODELS))
def test_any_usage_costs_what_the_price_list_says(tier, usage, which):
    clock = At(2026, 3, 4, 12, 34)
    usage = type(usage)(**{name: getattr(usage, name) for name in usage.__struct_fields__} | {"service_tier": tier})
    cost, _ = make_pricer(clock=clock).cost(*which, usage)
    assert cost is None or cost == theirs(*which, usage, clock.moment)


def test_kinds_the_list_knows_are_priced_apart():
    clock = At(2026, 11, 1)
    pricer = make_pricer(clock=clock)
    plain = pricer.cost("anthropic", "claude-sonnet-4-5", Usage(1000, cache_write_tokens=1000))[0]
    hour = pricer.cost(
        "anthropic", "claude-sonnet-4-5", Usage(1000, cache_write_tokens=1000, cache_write_1h_tokens=1000)
    )[0]
    assert (plain, hour) == (Decimal("0.00375"), Decimal("0.006"))
    audio = pricer.cost("gemini", "gemini-2.5-flash", Usage(1000, input_audio_tokens=1000))[0]
    text = pricer.cost("gemini", "gemini-2.5-flash", Usage(1000))[0]
    assert (text, audio) == (Decimal("0.0003"), Decimal("0.001"))
    searched = pricer.cost("anthropic", "claude-sonnet-4-5", Usage(0, 0, web_searches=3))[0]
    assert searched == Decimal("0.03")
    flex = pricer.cost("openai", "gpt-5", Usage(1_000_000, service_tier="flex"))[0]
    assert flex == Decimal("0.625")


@pytest.mark.parametrize(("kind", "model"), [(k, m) for k, m in MODELS if k == "deepseek"])
def test_a_price_that_depends_on_the_time_follows_it(kind, model):
    clock = At(2025, 6, 1, 12, 0)
    pricer = make_pricer(clock=clock)
    usage = Usage(input_tokens=1000, output_tokens=1000)
    for moment in ((2025, 6, 1, 18, 0), (2025, 6, 2, 12, 0), (2026, 9, 9, 3, 30)):
        clock.moment = datetime(*moment, tzinfo=UTC)
        assert pricer.cost(kind, model, usage)[0] == theirs(kind, model, usage, clock.moment)


@pytest.mark.parametrize("source", ["estimate", "calibrated"])
def test_a_cost_from_estimated_tokens_says_so(source):
    cost, found = make_pricer().cost("openai", "gpt-4o-mini", Usage(1_000_000, 0, source=source))
    assert (cost, found) == (Decimal("0.15"), "estimate")


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
    assert make_pricer().cost(kind, model, Usage(10, 10)) == (None, "unknown")


def test_tokens_of_a_kind_without_a_price_are_unknown_and_not_free():
    pricer = make_pricer()
    assert pricer.cost("openai", "text-embedding-3-small", Usage(1_000_000))[0] == Decimal("0.02")
    assert pricer.cost("openai", "text-embedding-3-small", Usage(1_000_000, 1)) == (None, "unknown")
    assert pricer.cost("groq", "openai/gpt-oss-120b", Usage(10, 10, web_searches=1)) == (None, "unknown")


def test_no_usage_is_unknown_and_the_simulated_provider_is_free():
    pricer = make_pricer()
    assert pricer.cost("openai", "gpt-4o-mini", None) == (None, "unknown")
    assert pricer.cost("simulated", "sim", None) == (Decimal(0), "none")


def test_invented_model_names_do_not_fill_memory():
    pricer = make_pricer()
    for number in range(MAX_MODELS + 10):
        pricer.cost("cerebras", f"invented-{number}", Usage(1, 1))
    assert len(pricer._known) <= MAX_MODELS


def test_own_prices_come_before_published_ones_and_the_first_that_fits_counts():
    pricer = make_pricer(
        OwnPrice("openai", "gpt-4o-mini*", usd_per_million={"input": Decimal(1), "output": Decimal(2)}),
        OwnPrice("openai", "gpt-*", usd_per_million={"input": Decimal(7), "output": Decimal(7)}),
        OwnPrice("near", "*", usd_per_request=Decimal("0.001")),
        accounts={**ACCOUNTS, "near": Account("ollama")},
    )
    usage = Usage(1_000_000, 1_000_000, cached_input_tokens=500_000, reasoning_tokens=10)
    assert pricer.cost("openai", "gpt-4o-mini-2024-07-18", usage) == (Decimal(3), "provider")
    assert pricer.cost("openai", "gpt-4o", usage)[0] == Decimal(14)
    assert pricer.cost("openai", "o3", Usage(1_000_000))[0] == Decimal(2)
    assert pricer.cost("near", "llama3.2", usage)[0] == Decimal("0.001")
    assert pricer.price("openai", "gpt-4o").origin == "configuration"


def test_an_own_price_without_output_leaves_the_cost_of_output_unknown():
    pricer = make_pricer(OwnPrice("openai", "*", usd_per_million={"input": Decimal(1)}))
    assert pricer.cost("openai", "gpt-4o", Usage(10))[0] == Decimal("0.00001")
    assert pricer.cost("openai", "gpt-4o", Usage(10, 1)) == (None, "unknown")


def test_own_prices_hold_from_day_to_day():
    clock = At(2026, 1, 31, 23, 59)
    old = OwnPrice(model="gpt-4o", until=date(2026, 2, 1), usd_per_million={"input": Decimal(9)})
    new = OwnPrice(model="gpt-4o", since=date(2026, 3, 1), usd_per_million={"input": Decimal(1)})
    pricer = make_pricer(old, new, clock=clock)
    found = []
    for moment in ((2026, 1, 31, 23, 59), (2026, 2, 1, 0, 1), (2026, 2, 28, 23, 59), (2026, 3, 1, 0, 1)):
        clock.moment = datetime(*moment, tzinfo=UTC)
        found.append(pricer.cost("openai", "gpt-4o", Usage(1_000_000))[0])
    assert found == [Decimal(9), Decimal("2.5"), Decimal("2.5"), Decimal(1)]


def test_a_discount_is_taken_off_published_prices_only():
    accounts = {"openai": Account("openai", Decimal("0.15"))}
    usage = Usage(1_000_000, 1_000_000, web_searches=100)
    full = make_pricer().cost("openai", "gpt-4o", usage)[0]
    assert Pricer(accounts).cost("openai", "gpt-4o", usage)[0] == full * Decimal("0.85")
    own = OwnPrice(usd_per_million={"input": Decimal(1), "output": Decimal(1)}, usd_per_search=Decimal(0))
    assert Pricer(accounts, [own]).cost("openai", "gpt-4o", usage)[0] == Decimal(2)


PRICES = st.dictionaries(
    st.sampled_from([kind for kind in PARENTS if kind != "search"]),
    st.decimals(0, 1000, places=6),
).map(lambda found: {"input": Decimal("1.5"), "output": Decimal(6), **found})  # fmt: skip
OWN = st.builds(OwnPrice, usd_per_million=PRICES, usd_per_request=st.decimals(0, 1, places=6))


@given(OWN, usages)
def test_a_cost_is_the_sum_of_its_parts_and_never_a_float(own, usage):
    rates = own.rates()
    cost, parts = rates.amount(usage), rates.parts(usage)
    assert isinstance(cost, Decimal)
    assert cost == sum(parts.values(), Decimal(0))
    assert all(isinstance(part, Decimal) for part in parts.values())


@given(OWN, usages, st.integers(2, 50))
def test_a_cost_is_linear_in_tokens(own, usage, times):
    rates = own.rates()
    numbers = {
        name: getattr(usage, name) * times for name in usage.__struct_fields__ if isinstance(getattr(usage, name), int)
    }
    many = rates.amount(Usage(**numbers))
    assert many - rates.request == (rates.amount(usage) - rates.request) * times


@given(OWN, usages, usages)
def test_more_tokens_never_cost_less(own, some, more):
    both = {
        name: getattr(some, name) + getattr(more, name)
        for name in some.__struct_fields__
        if isinstance(getattr(some, name), int)
    }
    assert own.rates().amount(Usage(**both)) >= own.rates().amount(some)


@given(usages)
def test_no_token_is_counted_twice_or_lost(usage):
    assert sum(counts(usage)) == usage.input_tokens + usage.output_tokens + usage.web_searches
    assert min(counts(usage)) >= 0
