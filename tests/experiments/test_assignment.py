"""Which arm a request gets, and what becomes of it."""

import pytest

from penstock.caching.key import cache_key
from penstock.core.call import Call
from penstock.core.experiment import Arm, Audience, Change, Experiment, Metric, overlapping
from penstock.core.request import CacheDirectives, PromptReference, Request
from penstock.experiments.assignment import Assigner, change
from penstock.experiments.state import Shares, State, begin, follow

COST = Metric("cost_usd", "lower")


def request(unit="u", at=1000.0, payload=None, **fields):
    call = Call("req_1", started_at=at)
    body = payload or {"messages": [{"role": "user", "content": "hello"}]}
    return Request(**{"operation": "chat", "model": "m", "payload": body, "call": call, "unit": unit, **fields})


WARM = Change(parameters={"temperature": 0.9})


def experiment(name="tone", change=WARM, **fields):
    return Experiment(name, (Arm("plain"), Arm("warm", 1.0, change)), COST, **fields)


def assigner(*experiments, **states):
    return Assigner(experiments, {each.name: begin(each, 0.0) for each in experiments} | states)


def test_both_arms_get_some_and_each_unit_always_the_same():
    running = assigner(experiment())
    arms = set()
    for number in range(50):
        asked = request(f"u{number}")
        changed = running.apply(asked)
        arm = asked.call.arms["tone"]
        arms.add(arm)
        assert changed.payload.get("temperature") == (0.9 if arm == "warm" else None)
        assert len(asked.call.unit) == 16
        again = request(f"u{number}")
        running.apply(again)
        assert (again.call.arms, again.call.unit) == (asked.call.arms, asked.call.unit)
    assert arms == {"plain", "warm"}


@pytest.mark.parametrize(
    ("who", "fits"),
    [
        ({"models": ("m",)}, True), ({"models": ("other",)}, False), ({"models": ("*",)}, True),
        ({"tenants": ("acme/*",)}, True), ({"tenants": ("acme",)}, False), ({"tags": ("a", "b")}, True),
        ({"tags": ("b",)}, False), ({"prompts": ("greet",)}, True), ({"prompts": ("other",)}, False),
        ({"models": ("m",), "tags": ("b",)}, False),
    ],
)  # fmt: skip
def test_who_takes_part(who, fits):
    asked = request(tenant="acme/web", tags=("a",), prompt=PromptReference("greet"))
    assert Audience(**who).fits(asked) is fits
    assigner(experiment(audience=Audience(**who))).apply(asked)
    assert (asked.call.arms is not None) is fits


def test_a_share_takes_part_and_a_greater_one_takes_others_in_beside():
    def taking(share):
        running, found = assigner(experiment(share=share)), set()
        for number in range(1000):
            asked = request(f"u{number}")
            running.apply(asked)
            if asked.call.arms:
                found.add(number)
        return found

    small, large = taking(0.2), taking(0.6)
    assert 150 < len(small) < 250
    assert 550 < len(large) < 650
    assert small < large


def test_experiments_of_a_layer_have_no_unit_in_common():
    running = assigner(experiment("one", share=0.5, layer="l"), experiment("other", share=0.5, layer="l"))
    for number in range(200):
        asked = request(f"u{number}")
        running.apply(asked)
        assert len(asked.call.arms) == 1


def test_experiments_of_different_fields_run_beside_each_other():
    running = assigner(experiment("one"), experiment("other", Change(model="large")))
    seen = set()
    for number in range(100):
        asked = request(f"u{number}")
        changed = running.apply(asked)
        seen.add(tuple(asked.call.arms.values()))
        assert (changed.model == "large") == (asked.call.arms["other"] == "warm")
    assert len(seen) == 4


def test_what_an_arm_may_change():
    what = Change("large", None, "2", {"temperature": 0.1, "top_p": None}, 60.0, "on", "budget", 500)
    asked = request(payload={"messages": [], "top_p": 1, "seed": 7}, prompt=PromptReference("greet", None, {"a": 1}))
    changed = change(asked, Arm("x", 1.0, what))
    assert changed.model == "large"
    assert changed.payload == {"messages": [], "seed": 7, "temperature": 0.1}
    assert changed.prompt == PromptReference("greet", "2", {"a": 1})
    assert (changed.cache.ttl, changed.semantic, changed.context, changed.context_tokens) == (60.0, "on", "budget", 500)
    assert asked.payload == {"messages": [], "top_p": 1, "seed": 7}


def test_another_prompt_has_versions_of_its_own():
    asked = request(prompt=PromptReference("greet", "2", {"a": 1}))
    assert change(asked, Arm("x", 1, Change(prompt_id="welcome"))).prompt == PromptReference("welcome", None, {"a": 1})
    assert change(request(), Arm("x", 1, Change(prompt_id="welcome", prompt_version="3"))).prompt == PromptReference(
        "welcome", "3"
    )
    assert change(request(), Arm("x", 1, Change(prompt_version="3"))).prompt is None


def test_the_clients_own_lifetime_of_an_answer_stays():
    asked = request(cache=CacheDirectives(ttl=5.0))
    assert change(asked, Arm("x", 1, Change(cache_ttl_s=60.0))).cache.ttl == 5.0


def test_arms_that_are_cached_differently_share_no_answers_and_others_that_are_asked_the_same_do():
    def keys(what):
        running, found = assigner(experiment(change=what)), {}
        for number in range(50):
            asked = request(f"u{number}")
            changed = running.apply(asked)
            found.setdefault(asked.call.arms["tone"], set()).add(cache_key(changed))
        return found["plain"], found["warm"]

    plain, warm = keys(Change(cache_ttl_s=60.0))
    assert len(plain) == len(warm) == 1
    assert plain != warm
    plain, warm = keys(Change(semantic="on"))
    assert plain != warm
    plain, warm = keys(Change())
    assert plain == warm


@pytest.mark.parametrize("fields", [{"metadata": {"operation": "penstock-judge"}}, {"operation": "embeddings"}])
def test_embeddings_and_requests_of_penstocks_own_take_no_part(fields):
    asked = request(**fields)
    assert assigner(experiment()).apply(asked) is asked
    assert asked.call.arms is None


def test_each_call_gets_the_shares_of_its_time():
    tone = experiment()
    everyone_plain, everyone_warm = {"plain": 1.0, "warm": 0.0}, {"plain": 0.0, "warm": 1.0}
    state = State(
        "running", tone.identity, 0.0, tone.weights, (Shares(0.0, everyone_plain), Shares(500.0, everyone_warm))
    )
    running = assigner(tone, tone=state)
    for at, arm in ((100.0, "plain"), (499.9, "plain"), (500.0, "warm"), (900.0, "warm")):
        asked = request(at=at)
        running.apply(asked)
        assert asked.call.arms == {"tone": arm}


@pytest.mark.parametrize(("then", "temperature"), [("winner", 0.9), ("control", None)])
def test_a_winner_goes_to_everybody_only_if_that_is_wanted(then, temperature):
    tone = experiment(then=then, share=0.01)
    state = State("stopped", tone.identity, 0.0, tone.weights, (Shares(0.0, tone.weights),), 9.0, "warm", "better")
    running = assigner(tone, tone=state)
    for number in range(20):
        asked = request(f"u{number}")
        assert running.apply(asked).payload.get("temperature") == temperature
        assert asked.call.arms is None
    assert running.idle is (then == "control")


def test_changed_shares_wait_until_everybody_knows_and_changed_arms_begin_anew():
    one = experiment()
    state = begin(one, 100.0)
    assert follow(one, state, 200.0, 60.0) is state
    heavier = Experiment("tone", (one.arms[0], Arm("warm", 3.0, one.arms[1].change)), COST)
    changed = follow(heavier, state, 200.0, 60.0)
    assert (changed.since, changed.shares[-1]) == (100.0, Shares(260.0, {"plain": 0.25, "warm": 0.75}))
    assert dict(changed.weights(259.0)) == {"plain": 0.5, "warm": 0.5}
    other = experiment(change=Change(parameters={"temperature": 1.0}))
    assert follow(other, changed, 300.0, 60.0) == begin(other, 300.0)


def test_experiments_that_set_the_same_field_are_found():
    one, other = experiment("one"), experiment("other")
    assert overlapping([one, other]) == ("one", "other", "parameters.temperature")
    assert overlapping([experiment("one", layer="l"), experiment("other", layer="l")]) is None
    assert overlapping([experiment("one"), experiment("other", Change(model="x"))]) is None
    apart = [experiment(name, audience=Audience(models=(name,))) for name in ("one", "other")]
    assert overlapping(apart) is None
    prompts = [experiment("one", Change(prompt_version="2")), experiment("other", Change(prompt_id="x"))]
    assert overlapping(prompts) == ("one", "other", "prompt")
    near = [experiment(name, audience=Audience(models=(name,))) for name in ("one", "o*")]
    assert overlapping(near) is not None
