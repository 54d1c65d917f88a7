"""Who is who, and what falls to whom."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.call import Call
from penstock.core.request import Request
from penstock.experiments.hashing import Lot, unit_of

UNITS = [f"{number:016x}" for number in range(4000)]
weights = st.dictionaries(st.sampled_from("abcde"), st.floats(0.05, 10), min_size=2)


def request(payload=None, **fields):
    call = Call(fields.pop("id", "req_1"))
    return Request(**{"operation": "chat", "model": "m", "payload": payload or {}, "call": call, **fields})


def said(*texts):
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[at % 2], "content": text} for at, text in enumerate(texts)]}


@given(weights, st.sampled_from(["", "tone", "heat"]))
def test_the_same_unit_always_gets_the_same(weights, salt):
    again = Lot(salt, dict(reversed(weights.items())))
    assert all(Lot(salt, weights).draw(unit) == again.draw(unit) for unit in UNITS[:50])


def test_shares_are_kept():
    lot = Lot("tone", {"a": 6, "b": 3, "c": 1, "never": 0})
    drawn = [lot.draw(unit) for unit in UNITS]
    assert abs(drawn.count("a") / 4000 - 0.6) < 0.03
    assert abs(drawn.count("b") / 4000 - 0.3) < 0.03
    assert abs(drawn.count("c") / 4000 - 0.1) < 0.02
    assert "never" not in drawn


@given(weights, st.data())
def test_a_greater_weight_draws_units_to_that_arm_and_to_no_other(weights, data):
    grown = data.draw(st.sampled_from(sorted(weights)))
    before, after = Lot("x", weights), Lot("x", {**weights, grown: weights[grown] * data.draw(st.floats(1, 20))})
    for unit in UNITS[:300]:
        was, now = before.draw(unit), after.draw(unit)
        assert now in (was, grown)


def test_no_more_units_move_than_must():
    before, after = Lot("x", {"a": 0.5, "b": 0.5}), Lot("x", {"a": 0.6, "b": 0.4})
    moved = sum(before.draw(unit) != after.draw(unit) for unit in UNITS)
    assert 0.07 < moved / 4000 < 0.13


def test_lots_of_different_salts_are_independent():
    one, other = Lot("one", {"a": 1, "b": 1}), Lot("other", {"a": 1, "b": 1})
    same = sum(one.draw(unit) == other.draw(unit) for unit in UNITS)
    assert abs(same / 4000 - 0.5) < 0.03


def test_a_unit_is_what_the_request_says_first():
    named = unit_of(request({"user": "u", "safety_identifier": "s"}, unit="x"))
    assert named == unit_of(request({"user": "other"}, unit="x"))
    assert named != unit_of(request(unit="y"))
    assert unit_of(request({"user": "u", "safety_identifier": "s"})) == unit_of(request({"safety_identifier": "s"}))
    assert unit_of(request({"user": "u"})) != unit_of(request({"user": "v"}))
    assert unit_of(request({"user": "u"})) != unit_of(request(unit="u"))


def test_a_conversation_stays_one_unit_as_it_grows():
    first = unit_of(request(said("hello"), id="1"))
    assert first == unit_of(request(said("hello", "hi", "and now?"), id="2"))
    assert first != unit_of(request(said("good bye"), id="1"))


def test_tenants_have_units_of_their_own():
    assert unit_of(request(unit="x", tenant="acme")) != unit_of(request(unit="x", tenant="globex"))


def test_a_request_that_says_nothing_is_a_unit_of_its_own():
    assert unit_of(request({"input": "text"}, id="1")) != unit_of(request({"input": "text"}, id="2"))
