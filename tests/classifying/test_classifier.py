import asyncio
import json
from decimal import Decimal

import pytest

from penstock import (
    AsyncClient,
    BudgetExceeded,
    Classification,
    Classifier,
    Client,
    ConfigError,
    DeadlineExceeded,
    Gate,
    InvalidRequest,
    ModelStage,
    ProviderError,
    Rules,
    Usage,
)
from penstock.testing import FakeClock, Reply, ScriptedProvider

LABELS = ["hiring", "funding"]
CONFIG = {
    "providers": [
        {"name": name, "kind": "openai-compatible", "base_url": "http://127.0.0.1:9/v1"} for name in ("near", "far")
    ],
    "models": [
        {"name": "small", "targets": [{"provider": "near", "model": "s"}]},
        {"name": "large", "targets": [{"provider": "far", "model": "l"}]},
    ],
    "prices": [
        {"provider": "near", "usd_per_million": {"input": 0, "output": 100}},
        {"provider": "far", "usd_per_million": {"input": 0, "output": 1000}},
    ],
    "store": {"url": "memory:"},
    "retry": {"attempts": 1},
}
SCREENED = (ModelStage("small", verify=Gate(drop_below=30)), ModelStage("large"))


def said(label, score=90, **more):
    return Reply(text=json.dumps({"label": label, "score": score, **more}), usage=Usage(5, 10))


class Models:
    """A small and a large model that say what they are told, and a client that asks them."""

    def __init__(self, small=None, large=None, **changes):
        self.small = ScriptedProvider("near", small or said("hiring"))
        self.large = ScriptedProvider("far", large or said("funding"))
        clock = changes.pop("clock", None)
        self.client = AsyncClient({**CONFIG, **changes}, providers={"near": self.small, "far": self.large}, clock=clock)

    def classifier(self, *stages, **more):
        return Classifier(self.client, stages=stages or SCREENED, labels=LABELS, **more)


async def test_a_rule_needs_no_model():
    models = Models()
    async with models.client:
        classifier = models.classifier(Rules(keywords={"funding": ["series A"]}), *SCREENED)
        found = await classifier.classify("They closed their Series A.")
    assert (found.label, found.stage, found.score, found.model_calls, found.cost_usd) == ("funding", "rules", 100, 0, 0)
    assert models.small.calls == models.large.calls == 0


async def test_what_the_small_model_scores_low_is_dropped():
    models = Models(small=said("hiring", 29))
    async with models.client:
        found = await models.classifier().classify("Nice weather.")
        again = await models.classifier().classify("Nice weather.")
    assert (found.label, found.dropped, found.stage, found.score) == ("not relevant", True, "small", 29)
    assert (found.model_calls, found.cost_usd, found.cached) == (1, Decimal("0.001"), False)
    assert (again.label, again.model_calls, again.cost_usd, again.cached) == ("not relevant", 0, 0, True)
    assert models.large.calls == 0


async def test_the_large_model_sees_what_is_left():
    models = Models(small=said("hiring", 30))
    async with models.client:
        found = await models.classifier().classify("We may hire.")
    assert (found.label, found.stage, found.cost_usd) == ("funding", "large", Decimal("0.011"))
    assert [(step.stage, step.decision) for step in found.steps] == [("small", "pass"), ("large", "accept")]


async def test_a_sure_small_model_is_believed():
    models = Models(small=said("hiring", 95))
    async with models.client:
        gate = Gate(drop_below=30, accept_from=90)
        found = await models.classifier(ModelStage("small", verify=gate), ModelStage("large")).classify("We hire.")
    assert (found.label, found.stage) == ("hiring", "small")
    assert models.large.calls == 0


async def test_the_last_opinion_counts_when_nobody_is_left():
    models = Models(small=said("hiring", 50))
    async with models.client:
        found = await models.classifier(
            ModelStage("small", verify=Gate(accept_from=90)), Rules(keywords={"funding": ["money"]})
        ).classify("We hire.")
    assert (found.label, found.stage) == ("hiring", "small")


async def test_a_stage_that_says_the_label_of_dropped_texts_drops():
    models = Models()
    async with models.client:
        classifier = models.classifier(Rules(keywords={"spam": ["lottery"]}), *SCREENED, dropped="spam")
        found = await classifier.classify("Win the lottery!")
    assert (found.label, found.dropped, found.stage) == ("spam", True, "rules")


async def test_what_is_asked():
    models = Models(large=said("funding", urgency="high"))
    fields = {"urgency": {"type": "string", "enum": ["low", "high"]}}
    stages = (
        ModelStage("small", verify=Gate(drop_below=30), fields={}, options={"max_tokens": 50}),
        ModelStage("large", instructions="Is it {labels}?", options=lambda text: {"num_ctx": 512 * len(text)}),
    )
    async with models.client:
        found = await models.classifier(*stages, fields=fields, tenant="acme/leads", tags=["l"]).classify("Four")
    assert found.fields == {"urgency": "high"}
    small, large = models.small.requests[0], models.large.requests[0]
    assert (small.tenant, small.tags, small.payload["max_tokens"]) == ("acme/leads", ("l",), 50)
    assert large.payload["num_ctx"] == 2048
    system, user = large.payload["messages"]
    assert user == {"role": "user", "content": "Four"}
    assert system["content"].startswith("Is it hiring, funding?\n")
    assert '"urgency"' in system["content"]
    schemas = [each.payload["response_format"]["json_schema"]["schema"]["properties"] for each in (small, large)]
    assert [sorted(each) for each in schemas] == [["label", "score"], ["label", "score", "urgency"]]


async def test_a_stored_prompt_in_place_of_instructions():
    prompts = {
        "signal": {
            "versions": {
                version: {"system": f"Version {version}: {{{{ labels }}}}. {{{{ form }}}}", "user": "{{ text }}"}
                for version in ("1", "2")
            },
            "labels": {"production": "2"},
            "variables": {"text": "string", "labels": "string", "form": "string"},
        }
    }
    models = Models(large=[said("sales"), said("hiring"), said("funding")], prompts={"built_in": prompts})
    async with models.client:
        found = await models.classifier(ModelStage("large", prompt="signal")).classify("We {{ hire }}.")
        old = await models.classifier(ModelStage("large", prompt="signal@1")).classify("We hire.")
    assert (found.label, found.steps[0].prompt, old.steps[0].prompt) == ("hiring", "signal@2", "signal@1")
    system, user, answer, correction = models.large.requests[1].payload["messages"]
    assert system["content"].startswith("Version 2: hiring, funding. Answer with one JSON object")
    assert user["content"] == "We {{ hire }}."
    assert (answer["role"], correction["role"]) == ("assistant", "user")
    assert models.large.requests[1].call.id == found.request_id != ""


async def test_a_label_outside_the_set_is_repaired_once():
    models = Models(large=[said("sales"), said("hiring")])
    async with models.client:
        found = await models.classifier(ModelStage("large")).classify("We hire.")
    assert (found.label, found.model_calls, found.steps[0].repaired) == ("hiring", 2, True)
    assert found.cost_usd == Decimal("0.02")
    *_, answer, correction = models.large.requests[1].payload["messages"]
    assert answer == {"role": "assistant", "content": said("sales").text}
    assert 'not "sales"' in correction["content"]


async def test_a_second_wrong_answer_is_an_error_of_the_text():
    models = Models(large=said("sales"))
    async with models.client:
        classifier = models.classifier(ModelStage("large"))
        with pytest.raises(ProviderError, match=r'asked twice .* not "sales"') as caught:
            await classifier.classify("We sell.")
        (found,) = await classifier.classify_many(["We buy."])
    assert caught.value.code == "upstream_invalid"
    assert (found.label, found.error.code, found.cost_usd, found.model_calls) == (
        None, "upstream_invalid", Decimal("0.02"), 2,
    )  # fmt: skip


async def test_a_small_model_that_fails_is_made_up_for():
    models = Models(small=ProviderError("down", retryable=True))
    async with models.client:
        found = await models.classifier().classify("We hire.")
    assert (found.label, found.stage) == ("funding", "large")
    assert (found.steps[0].decision, str(found.steps[0].error)) == ("failed", "down")


async def test_a_stage_says_that_another_model_stood_in():
    large = {**CONFIG["models"][1], "fallbacks": {"errors": ["small"]}}
    models = Models(large=ProviderError("down", retryable=True), models=[CONFIG["models"][0], large])
    async with models.client:
        found = await models.classifier(ModelStage("large")).classify("Hiring")
        plain = await models.classifier(ModelStage("small")).classify("Hiring")
    assert (found.label, found.steps[0].degraded, plain.steps[0].degraded) == ("hiring", ("fallback-errors",), ())


async def test_a_request_that_is_wrong_is_not_asked_elsewhere():
    models = Models()
    async with models.client:
        with pytest.raises(InvalidRequest, match="nowhere"):
            await models.classifier(ModelStage("nowhere", verify=Gate(30)), ModelStage("large")).classify("We hire.")
    assert models.large.calls == 0


@pytest.mark.parametrize(
    "refusal",
    [
        ProviderError("This response_format type is unavailable now", status_code=400),
        ProviderError("unknown field", param="response_format", status_code=422),
    ],
)
async def test_a_provider_that_takes_no_schema_is_asked_in_words(refusal):
    models = Models(large=[refusal, said("hiring"), said("funding")])
    async with models.client:
        classifier = models.classifier(ModelStage("large"))
        found = [await classifier.classify(text) for text in ("one", "two")]
    assert [each.label for each in found] == ["hiring", "funding"]
    assert ["response_format" in each.payload for each in models.large.requests] == [True, False, False]


async def test_a_cascade_is_a_model_like_any_other():
    smart = {"name": "smart", "cascade": {"stages": ["small", "large"], "audits": 0}}
    models = Models(models=[*CONFIG["models"], smart])
    async with models.client:
        found = await models.classifier(ModelStage("smart")).classify("We hire.")
    assert (found.label, found.stage) == ("funding", "smart")  # nothing is certified yet, so the large one decides
    assert found.cost_usd == Decimal("0.01")


async def test_another_refusal_is_an_error():
    models = Models(large=ProviderError("no such model", status_code=404))
    async with models.client:
        with pytest.raises(ProviderError, match="no such model"):
            await models.classifier(ModelStage("large")).classify("We hire.")
    assert models.large.calls == 1


def copy(each):
    return each if isinstance(each, Classification) else json.loads(json.dumps(each.value))


async def test_a_stream_shows_what_is_known_so_far():
    whole = json.dumps({"label": "hiring", "score": 80, "why": "they say so"})
    pieces = ['{"label": "hir', 'ing", "sco', 're": 80', ', "why": "they', ' say so"}']
    assert "".join(pieces) == whole
    models = Models(large=Reply(text=whole, pieces=pieces), cache={"coalesce": False})
    fields = {"why": {"type": "string"}}
    async with models.client:
        stream = models.classifier(ModelStage("large"), fields=fields).stream("We hire.")
        *parts, found = [
            json.loads(json.dumps(e.value)) if not isinstance(e, Classification) else e async for e in stream
        ]
    assert parts == [
        {"label": "hir"},
        {"label": "hiring"},
        {"label": "hiring"},
        {"label": "hiring", "score": 80, "why": "they"},
        {"label": "hiring", "score": 80, "why": "they say so"},
    ]
    assert (found.label, found.fields, found.model_calls) == ("hiring", {"why": "they say so"}, 1)


async def test_a_stream_that_is_no_json_is_repaired_too():
    models = Models(large=[Reply(text="Well, {that} is hiring"), said("hiring")])
    async with models.client:
        *_, found = [each async for each in models.classifier(ModelStage("large")).stream("We hire.")]
    assert (found.label, found.steps[0].repaired) == ("hiring", True)


async def test_a_stream_that_is_closed_closes_the_call():
    models = Models(large=Reply(text='{"label": "hiring", "score": 1}', gates={2: asyncio.Event()}))
    async with models.client:
        stream = models.classifier(ModelStage("large")).stream("We hire.")
        await anext(stream)
        await stream.aclose()
        await models.large.wait_for_endings(1)
    assert models.large.endings == ["closed"]


async def test_many_texts_keep_their_order_and_their_errors():
    models = Models(large=[said("hiring"), said("sales"), said("sales"), said("funding")])
    told = []
    async with models.client:
        found = await models.classifier(ModelStage("large")).classify_many(
            ["a", "b", "c", "a"], concurrency=1, on_progress=told.append
        )
    assert [each.label for each in found] == ["hiring", None, "funding", "hiring"]
    assert [each.cached for each in found] == [False, False, False, True]
    assert [(each.done, each.total, each.failed) for each in told] == [(1, 4, 0), (2, 4, 1), (3, 4, 1), (4, 4, 1)]
    assert told[-1].cost_usd == Decimal("0.04")


async def test_no_more_than_so_many_at_once():
    gate = asyncio.Event()
    models = Models(large=Reply(text=said("hiring").text, gate=gate))
    async with models.client:
        classifier = models.classifier(ModelStage("large"))
        work = asyncio.create_task(classifier.classify_many([str(number) for number in range(20)], concurrency=3))
        await models.large.wait_for_calls(3)
        for _ in range(50):
            await asyncio.sleep(0)
        assert models.large.calls == 3
        gate.set()
        assert len(await work) == 20


async def test_repetitions_wait_for_the_cache_and_take_nobodys_place():
    models = Models(large=said("hiring"))
    async with models.client:
        found = await models.classifier(ModelStage("large")).classify_many(["a"] * 50 + ["b", "c"], concurrency=2)
    assert models.large.calls == 3
    assert sum(each.cached for each in found) == 49


async def test_what_is_late_or_too_dear_is_an_error_in_its_place():
    clock = FakeClock()
    models = Models(large=[said("hiring"), said("hiring"), Reply(gate=asyncio.Event())], clock=clock)
    async with models.client:
        classifier = models.classifier(ModelStage("large", options={"max_tokens": 10}))
        found = await classifier.classify_many(["a", "b", "c"], concurrency=1, budget_usd="0.02")
        assert [type(each.error) for each in found] == [type(None), type(None), BudgetExceeded]
        work = asyncio.create_task(classifier.classify_many(["a", "d", "e"], concurrency=1, timeout_s=5))
        while not work.done():
            await clock.run(1)
        late = await work
    assert [type(each.error) for each in late] == [type(None), DeadlineExceeded, DeadlineExceeded]


async def test_an_empty_batch():
    models = Models()
    async with models.client:
        assert await models.classifier().classify_many([]) == []
        with pytest.raises(ValueError, match="concurrency"):
            await models.classifier().classify_many(["a"], concurrency=0)


async def test_what_the_applications_functions_get_wrong_fails_the_text_only():
    models = Models()

    def decide(text):
        return {"a": "hiring", "b": "sales"}[text]

    async with models.client:
        found = await models.classifier(Rules(decide=decide)).classify_many(["a", "b", "c"])
        odd = await models.classifier(ModelStage("large", verify=lambda _: "maybe")).classify_many(["d"])
    assert [each.label for each in found] == ["hiring", None, None]
    assert "'sales' is none of the labels" in str(found[1].error)
    assert isinstance(found[2].error, KeyError)
    assert "accept, drop or pass" in str(odd[0].error)


async def test_no_rule_and_no_model_is_an_error():
    models = Models()
    async with models.client:
        with pytest.raises(ProviderError, match="no stage has said anything"):
            await models.classifier(Rules(keywords={"hiring": ["job"]})).classify("Weather.")


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"labels": []}, "labels"),
        ({"labels": ["a", " "]}, "labels"),
        ({"labels": ["a", "A"]}, "labels"),
        ({"stages": []}, "stages"),
        ({"stages": [ModelStage("large"), ModelStage("large")]}, "stages"),
        ({"stages": [ModelStage("small"), ModelStage("large")]}, "stages[0].verify"),
        ({"stages": [Rules(keywords={"sales": ["buy"]})]}, "stages[0]"),
        ({"fields": {"score": {}}}, "fields"),
    ],
)
def test_classifiers_that_cannot_be(changes, key):
    given = {"stages": [ModelStage("large")], "labels": LABELS, **changes}
    with pytest.raises(ConfigError) as caught:
        Classifier(AsyncClient(CONFIG), **given)
    assert caught.value.key == key


def test_the_blocking_face():
    config = {
        "providers": [{"name": "sim", "kind": "simulated", "latency": {"first_token_s": 0, "tokens_per_s": 0}}],
        "models": [{"name": "*", "targets": [{"provider": "sim", "model": "sim"}]}],
        "store": {"url": "memory:"},
    }
    told = []
    with Client(config) as client:
        classifier = client.classifier(stages=[ModelStage("large")], labels=LABELS)
        found = classifier.classify("We hire.")
        *parts, streamed = classifier.stream("We hire.")
        many = classifier.classify_many(["We hire.", "We fund."], on_progress=told.append)
    assert found.label == streamed.label == many[0].label
    assert found.label in LABELS
    assert parts[-1].fields["label"] == found.label
    assert told[-1].done == 2
