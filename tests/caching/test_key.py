import copy
import json
from base64 import b64encode
from hashlib import sha256

import msgspec
from hypothesis import assume, given
from hypothesis import strategies as st

from penstock.caching.asking import asked
from penstock.caching.key import cache_key
from penstock.core.call import Call
from penstock.core.request import CacheDirectives, Request
from penstock.core.route import ContextTerms, Route, Target

ROUTE = Route("m", (Target("p", "model-1"),), b"digest of the configuration")
finite = st.floats(allow_nan=False, allow_infinity=False)  # JSON has no other
scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | finite | st.text(max_size=8)
scalars = scalars.filter(lambda value: not isinstance(value, str) or value.isprintable())
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcdefgh", max_size=3), inner, max_size=4),
    max_leaves=12,
)
payloads = st.dictionaries(st.sampled_from(["messages", "temperature", "tools", "x", "seed"]), documents, min_size=1)


def key(payload, **fields):
    fields = {"operation": "chat", "model": "m", "route": ROUTE, **fields}
    return cache_key(Request(payload=payload, call=Call("id"), **fields))


def reordered(value):
    if isinstance(value, dict):
        return {name: reordered(value[name]) for name in reversed(value)}
    return [reordered(item) for item in value] if isinstance(value, list) else value


def canonical(value):
    """What makes two documents the same: type-exact, order of objects aside."""
    if isinstance(value, dict):
        return ("object", *sorted((name, canonical(item)) for name, item in value.items()))
    if isinstance(value, list):
        return ("list", *(canonical(item) for item in value))
    return (type(value).__name__, repr(value))


@given(payloads)
def test_the_order_of_object_keys_means_nothing(payload):
    assert key(reordered(payload)) == key(payload)


@given(payloads, payloads)
def test_payloads_that_differ_in_anything_have_different_keys(one, other):
    assert (key(one) == key(other)) == (canonical(one) == canonical(other))


@given(payloads, st.data())
def test_any_one_mutation_changes_the_key(payload, data):
    mutant = copy.deepcopy(payload)
    holder, places = mutant, []
    while isinstance(holder, (dict, list)) and holder:
        name = data.draw(st.sampled_from(list(holder) if isinstance(holder, dict) else list(range(len(holder)))))
        places.append((holder, name))
        holder = holder[name]
    holder, name = data.draw(st.sampled_from(places))
    holder[name] = data.draw(scalars)
    assume(canonical(mutant) != canonical(payload))
    assert key(mutant) != key(payload)


def test_one_and_true_and_one_point_zero_stay_apart():
    keys = {key({"x": value}) for value in (1, 1.0, True, "1", [1], {"1": 1}, None, 0, False, "", [], {})}
    assert len(keys) == 12


@given(st.text(max_size=6), st.text(max_size=6), st.text(max_size=6), st.text(max_size=6))
def test_parts_do_not_run_into_each_other(a, b, c, d):
    def of(tenant, namespace):
        return key({"x": 1}, tenant=tenant, cache=CacheDirectives(namespace=namespace))

    assert (of(a, b) == of(c, d)) == ((a, b) == (c, d))


def test_everything_that_decides_the_answer_takes_part():
    payload = {"messages": [], "temperature": 0}
    keys = [
        key(payload),
        key(payload, tenant="other"),
        key(payload, operation="completions"),
        key(payload, cache=CacheDirectives(namespace="n")),
        key(payload, route=msgspec.structs.replace(ROUTE, identity=b"another configuration")),
        key(payload, route=msgspec.structs.replace(ROUTE, targets=(Target("p", "model-2"),))),
        key(payload, route=msgspec.structs.replace(ROUTE, targets=(Target("q", "model-1"),))),
        key(payload, route=msgspec.structs.replace(ROUTE, targets=(*ROUTE.targets, *ROUTE.targets))),
        key(payload, route=None),
        key(payload, route=None, model="other"),
        key({**payload, "an_unknown_field": 1}),
    ]
    assert len(set(keys)) == len(keys)


def test_what_only_labels_or_transports_takes_no_part():
    payload = {"messages": []}
    same = [
        key(payload),
        key({**payload, "metadata": {"run": "7"}}),
        key(payload, model="an alias of the same targets"),
        key(payload, stream=True, include_usage=True, stream_options={"include_obfuscation": False}),
        key(payload, tags=("a",), metadata={"a": "b"}, timeout_s=3.0, dialect="anthropic"),
        key(payload, cache=CacheDirectives(no_cache=True, max_age=1, ttl=5)),
    ]
    assert len(set(same)) == 1
    assert key({"messages": [{"metadata": 1}]}) != key({"messages": [{}]})


def test_the_key_is_computed_once_a_call():
    request = Request("chat", "m", json.loads('{"x": 1}'), Call("id"), route=ROUTE)
    first = cache_key(request)
    assert len(first) == 32
    assert cache_key(msgspec.structs.replace(request, target=ROUTE.targets[0])) is first
    assert request.call.key is first


def test_without_cutting_the_key_is_what_it_always_was():
    payload = {"messages": [{"role": "user", "content": "Hi"}], "seed": 1}
    said = [1, "default", "", "chat", [b64encode(ROUTE.identity).decode(), [["p", "model-1"]]], payload]
    assert key(payload) == sha256(json.dumps(said, separators=(",", ":"), sort_keys=True).encode()).digest()
    assert key(payload, context="off", context_tokens=100) == key(payload)
    configured = Route(*msgspec.structs.astuple(ROUTE)[:3], context=ContextTerms(summary_model="small"))
    assert key(payload, route=configured) == key(payload)


def test_the_terms_of_cutting_are_part_of_the_key_and_of_the_partition():
    payload = {"messages": [{"role": "user", "content": "Hi"}]}
    terms = [
        ContextTerms("budget", 100), ContextTerms("budget", 200), ContextTerms("aggressive", 100),
        ContextTerms("budget", 100, summary_model="small"), ContextTerms("budget", 100, summary_tokens=64),
    ]  # fmt: skip
    requests = [
        Request("chat", "m", payload, Call("id"), route=Route("m", ROUTE.targets, ROUTE.identity, context=each))
        for each in (ContextTerms(), *terms)
    ]
    assert len({cache_key(each) for each in requests}) == len(requests)
    assert len({asked(each, 100).partition for each in requests}) == len(requests)
    assert key(payload, context="budget", context_tokens=100) == cache_key(requests[1])
    assert key(payload, context_tokens=200) == cache_key(requests[2])


def test_only_conversations_are_cut():
    asked_for = {"context": "budget", "context_tokens": 10}
    assert key({"input": "Hi"}, operation="embeddings", **asked_for) == key({"input": "Hi"}, operation="embeddings")
