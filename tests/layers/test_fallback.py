"""The layer over scripted handlers: what is asked, in which order, and what the call's notes say."""

import asyncio
import json

import pytest

from penstock.core.call import Attempt, Call
from penstock.core.clock import SystemClock
from penstock.core.errors import (
    BudgetExceeded,
    DeadlineExceeded,
    InvalidRequest,
    NotCached,
    ProviderError,
    RateLimited,
    Refused,
)
from penstock.core.events import Event
from penstock.core.request import CacheDirectives, Request
from penstock.core.response import Response
from penstock.core.route import Fallbacks, Route, Target, Template
from penstock.core.usage import Usage
from penstock.layers.deadline import Deadline
from penstock.layers.fallback import MAX_MODELS, Fallback
from penstock.testing import answer, chunks

TOO_LONG = ProviderError("the prompt is too long", status_code=400, code="context_length_exceeded")
REFUSED = ProviderError("no", status_code=400, code="content_filter", elsewhere=False)
DOWN = ProviderError("down", status_code=503, retryable=True)
WRONG = ProviderError("no such field", status_code=400, code="invalid_request", elsewhere=False)
SORRY = Template("Sorry about {question}.", operation="ask")


def said(text, **fields):
    return Response(body=answer(text, **fields), usage=Usage(1, 1), finish_reason=fields.get("finish_reason", "stop"))


def empty():
    return said("", finish_reason="content_filter")


class Bench:
    """The layer over models that do what `models` says: an answer, an error, or a coroutine function."""

    def __init__(self, fallbacks, models, defaults=Fallbacks()):  # noqa: B008 a value, not changed
        self.fallbacks = fallbacks
        self.models = models
        self.seen = []
        self.layer = Fallback(defaults, self.route, SystemClock())

    def route(self, name):
        if name not in self.models:
            raise InvalidRequest("unknown", code="model_not_found", status_code=404)
        return Route(name, (Target("p", name),), name.encode(), fallbacks=self.fallbacks.get(name))

    async def inner(self, request):
        self.seen.append(request)
        call = request.call
        call.key, call.cache = request.model.encode(), "miss"
        call.cache_status.append("Penstock-Exact; fwd=miss")
        call.attempts.append(Attempt("p", request.model, 0.0))
        outcome = self.models[request.route.model]
        if isinstance(outcome, Exception):
            call.attempts[-1].outcome = outcome.code
            raise outcome
        if asyncio.iscoroutinefunction(outcome):
            return await outcome()
        response = outcome()
        call.attempts[-1].outcome = "ok" if response.whole else ""
        call.usage, call.finish_reason = response.usage, response.finish_reason
        return response

    def request(self, model="small", **fields):
        fields.setdefault("payload", {"messages": [{"role": "user", "content": "Why?"}]})
        return Request("chat", model, call=Call("req-1"), route=self.route(model), **fields)

    async def run(self, request=None, **fields):
        self.asked = request or self.request(**fields)
        return await self.layer(self.asked, self.inner)

    @property
    def order(self):
        return [request.model for request in self.seen]


async def text(response):
    return json.loads(await response.read())["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [(TOO_LONG, "context-window"), (REFUSED, "content-policy"), (DOWN, "errors"), (empty, "content-policy")],
    ids=["too long", "refused", "down", "filtered"],
)
async def test_each_cause_has_its_own_models(trouble, reason):
    plan = Fallbacks(("window",), ("policy",), ("other",))
    names = {"context-window": "window", "content-policy": "policy", "errors": "other"}
    models = {"small": trouble} | {name: lambda name=name: said(f"I am {name}.") for name in names.values()}
    bench = Bench({"small": plan}, models)
    assert await text(await bench.run()) == f"I am {names[reason]}."
    assert bench.order == ["small", names[reason]]
    call = bench.asked.call
    assert call.degraded == [f"fallback-{reason}"]
    assert call.cache_status == [f'Penstock-Exact; fwd=miss; detail="fallback-{reason}"']
    assert call.finish_reason == "stop"
    assert call.served.model == names[reason]


async def test_nobody_else_is_asked_at_a_shutdown():
    stopping = Refused("Penstock is shutting down.", code="shutting_down")
    plan = Fallbacks(errors=("large", "spare"), templates=(SORRY,))
    bench = Bench({"small": plan}, {"small": DOWN, "large": stopping, "spare": lambda: said("I am spare.")})
    with pytest.raises(Refused) as refused:
        await bench.run(metadata={"operation": "ask"})
    assert refused.value.code == "shutting_down"
    assert bench.order == ["small", "large"]


async def test_another_model_is_asked_under_its_own_key_and_may_not_be_stored():
    bench = Bench({"small": Fallbacks(errors=("big",))}, {"small": DOWN, "big": lambda: said("ok")})
    await bench.run(cache=CacheDirectives(namespace="n", max_age=60))
    second = bench.seen[1]
    assert (second.model, second.route.model, bench.asked.call.key) == ("big", "big", b"big")
    assert second.cache == CacheDirectives(namespace="n", max_age=60, ttl=0.0)
    assert bench.seen[0].cache.ttl is None


@pytest.mark.parametrize("error", [WRONG, InvalidRequest("bad"), NotCached("no"), BudgetExceeded("no money")])
async def test_the_clients_own_faults_are_its_own(error):
    bench = Bench({"small": Fallbacks(("big",), ("big",), ("big",), (SORRY,))}, {"small": error, "big": DOWN})
    with pytest.raises(type(error)) as raised:
        await bench.run(metadata={"operation": "ask"})
    assert raised.value is error
    assert bench.order == ["small"]
    assert bench.asked.call.degraded == []


@pytest.mark.parametrize("status", [404, 413, 422])
async def test_so_are_what_the_provider_says_about_the_request(status):
    error = ProviderError("no", status_code=status, code="not_found")
    bench = Bench({"small": Fallbacks(errors=("big",), templates=(SORRY,))}, {"small": error})
    with pytest.raises(ProviderError, match="no"):
        await bench.run(metadata={"operation": "ask"})


@pytest.mark.parametrize(
    "error",
    [
        RateLimited("full"),
        Refused("full", code="overloaded"),
        ProviderError("key", status_code=404, code="upstream_auth"),
        ProviderError("slow down", status_code=429, code="rate_limit_exceeded"),
    ],
)
async def test_limits_and_wrong_keys_are_failures(error):
    bench = Bench({"small": Fallbacks(errors=("big",))}, {"small": error, "big": lambda: said("ok")})
    assert await text(await bench.run()) == "ok"


async def test_when_all_fail_the_models_own_error_is_raised_with_its_own_notes():
    bench = Bench({"small": Fallbacks(context_window=("big", "vast"))}, {"small": TOO_LONG, "big": DOWN, "vast": DOWN})
    with pytest.raises(ProviderError) as raised:
        await bench.run()
    assert raised.value is TOO_LONG
    assert bench.order == ["small", "big", "vast"]
    call = bench.asked.call
    assert (call.key, call.cache_status, call.degraded) == (b"small", ["Penstock-Exact; fwd=miss"], [])
    assert [attempt.outcome for attempt in call.attempts] == [TOO_LONG.code, "upstream_error", "upstream_error"]


async def test_a_filtered_answer_nobody_else_can_better_is_given():
    bench = Bench({"small": Fallbacks(content_policy=("big",))}, {"small": empty, "big": REFUSED})
    response = await bench.run()
    assert response.finish_reason == "content_filter"
    assert bench.asked.call.finish_reason == "content_filter"
    assert bench.asked.call.degraded == []
    assert bench.asked.call.served.model == "small"


@pytest.mark.parametrize(
    "given",
    [
        lambda: said("Half a ", finish_reason="content_filter"),
        lambda: said("", finish_reason="length"),
        lambda: Response(body=b"{", finish_reason="content_filter"),
        lambda: Response(events=chunks("Half", finish_reason="content_filter")),
        lambda: Response(source=live(chunks("", [], finish_reason="content_filter"))),
    ],
    ids=["with content", "other reason", "unreadable", "chunks with content", "live"],
)
async def test_only_a_whole_answer_without_content_is_replaced(given):
    bench = Bench({"small": Fallbacks(content_policy=("big",))}, {"small": given, "big": lambda: said("big")})
    response = await bench.run()
    assert bench.order == ["small"]
    await response.aclose()


async def test_a_filtered_answer_in_chunks_is_replaced():
    given = Response(events=chunks("", [], finish_reason="content_filter"))
    bench = Bench({"small": Fallbacks(content_policy=("big",))}, {"small": lambda: given, "big": lambda: said("big")})
    assert await text(await bench.run(stream=True)) == "big"


async def live(events):
    for event in events:
        yield [event]


async def test_chains_follow_what_each_model_has_and_name_every_reason():
    fallbacks = {
        "small": Fallbacks(errors=("b", "last")),
        "b": Fallbacks(context_window=("c",)),
        "c": Fallbacks(errors=("small", "b", "d")),
    }
    models = {"small": DOWN, "b": TOO_LONG, "c": DOWN, "d": lambda: said("d"), "last": lambda: said("last")}
    bench = Bench(fallbacks, models)
    assert await text(await bench.run()) == "d"
    assert bench.order == ["small", "b", "c", "d"]  # nobody twice
    assert bench.asked.call.degraded == ["fallback-errors", "fallback-context-window", "fallback-errors"]


async def test_the_number_of_models_is_bounded():
    names = tuple(f"m{number}" for number in range(30))
    bench = Bench({"small": Fallbacks(errors=names)}, {"small": DOWN, **dict.fromkeys(names, DOWN)})
    with pytest.raises(ProviderError):
        await bench.run()
    assert len(bench.order) == 1 + MAX_MODELS


async def test_a_model_that_is_gone_is_passed_over():
    bench = Bench({"small": Fallbacks(errors=("gone", "big"))}, {"small": DOWN, "big": lambda: said("ok")})
    assert await text(await bench.run()) == "ok"


@pytest.mark.parametrize(
    "fields",
    [{"fallback": False}, {"cache": CacheDirectives(only_if_cached=True)}],
    ids=["opted out", "only cached"],
)
async def test_clients_can_do_without(fields):
    bench = Bench({"small": Fallbacks(errors=("big",), templates=(SORRY,))}, {"small": DOWN, "big": DOWN})
    with pytest.raises(ProviderError):
        await bench.run(metadata={"operation": "ask"}, **fields)
    assert bench.order == ["small"]


async def test_vectors_of_another_model_are_none():
    bench = Bench({"small": Fallbacks(errors=("big",))}, {"small": DOWN, "big": lambda: said("ok")})
    asked = Request("embeddings", "small", {"input": "x"}, Call("r"), route=bench.route("small"))
    with pytest.raises(ProviderError):
        await bench.run(asked)


async def test_a_template_is_the_last_resort_and_looks_like_an_answer():
    bench = Bench({"small": Fallbacks(errors=("big",), templates=(SORRY,))}, {"small": DOWN, "big": DOWN})
    response = await bench.run(metadata={"operation": "ask"})
    assert bench.order == ["small", "big"]
    document = json.loads(await response.read())
    assert document.pop("created") > 1_600_000_000
    assert document == {
        "id": "chatcmpl-req-1",
        "object": "chat.completion",
        "model": "small",
        "system_fingerprint": "penstock-template",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Sorry about Why?.", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }
    call = bench.asked.call
    assert call.degraded == ["template"]
    assert call.cache_status == ['Penstock-Exact; fwd=miss; detail="template"']
    assert call.usage == Usage()
    assert call.served is None
    assert [attempt.outcome for attempt in call.attempts] == ["upstream_error"] * 2


@pytest.mark.parametrize("trouble", [TOO_LONG, REFUSED])
async def test_no_template_for_what_the_client_can_mend(trouble):
    plan = Fallbacks(("big",), ("big",), templates=(SORRY,))
    bench = Bench({"small": plan}, {"small": trouble, "big": DOWN})
    with pytest.raises(ProviderError) as raised:
        await bench.run(metadata={"operation": "ask"})
    assert raised.value is trouble


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"metadata": {"operation": "ask"}}, "by operation"),
        ({"payload": {"messages": [], "metadata": {"operation": "ask"}}}, "by operation"),
        ({"tags": ("x", "t")}, "by tag"),
        ({"metadata": {"operation": "both"}, "tags": ("t",)}, "by both"),
        ({"metadata": {"operation": "both"}}, None),
        ({"metadata": {"operation": "common"}}, "common"),
        ({}, None),
    ],
)
async def test_the_first_template_that_fits(fields, expected):
    templates = (
        Template("by operation", operation="ask"),
        Template("by both", operation="both", tag="t"),
        Template("by tag", tag="t"),
    )
    common = Template("common", operation="common")
    bench = Bench({"small": Fallbacks(templates=(*templates, common))}, {"small": DOWN})
    if expected is None:
        with pytest.raises(ProviderError):
            await bench.run(**fields)
    else:
        assert await text(await bench.run(**fields)) == expected


async def test_templates_for_all_models_answer_for_those_without_any():
    bench = Bench({}, {"small": DOWN}, Fallbacks(templates=(SORRY,)))
    assert await text(await bench.run(metadata={"operation": "ask"})) == "Sorry about Why?."
    with pytest.raises(ProviderError):
        await bench.run()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{model} {operation}", "{model} {operation}"),
        ([{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": "b"}], "a\nb"),
        (None, ""),
    ],
)
async def test_what_a_client_says_is_text_and_nothing_else(content, expected):
    template = Template('{"q": "{question}", "m": "{model}", "o": "{operation}", "r": "{request_id}"}', operation="ask")
    bench = Bench({"small": Fallbacks(templates=(template,))}, {"small": DOWN})
    messages = [{"role": "user", "content": "old"}, {"role": "user", "content": content}, {"role": "assistant"}]
    response = await bench.run(payload={"messages": messages}, metadata={"operation": "ask"})
    assert await text(response) == f'{{"q": "{expected}", "m": "small", "o": "ask", "r": "req-1"}}'


async def test_a_legacy_completion_gets_one_and_so_does_a_stream():
    bench = Bench({"small": Fallbacks(templates=(SORRY,))}, {"small": DOWN})
    asked = Request(
        "completions",
        "small",
        {"prompt": "rain"},
        Call("r"),
        stream=True,
        metadata={"operation": "ask"},
        route=bench.route("small"),
    )
    response = await bench.run(asked)
    whole = json.loads(await response.read())
    assert (whole["object"], whole["choices"][0]["text"]) == ("text_completion", "Sorry about rain.")
    events: list[Event] = response.all_events()
    assert "".join(json.loads(event.data)["choices"][0]["text"] for event in events if not event.bare_usage)
    assert [event.finish_reason for event in events if event.finish_reason] == ["stop"]


async def hang():
    await asyncio.sleep(30)


async def test_a_model_that_does_not_begin_in_time_has_failed():
    plan = Fallbacks(errors=("big",), templates=(SORRY,), timeout_s=0.02)
    bench = Bench({"small": plan, "big": Fallbacks(timeout_s=0.02)}, {"small": hang, "big": hang})
    assert await text(await bench.run(metadata={"operation": "ask"})) == "Sorry about Why?."
    assert bench.order == ["small", "big"]
    first = bench.seen[0]
    assert first.begin_by is not None
    assert first.late(first.begin_by)
    assert not first.late(first.begin_by - 1)


async def test_only_what_is_followed_by_something_is_given_up():
    async def slow():
        await asyncio.sleep(0.06)
        return said("slow")

    plan = Fallbacks(context_window=("big",), templates=(SORRY,), timeout_s=0.02)
    bench = Bench({"small": plan}, {"small": slow})
    assert await text(await bench.run()) == "slow"  # no template fits
    bench = Bench({"small": Fallbacks(errors=("big",), timeout_s=0.02)}, {"small": hang, "big": slow})
    assert await text(await bench.run()) == "slow"  # nobody after it


async def test_a_timeout_inside_is_not_ours():
    async def broken():
        raise TimeoutError("disk")

    plan = Fallbacks(errors=("big",), timeout_s=5)
    with pytest.raises(TimeoutError, match="disk"):
        await Bench({"small": plan}, {"small": broken}).run()


async def test_what_begins_in_time_may_take_longer():
    async def slow_stream():
        return Response(source=slowly())

    async def slowly():
        events = chunks("a b c")
        yield events[:2]
        await asyncio.sleep(0.06)
        yield events[2:]

    bench = Bench({"small": Fallbacks(errors=("big",), timeout_s=0.03)}, {"small": slow_stream})
    assert await text(await bench.run(stream=True)) == "a b c"


@pytest.mark.parametrize("hanging", ["small", "big"])
async def test_the_deadline_ends_in_a_template_too(hanging):
    models = {"small": DOWN, "big": DOWN} | {hanging: hang}
    bench = Bench({"small": Fallbacks(errors=("big",), templates=(SORRY,))}, models)
    deadline = Deadline(0.05, SystemClock())
    request = bench.request(metadata={"operation": "ask"})
    response = await deadline(request, lambda inner: bench.layer(inner, bench.inner))
    assert await text(response) == "Sorry about Why?."
    assert request.call.cache_status == ['Penstock-Exact; fwd=miss; detail="template"']


async def test_without_a_template_the_deadline_is_over():
    bench = Bench({"small": Fallbacks(errors=("big",))}, {"small": hang})
    with pytest.raises(DeadlineExceeded):
        await Deadline(0.02, SystemClock())(bench.request(), lambda inner: bench.layer(inner, bench.inner))


async def test_a_client_that_leaves_gets_nothing():
    bench = Bench({"small": Fallbacks(errors=("big",), templates=(SORRY,))}, {"small": hang})
    running = asyncio.ensure_future(bench.run(metadata={"operation": "ask"}))
    await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert bench.order == ["small"]


async def test_no_other_model_without_time_left():
    bench = Bench({"small": Fallbacks(errors=("big",))}, {"small": DOWN})
    with pytest.raises(ProviderError):
        await bench.run(deadline=SystemClock().monotonic() + 0.001)
    assert bench.order == ["small"]


async def test_the_reasons_stand_in_front_of_those_from_inside():
    async def stale():
        bench.asked.call.degraded.append("stale-if-error")
        return said("old")

    bench = Bench({"small": Fallbacks(errors=("big",))}, {"small": DOWN, "big": stale})
    await bench.run()
    assert bench.asked.call.degraded == ["fallback-errors", "stale-if-error"]
