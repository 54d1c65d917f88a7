from decimal import Decimal

import pytest

from penstock.config.settings import Settings
from penstock.insight.facts import Fact
from penstock.insight.suggesting import suggest

PRICES = {"dear": Decimal("0.000010"), "cheap": Decimal("0.000001")}


def price(provider, model, usage):
    rate = PRICES.get(provider)
    return (None, "unknown") if rate is None else (rate * usage.total_tokens, "provider")


def settings(*targets, **cache):
    names = sorted({target["provider"] for target in targets}) or ["dear"]
    return Settings.model_validate({
        "providers": [{"name": name, "kind": "openai", "api_key": "x"} for name in names],
        "models": [{"name": "m", "targets": list(targets) or [{"provider": "dear", "model": "large"}]}],
        "cache": cache or {"exact": {"ttl_s": 1800}},
    })  # fmt: skip


def fact(at, question=0, **fields):
    usual = {
        "model": "m", "provider": "dear", "provider_model": "large", "cache": "miss", "finish_reason": "stop",
        "input_tokens": 50, "output_tokens": 50, "cost_pusd": 1_000_000_000, "seconds": 2.0, "attempts": 1,
    }  # fmt: skip
    return Fact(float(at), key=question.to_bytes(16, "big"), **{**usual, **fields})


def kinds(found):
    return {suggestion.kind: suggestion for suggestion in found.suggestions}


def test_a_longer_time_is_suggested_when_the_same_comes_again_later():
    facts = [fact(3600 * number, number % 3) for number in range(60)]
    found = kinds(suggest(facts, settings(), price))["ttl"]
    assert found.settings == {"cache.exact.ttl_s": 259_200.0}  # 12 hours would save 45 calls, 3 days 57
    assert found.usd.value == Decimal("0.001") * round(found.calls.value)
    assert found.usd.low <= found.usd.value <= found.usd.high
    assert found.seconds.value == pytest.approx(2.0 * found.calls.value)
    assert "older than they are now" in found.but


def test_nothing_is_suggested_for_questions_nobody_repeats():
    facts = [fact(60 * number, number) for number in range(99)]
    assert kinds(suggest(facts, settings(), price)) == {}


def test_a_larger_cache_is_suggested_when_answers_had_to_leave():
    facts = [fact(10 * number, number % 40) for number in range(400)]
    small = settings(exact={"ttl_s": 86_400, "max_entries": 25})
    found = kinds(suggest(facts, small, price))
    assert found["size"].settings == {"cache.exact.max_entries": 50}
    assert 300 < found["size"].calls.value <= 360  # 40 of 400 have to be asked, and what had stayed in the small one


def test_what_is_off_is_suggested_to_be_on():
    facts = [fact(number, number % 5, cache="", seconds=0.2) for number in range(50)]
    found = kinds(suggest(facts, settings(exact={"enabled": False}), price))
    assert found["cache"].settings == {"cache.exact.enabled": True}
    assert found["cache"].calls.value == 45
    together = [fact(number // 10, number // 10, seconds=0.5) for number in range(50)]
    off = settings(exact={"enabled": True, "ttl_s": 0}, coalesce=False)
    assert kinds(suggest(together, off, price))["coalesce"].calls.value == 45


def test_the_cheaper_target_is_suggested_with_what_it_saves():
    targets = [{"provider": "dear", "model": "large"}, {"provider": "cheap", "model": "small", "order": 1}]
    facts = [fact(60 * number, number) for number in range(100)]
    found = kinds(suggest(facts, settings(*targets), price))["routing"]
    assert found.text == "Send calls for m to cheap/small first"
    assert found.usd.value == Decimal("0.09")
    assert found.seconds is None
    assert [each["order"] for each in found.settings["models.m.targets"]] == [1, 0]
    known = [fact(9000 + number, 1000 + number, provider="cheap", provider_model="small", cost_pusd=100_000_000,
                  seconds=1.0) for number in range(30)]  # fmt: skip
    timed = kinds(suggest([*facts, *known], settings(*targets), price))["routing"]
    assert timed.seconds.value == pytest.approx(100.0)


def test_a_target_of_unknown_price_is_never_suggested():
    targets = [{"provider": "dear", "model": "large"}, {"provider": "unheard", "model": "of"}]
    facts = [fact(60 * number, number) for number in range(50)]
    assert "routing" not in kinds(suggest(facts, settings(*targets), price))


def test_batches_are_suggested_for_what_has_a_name_and_nobody_watches():
    facts = [fact(60 * number, number, name="nightly") for number in range(100)]
    facts += [fact(60 * number, 500 + number, name="chat", stream=True) for number in range(100)]
    found = kinds(suggest(facts, settings(), price))["batch"]
    assert "nightly" in found.text
    assert found.usd.value == Decimal("0.05")


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"outcome": "upstream_timeout"}, "errors"),
        ({"outcome": "rate_limit_exceeded", "provider": ""}, "rate_limits"),
        ({"cost_pusd": 500_000_000_000}, "cost"),
        ({"seconds": 30.0}, "latency"),
    ],
)
def test_rules_speak_where_replay_cannot(fields, kind):
    facts = [fact(60 * number, number, **(fields if number % 5 == 0 else {})) for number in range(200)]
    found = kinds(suggest(facts, settings(), price))
    assert set(found) == {kind, *({"hit_rate"} & set(found))}
    assert found[kind].basis == "rule"


def test_calls_of_unknown_cost_are_counted_and_nothing_is_saved_on_them():
    facts = [fact(3600 * number, 0, cost_pusd=None) for number in range(40)]
    found = suggest(facts, settings(), price)
    assert (found.unpriced, found.cost_usd) == (40, Decimal(0))
    assert kinds(found)["ttl"].usd.value == 0
    assert kinds(found)["ttl"].calls.value > 0


def test_replaying_what_is_in_force_gives_what_happened():
    facts = [fact(0, 1), fact(10, 1, cache="hit", cost_pusd=0, saved_pusd=1_000_000_000, attempts=0, seconds=0.001),
             fact(20, 2), fact(21, 2, cache="collapsed", cost_pusd=0, attempts=0)]  # fmt: skip
    found = suggest(facts, settings(), price)
    assert (found.fidelity.asked, found.fidelity.hits, found.fidelity.replayed_hits) == (4, 2, 2)


def test_an_empty_ledger_says_nothing():
    assert suggest([], settings(), price).suggestions == []


def looked_up(mode, *, count=60, audit=0.05, notes="shadow", chance=None):
    """Two questions in other words each time; the second would have had the first one's answer."""
    facts = []
    for number in range(count):
        facts.append(fact(3600 * number, 2 * number, semantic="miss"))
        key = (2 * number).to_bytes(16, "big")
        given = {"cost_pusd": 0, "saved_pusd": 1_000_000_000, "cache": "semantic", "attempts": 0, "seconds": 0.001}
        facts.append(fact(3600 * number + 60, 2 * number + 1, semantic=notes, semantic_key=key, semantic_audit=chance,
                          **(given if notes == "hit" else {})))  # fmt: skip
    found = settings(semantic={"mode": mode, "audit": audit, "max_error": 0.02})
    return kinds(suggest(facts, found, price))


def test_what_was_looked_at_in_shadow_says_what_answering_by_meaning_would_save():
    found = looked_up("shadow", audit=1e-9)["semantic"]
    assert (found.basis, found.settings) == ("replay", {"models.m.semantic": "on"})
    assert found.usd.value == Decimal("0.06")
    assert (found.calls.value, found.seconds.value) == (60, pytest.approx(120.0))
    assert found.usd.low <= found.usd.value <= found.usd.high
    assert "2.0%" in found.but
    checked = looked_up("shadow", audit=0.5)["semantic"]
    assert 15 < checked.calls.value < 45
    assert checked.usd.value == Decimal("0.001") * round(checked.calls.value)
    assert checked.seconds.value == pytest.approx(120.0)  # nobody waits for an audit
    assert f"to check {60 - round(checked.calls.value)} of them" in checked.but
    learning = looked_up("shadow", audit=1e-9, chance=1.0)
    assert "semantic" not in learning  # as long as all is checked nothing but waiting is saved


def test_nothing_is_suggested_when_looking_on_found_nothing():
    assert "semantic" not in looked_up("shadow", notes="miss")


def test_what_is_on_says_what_it_saves():
    found = looked_up("on", notes="hit", audit=1e-9)["semantic"]
    assert (found.basis, found.settings) == ("replay", {})
    assert found.text.startswith("Go on answering questions to m by meaning")
    assert found.usd.value == Decimal("0.06")


def test_the_suggestion_about_time_knows_what_is_answered_by_meaning():
    facts = []
    for number in range(100):  # the same two questions, again and again, in other words
        facts.append(fact(3600 * number, 0, semantic="miss"))
        facts.append(fact(3600 * number + 60, 1, semantic="hit", semantic_key=bytes(16), cache="semantic", cost_pusd=0,
                          saved_pusd=1_000_000_000, attempts=0, seconds=0.0))  # fmt: skip
    on = settings(exact={"ttl_s": 1800}, semantic={"mode": "on", "audit": 1e-9})
    found = suggest(facts, on, price)
    assert (found.fidelity.hits, found.fidelity.replayed_hits) == (100, 100)
    assert kinds(found)["ttl"].calls.value <= 100  # the other hundred are free already


@pytest.mark.parametrize(
    ("count", "fields", "cache", "expected"),
    [
        (1000, {}, {}, True),
        (999, {}, {}, False),
        (1000, {"cost_pusd": 0}, {}, False),
        (1000, {"operation": "embeddings"}, {}, False),
        (1000, {"cache": "hit"}, {}, False),
        (1000, {"name": "penstock-judge"}, {}, False),
        (1000, {"semantic": "miss"}, {}, False),
        (1000, {}, {"exact": {"enabled": False}}, False),
        (1000, {}, {"semantic": {"mode": "shadow"}}, False),
    ],
)
def test_where_nothing_was_looked_up_it_is_suggested_to_look(count, fields, cache, expected):
    facts = [fact(60 * number, number, **fields) for number in range(count)]
    found = kinds(suggest(facts, settings(**cache), price)).get("semantic")
    assert (found is not None) == expected
    if found is not None:
        assert (found.basis, found.settings) == ("rule", {"cache.semantic.mode": "shadow"})
        assert found.usd is None
        assert "1000 questions" in found.text
        assert "$1.00" in found.text


def test_a_model_for_which_matching_is_switched_off_is_left_alone():
    facts = [fact(60 * number, number) for number in range(1000)]
    config = settings().model_dump()
    config["models"][0]["semantic"] = "off"
    assert "semantic" not in kinds(suggest(facts, Settings.model_validate(config), price))


def test_models_behind_a_pattern_are_suggested_together():
    facts = []
    for number in range(60):
        facts.append(fact(3600 * number, 2 * number, semantic="miss", model=f"x-{number % 2}"))
        facts.append(fact(3600 * number + 60, 2 * number + 1, semantic="shadow", model=f"x-{number % 2}",
                          semantic_key=(2 * number).to_bytes(16, "big")))  # fmt: skip
    config = settings(semantic={"mode": "shadow", "audit": 1e-9}).model_dump()
    config["models"][0]["name"] = "x-*"
    found = [each for each in suggest(facts, Settings.model_validate(config), price).suggestions
             if each.kind == "semantic"]  # fmt: skip
    assert [each.settings for each in found] == [{"models.x-*.semantic": "on"}]
    assert found[0].text == "Answer questions to x-* by meaning: 60 would have been"
