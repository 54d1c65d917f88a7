"""Through the whole pipeline, since what a cascade does is between the layers: caches outside, targets inside."""

import asyncio
import functools
import json
import sys
from decimal import Decimal
from random import Random

import pytest

from penstock.cascading.fitting import refreshed
from penstock.client import AsyncClient
from penstock.config.loader import load_mapping
from penstock.core.errors import InvalidRequest, ProviderError
from penstock.core.request import CacheDirectives
from penstock.core.usage import Usage
from penstock.routing.cascade.answers import Answer
from penstock.routing.cascade.learner import Learner
from penstock.testing import Reply, ScriptedProvider

KIND = {"kind": "openai-compatible", "base_url": "http://127.0.0.1:9/v1"}
PRICES = [
    {"provider": "near", "usd_per_million": {"input": 1, "output": 1}},
    {"provider": "far", "usd_per_million": {"input": 10, "output": 10}},
]
DOWN = ProviderError("broken", status_code=503, retryable=True)
SURE = "2 + 2 = 4. The answer is 4."
UNSURE = "I am not sure, but maybe it is 5? Actually, wait. I am sorry, I cannot determine it."


def config(*stages, **terms):
    return {
        "providers": [{"name": "near", **KIND}, {"name": "far", **KIND}],
        "models": [
            {"name": "small", "targets": [{"provider": "near", "model": "s"}]},
            {"name": "large", "targets": [{"provider": "far", "model": "l"}]},
            {"name": "smart", "cascade": {"stages": list(stages or ("small", "large")), "audits": 0, **terms}},
        ],
        "prices": PRICES,
        "retry": {"attempts": 1},
        "store": {"url": "memory:"},
    }


def learnt_from(number):
    """Plain answers are right, and hedged ones are not."""
    learner, chance = Learner(delta=1.0 - 0.95), Random(7)
    for each in range(number):
        hedged = chance.random() < 0.25
        answer = f"{UNSURE} {each}" if hedged else f"{each} + 2 = {each + 2}. The answer is {each + 2}."
        learner.audited(f"What is {each} + 2?", Answer(answer, "stop"), lost=hedged)
    return learner


@functools.cache
def taught():
    """Enough of that for a certificate; fitting takes a second."""
    learner = learnt_from(400)
    learner.refresh()
    assert learner.policy.certificate.holds
    return learner.dump()


class Bench:
    """A client, the two providers behind it, and what is certain of the small model."""

    def __init__(self, near=SURE, far="Four.", *stages, **terms):
        self.near, self.far = ScriptedProvider("near", near), ScriptedProvider("far", far)
        self.client = AsyncClient(config(*stages, **terms), providers={"near": self.near, "far": self.far})

    async def __aenter__(self):
        await self.client.open()
        return self

    async def __aexit__(self, *_):
        await self.client.aclose()

    @property
    def known(self):
        return self.client.shared.cascades.known["smart"]

    def certify(self):
        self.known.learners["small"].load(taught())
        return self

    def request(self, text="What is 2 + 2?", operation="chat", **fields):
        payload = {"messages": [{"role": "user", "content": text}], **fields.pop("payload", {})}
        return self.client.request(operation, "smart", payload, **fields)

    async def ask(self, text="What is 2 + 2?", **fields):
        """Return the call, and the answer's text."""
        request = self.request(text, **fields)
        response = await self.client.handle(request)
        body = json.loads(await response.read())
        return request.call, body["choices"][0]["message"]["content"]

    async def settled(self):
        """Wait until nothing is audited any more."""
        running = [task for task in self.client.shared.tasks._tasks if "cascade" in task.get_name()]
        await asyncio.gather(*(task for task in running if not task.get_name().startswith("keep")))


async def test_without_a_certificate_the_last_model_answers_and_the_first_is_not_asked():
    async with Bench() as bench:
        call, text = await bench.ask()
        assert (text, call.stage, call.verdict) == ("Four.", "large", "reason=uncertified, calls=1")
        assert bench.near.calls == 0


async def test_a_certified_answer_is_given_and_nobody_else_is_asked():
    async with Bench() as bench:
        bench.certify()
        call, text = await bench.ask()
        assert (text, call.stage, bench.far.calls) == (SURE, "small", 0)
        assert call.verdict.startswith("reason=accepted, calls=1, quality=0.9")
        assert call.usage is not None


async def test_an_answer_that_is_not_good_enough_costs_both_calls():
    async with Bench(UNSURE) as bench:
        bench.certify()
        call, text = await bench.ask()
        assert (text, call.stage) == ("Four.", "large")
        assert call.verdict.startswith("reason=escalated, calls=2, quality=0.")
        assert [attempt.provider for attempt in call.attempts] == ["near", "far"]
        assert call.served.provider == "far"


@pytest.mark.parametrize(
    ("reply", "payload"),
    [
        (Reply(text=SURE, finish_reason="length"), {}),
        ("", {}),
        ("The answer is {", {"response_format": {"type": "json_object"}}),
        (
            '{"answer": "4"}',
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "schema": {"properties": {"answer": {"type": "integer"}}}},
                }
            },
        ),
    ],
)
async def test_an_answer_of_the_wrong_form_is_never_given(reply, payload):
    async with Bench(reply, ["Four.", DOWN]) as bench:
        bench.certify()
        call, text = await bench.ask(payload=payload)
        assert (text, call.stage, call.verdict) == ("Four.", "large", "reason=unfit, calls=2")
        with pytest.raises(ProviderError):
            await bench.ask("Another, of the same kind?", payload=payload)


def calls_a_tool(name, arguments):
    call = {"id": "1", "type": "function", "function": {"name": name, "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    return Reply(body=json.dumps({"object": "chat.completion", "choices": [choice]}).encode())


TOOL = {"type": "function", "function": {"name": "add", "parameters": {"required": ["a"], "type": "object"}}}


@pytest.mark.parametrize(
    ("name", "arguments", "fits"),
    [("add", '{"a": 1}', True), ("add", "{}", False), ("add", "{", False), ("sub", '{"a": 1}', False)],
)
async def test_calls_of_tools_must_fit_the_tools(name, arguments, fits):
    async with Bench(calls_a_tool(name, arguments)) as bench:
        bench.certify()
        call, _ = await bench.ask(payload={"tools": [TOOL]})
        assert ("reason=unfit" in call.verdict) is not fits


async def test_of_several_choices_the_worst_one_counts():
    said = [{"message": {"content": text}, "finish_reason": "stop"} for text in (SURE, UNSURE)]
    choices = [{"index": index, **each} for index, each in enumerate(said)]
    body = json.dumps({"object": "chat.completion", "choices": choices}).encode()
    async with Bench(Reply(body=body)) as bench:
        bench.certify()
        call, text = await bench.ask(payload={"n": 2})
        assert (text, call.stage) == ("Four.", "large")


async def test_when_the_first_model_fails_the_next_one_answers():
    async with Bench(DOWN) as bench:
        bench.certify()
        call, text = await bench.ask()
        assert (text, call.stage, call.verdict) == ("Four.", "large", "reason=failed, calls=2")
        assert not call.degraded


async def test_when_the_last_model_fails_the_answer_there_is_is_given_and_marked_and_not_kept():
    async with Bench(UNSURE, [DOWN, "Four."]) as bench:
        bench.certify()
        call, text = await bench.ask()
        assert (text, call.stage, call.degraded) == (UNSURE, "small", ["cascade"])
        assert call.verdict.startswith("reason=fallback, calls=2, quality=")
        assert call.served.provider == "near"
        call, text = await bench.ask()
        assert (text, call.cache, call.degraded) == ("Four.", "miss", []), "the better answer was there to be had"


async def test_a_client_that_wants_no_fallback_gets_the_error():
    async with Bench(UNSURE, DOWN) as bench:
        bench.certify()
        with pytest.raises(ProviderError, match="broken"):
            await bench.ask(fallback=False)


async def test_when_all_fail_the_error_is_the_last_models():
    async with Bench(DOWN, ProviderError("burnt", status_code=500)) as bench:
        bench.certify()
        with pytest.raises(ProviderError, match="burnt"):
            await bench.ask()


async def test_when_time_runs_out_the_answer_there_is_is_given():
    async with Bench(UNSURE, Reply(gate=asyncio.Event())) as bench:
        bench.certify()
        call, text = await bench.ask(timeout_s=0.4)
        assert (text, call.degraded) == (UNSURE, ["cascade"])
        assert [attempt.outcome for attempt in call.attempts] == ["ok", "upstream_timeout"]
        assert bench.far.endings == ["closed"]


async def test_a_first_model_that_hangs_leaves_half_of_the_time_to_the_next():
    async with Bench(Reply(gate=asyncio.Event())) as bench:
        bench.certify()
        call, text = await bench.ask(timeout_s=0.4)
        assert (text, call.verdict, call.degraded) == ("Four.", "reason=failed, calls=2", [])
        assert [attempt.outcome for attempt in call.attempts] == ["upstream_timeout", "ok"]
        assert bench.near.endings == ["closed"]


async def test_a_client_that_leaves_ends_what_runs():
    async with Bench(UNSURE, Reply(gate=asyncio.Event())) as bench:
        bench.certify()
        asked = asyncio.create_task(bench.ask())
        await bench.far.wait_for_calls(1)
        asked.cancel()
        await asyncio.wait([asked])
        assert (bench.near.endings, bench.far.endings) == (["finished"], ["closed"])


async def test_a_stream_gets_a_first_models_answer_in_one_piece_and_the_lasts_live():
    gate = asyncio.Event()
    async with Bench([SURE, UNSURE], Reply(text="One two three.", gates={2: gate})) as bench:
        bench.certify()
        response = await bench.client.handle(bench.request(stream=True))
        assert b"The answer is 4." in await response.read()
        assert not bench.near.requests[0].stream
        live = await bench.client.handle(bench.request("And 3 + 3?", stream=True))
        first = await anext(aiter(live))
        assert b"One" in b"".join(event.data for event in first) or not live.whole
        gate.set()
        await live.aclose()


GREETING = {"filter": {"name": "greeting", "rules": [{"words": ["hello"]}], "answer": "Hello. Ask me something."}}
HARD = {"filter": {"name": "hard", "rules": [{"words": ["prove"]}], "skip_to": "large"}}


async def test_a_filter_answers_without_a_model():
    async with Bench(SURE, "Four.", GREETING, HARD, "small", "large") as bench:
        bench.certify()
        call, text = await bench.ask("Hello!")
        assert (text, call.stage, call.verdict) == ("Hello. Ask me something.", "greeting", "reason=filter, calls=0")
        assert (call.attempts, call.usage, call.finish_reason) == ([], Usage(), "stop")
        call, _ = await bench.ask("Prove it.")
        assert (call.stage, call.verdict, bench.near.calls) == ("large", "reason=filter, calls=1", 0)
        call, _ = await bench.ask("What is 2 + 2?")
        assert call.stage == "small"


async def test_a_filter_before_one_model_needs_no_certificate():
    async with Bench(SURE, "Four.", GREETING, "large") as bench:
        assert (await bench.ask("Hello!"))[0].stage == "greeting"
        assert (await bench.ask("What?"))[0].verdict == "reason=passed, calls=1"


async def test_embeddings_are_refused():
    async with Bench() as bench:
        request = bench.client.request("embeddings", "smart", {"input": "a"})
        with pytest.raises(InvalidRequest, match="ask one of them"):
            await bench.client.handle(request)


async def test_an_accepted_answer_is_cached_under_the_alias_and_shared():
    gate = asyncio.Event()
    async with Bench(Reply(text=SURE, gate=gate)) as bench:
        bench.certify()
        both = [asyncio.ensure_future(bench.ask()) for _ in range(2)]
        await bench.near.wait_for_calls(1)
        gate.set()
        calls = [call for call, _ in await asyncio.gather(*both)]
        assert [call.stage for call in calls] == ["small", "small"]
        assert sorted(call.cache for call in calls) == ["collapsed", "miss"]
        again, _ = await bench.ask()
        assert (again.cache, again.stage, bench.near.calls) == ("hit", "", 1)


async def test_requests_for_models_that_are_no_cascades_pass():
    async with Bench() as bench:
        request = bench.client.request("chat", "small", {"messages": [{"role": "user", "content": "Hi."}]})
        await bench.client.handle(request)
        assert (request.call.stage, bench.near.calls) == ("", 1)


async def test_audits_put_requests_to_all_models_in_the_background():
    async with Bench(SURE, SURE, audits=1) as bench:
        call, _ = await bench.ask(tenant="acme")
        await bench.settled()
        audit = bench.near.requests[0]
        assert (audit.tenant, audit.call.id) == ("acme", f"{call.id}-audit")
        assert audit.metadata["operation"] == "penstock-audit"
        assert (bench.known.counts.audits, bench.known.counts.audits_failed) == (1, 0)
        assert bench.known.counts.audit_pusd > 0
        bench.certify()
        await bench.ask(tenant="acme", cache=CacheDirectives(no_cache=True))
        await bench.settled()
        assert bench.far.requests[-1].call.id.endswith("-audit"), (
            "the last model's answer is what others are measured by"
        )


async def test_a_cascade_learns_from_audits_and_comes_to_trust_the_first_model():
    async with Bench(audits=1, max_error=0.2) as bench:
        bench.near._replies = bench.far._replies = [Reply(text="The answer is 4.")]
        for number in range(110):
            await bench.ask(f"What is 2 + 2, for the time number {number}?")
            await bench.settled()
        assert (await bench.ask())[0].verdict.startswith("reason=accepted")


async def test_audits_that_contradict_the_certificate_bring_the_last_model_back():
    async with Bench(SURE, "The answer is 7.", audits=1) as bench:
        bench.certify()
        verdicts = []
        for _ in range(40):
            call, _ = await bench.ask(cache=CacheDirectives(no_cache=True))
            verdicts.append(call.verdict.split(",")[0])
            await bench.settled()
        assert (verdicts[0], verdicts[-1]) == ("reason=accepted", "reason=drifted")


async def test_what_differs_or_cannot_be_compared_is_worse():
    async with Bench("The answer is 5.", "The answer is 4.", audits=1) as bench:
        await bench.ask()
        await bench.settled()
        [example] = bench.known.learners["small"]._fitting
        assert example.lost == 1.0


async def test_an_audit_that_fails_teaches_nothing():
    async with Bench(DOWN, "Four.", audits=1) as bench:
        await bench.ask()
        await bench.settled()
        assert bench.known.counts.audits_failed == 1
        assert not bench.known.learners["small"]._fitting


async def test_counts_say_what_was_saved():
    async with Bench([Reply(text=SURE, usage=Usage(1000, 1000)), Reply(text=UNSURE, usage=Usage(1000, 1000))]) as bench:
        await bench.client.shared.loading
        bench.certify()
        await bench.ask()
        counts = bench.known.counts
        assert Decimal(counts.saved_pusd).scaleb(-12) == Decimal("0.018"), "0.020 there, 0.002 here"
        await bench.ask("Again?")
        assert Decimal(counts.saved_pusd).scaleb(-12) == Decimal("0.016"), "the small model was asked in vain"
        assert (counts.requests, counts.stages, counts.escalated) == (2, {"small": 1, "large": 1}, 1)


async def test_what_was_learnt_survives_a_restart_unless_a_model_changes(tmp_path):
    settings = {**config(), "store": {"url": f"sqlite:///{tmp_path}/p.db"}}

    async def verdict(settings, train=False):
        near, far = ScriptedProvider("near", SURE), ScriptedProvider("far", "Four.")
        bench = Bench()
        bench.client = AsyncClient(settings, providers={"near": near, "far": far})
        async with bench:
            if train:
                bench.certify()
            call, _ = await bench.ask(cache=CacheDirectives(no_cache=True))
            return call.verdict.split(",")[0]

    assert await verdict(settings) == "reason=uncertified"
    assert await verdict(settings, train=True) == "reason=accepted"
    assert await verdict(settings) == "reason=accepted"
    settings["models"][0]["targets"][0]["model"] = "other"
    assert await verdict(settings) == "reason=uncertified"


async def test_fitting_in_another_process_comes_to_the_same(monkeypatch):
    learner = learnt_from(100)
    elsewhere = await refreshed(learner)
    assert elsewhere is not learner
    assert elsewhere.policy.verifier.labels > 0
    monkeypatch.setattr(sys, "executable", "/nowhere")
    assert await refreshed(learner) is learner, "by a thread"
    one, other = elsewhere.policy, learner.policy
    assert (one.certificate.labels, one.certificate.holds) == (other.certificate.labels, other.certificate.holds)
    assert one.verifier.prospect("What is 2 + 2?") == pytest.approx(other.verifier.prospect("What is 2 + 2?"))


async def test_metrics_say_who_answered_and_whether_anything_is_certified():
    async with Bench() as bench:

        def shown():
            return bench.client.shared.metrics.exposition()[0].decode()

        await bench.ask()
        assert 'penstock_cascade_answers{model="smart",stage="large"} 1.0' in shown()
        assert 'penstock_cascade_certified{model="smart",stage="small"} 0.0' in shown()
        bench.certify()
        assert 'penstock_cascade_certified{model="smart",stage="small"} 1.0' in shown()


CONFIDENCE = 0.8999999999999999
"""Half of the risk is what `taught` was certified for, to the last digit."""


async def test_of_three_models_each_earlier_one_has_half_of_the_errors_and_the_first_good_answer_is_given():
    settings = config("small", "medium", "large", max_error=0.04, confidence=CONFIDENCE, audits=1)
    settings["models"].insert(1, {"name": "medium", "targets": [{"provider": "near", "model": "m"}]})
    bench = Bench([UNSURE, SURE], SURE)
    bench.client = AsyncClient(settings, providers={"near": bench.near, "far": bench.far})
    async with bench:
        for learner in bench.known.learners.values():
            assert learner.alpha == 0.02
            learner.load(taught())
        call, text = await bench.ask()
        assert (text, call.stage) == (SURE, "medium")
        assert call.verdict.startswith("reason=accepted, calls=2")
        await bench.settled()
        assert [target.model for target in bench.far.targets] == ["l"], "the audit asks whoever has not answered"
        assert bench.near.calls == 2


async def test_a_reload_keeps_what_was_learnt():
    async with Bench() as bench:
        bench.certify()
        await bench.ask()
        await bench.client.reload(load_mapping(config(audits=0.5), environ={}, probe=False))
        assert bench.known.cascade.audits == 0.5
        assert bench.known.counts.requests == 1
        call, _ = await bench.ask(cache=CacheDirectives(no_cache=True))
        assert call.verdict.startswith("reason=accepted")
        await bench.client.reload(load_mapping(config("large", "small"), environ={}, probe=False))
        assert (await bench.ask("What is 4 + 2?"))[0].stage == "small", "nothing is known of the large one"


@pytest.mark.parametrize(("said", "learnt"), [("SAME", [0.0]), ("DIFFERENT", [1.0]), ("I cannot say.", [])])
async def test_a_judge_compares_what_rules_cannot_and_leaves_out_what_it_does_not_decide(said, learnt):
    terms = {"labels": ["exact", "judge"], "judge": {"model": "large"}, "audits": 1}
    async with Bench("It is a colour.", ["A colour, I believe.", said], **terms) as bench:
        await bench.ask("What is blue?", tenant="acme")
        await bench.settled()
        assert [example.lost for example in bench.known.learners["small"]._fitting] == learnt
        assert bench.known.counts.unlabelled == (not learnt)
        assert bench.far.requests[-1].metadata["operation"] == "penstock-judge"
        assert bench.far.requests[-1].tenant == "acme"
