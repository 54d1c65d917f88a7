from decimal import Decimal
from math import inf

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from penstock.context.billing import BILLINGS, NO_CACHE, OWN_MACHINE, Billing, billing_of

tokens = st.integers(0, 200_000)
billings = st.sampled_from([NO_CACHE, OWN_MACHINE, *BILLINGS.values()])


def test_a_turn_of_a_cached_conversation_at_anthropics_terms():
    billing = BILLINGS["anthropic"]
    # 10,000 tokens are read at a tenth, 500 are written at five quarters, 200 come only once.
    assert billing.cost(10_500, 10_000, 200) == pytest.approx(1000 + 625 + 200)


def test_short_prefixes_are_not_cached_and_openai_counts_in_steps():
    billing = BILLINGS["openai"]
    assert billing.cost(1000, 1000) == 1000
    assert billing.cost(1100, 1100) == pytest.approx(1024 * 0.5 + 76)


@pytest.mark.parametrize(("before", "after"), [(25_000, 3000), (100_000, 20_000), (8000, 4000)])
def test_a_cut_pays_after_the_turns_the_rule_says(before, after):
    billing = Billing(0.1, 1.25)
    assert billing.turns_to_pay(before, after) == pytest.approx(11.5 * after / (before - after))


@given(billings, st.integers(1, 100_000), st.integers(1, 100_000))
def test_the_turns_to_pay_are_where_the_two_bills_meet(billing, before, after):
    assume(after < before)
    turns = billing.turns_to_pay(before, after)
    if turns == inf:
        assert billing.kept(after) >= billing.kept(before)
        return
    stays = billing.kept(before) * (turns + 1)
    cuts = billing.cost(after, 0) + billing.kept(after) * turns
    # Equal after so many turns more: the first turn with the new prefix writes it.
    assert cuts - billing.kept(after) == pytest.approx(stays - billing.kept(before), rel=1e-6, abs=1e-3)


@given(billings, tokens, tokens, tokens)
def test_knowing_more_never_costs_more_and_what_is_known_costs_least(billing, prefix, known, once):
    cost = billing.cost(prefix, known, once)
    assert billing.cost(prefix, prefix, once) <= cost + 1e-6
    assert cost <= billing.cost(prefix, 0, once) + 1e-6
    assert billing.rewriting(prefix, known) >= -1e-6


def test_choosing_anew_must_compress_as_much_as_reading_is_cheaper():
    assert BILLINGS["anthropic"].compression_to_win == pytest.approx(10)
    assert NO_CACHE.compression_to_win == 1
    assert OWN_MACHINE.compression_to_win == inf


def test_after_a_long_pause_nothing_is_cached():
    assert BILLINGS["anthropic"].after(60) is BILLINGS["anthropic"]
    assert BILLINGS["anthropic"].after(3600) == NO_CACHE


def test_prices_say_what_reading_and_writing_cost():
    found = billing_of("openai", price=Decimal("2.5"), cached=Decimal("0.25"))
    assert (found.read, found.write, found.minimum_tokens, found.step_tokens) == (0.1, 1.0, 1024, 128)
    found = billing_of("anthropic", price=Decimal(3), cached=Decimal("0.3"), written=Decimal("3.75"))
    assert (found.read, found.write) == (0.1, 1.25)


@pytest.mark.parametrize(
    ("kind", "prices", "expected"),
    [
        ("mistral", {}, NO_CACHE),
        ("openai", {"price": Decimal(1)}, NO_CACHE),
        ("openai", {"price": Decimal(1), "cached": Decimal(1)}, NO_CACHE),
        ("ollama", {"price": Decimal(1)}, OWN_MACHINE),
        ("ollama", {}, OWN_MACHINE),
        ("deepseek", {}, BILLINGS["deepseek"]),
    ],
)
def test_who_has_no_price_for_cached_tokens_caches_nothing(kind, prices, expected):
    assert billing_of(kind, **prices) == expected
