from __future__ import annotations

import asyncio
from typing import Any

from penstock.core.errors import ProviderError
from penstock.core.request import Request
from penstock.embedders.lexical import LexicalEmbedder
from penstock.matching.labels.allowance import Allowance
from penstock.matching.labels.chain import BY_EXACT, BY_RULE, ByJudge, ByVector, Case, Chain, Label, Said
from penstock.matching.labels.judge import Judge
from penstock.testing.clock import FakeClock

PROSE = ("The sky scatters blue light most of all.", "Most of all, blue light is scattered up there in the air.")


def case(answer: str, fresh: str) -> Case:
    return Case("Why is the sky blue?", "What makes the sky blue?", answer, fresh)


class Model:
    """A judge model that always says the same."""

    def __init__(self, says: str, cost_pusd: int | None = 7) -> None:
        self.says, self.cost_pusd = says, cost_pusd
        self.asked: list[dict[str, Any]] = []

    async def __call__(self, payload: dict[str, Any], _behalf: Request | None) -> Said:
        self.asked.append(payload)
        if self.says == "fails":
            raise ProviderError("it is down", code="upstream_connect", status_code=502)
        return Said(self.says, self.cost_pusd)


def judged(says: str, **options: Any) -> tuple[Model, Allowance, Chain]:
    model, allowance = Model(says), Allowance(options.pop("per_minute", 30), None, FakeClock())
    return model, allowance, Chain([BY_EXACT, BY_RULE, ByJudge(Judge("smart", **options), allowance, model)])


def test_the_first_that_can_say_decides_and_is_named() -> None:
    model, _, chain = judged("DIFFERENT")
    run = asyncio.run
    assert run(chain.label(case("It is 18.", "it is  18"))) == Label(same=True, source="exact")
    assert run(chain.label(case("18", "18.0"))) == Label(same=True, source="rule")
    assert not model.asked
    assert run(chain.label(case(*PROSE))) == Label(same=False, source="judge", cost_pusd=7)
    assert chain.counts == {
        ("exact", "same"): 1, ("exact", "unknown"): 2, ("rule", "same"): 1, ("rule", "unknown"): 1,
        ("judge", "different"): 1,
    }  # fmt: skip


def test_users_choose_who_says_and_in_which_order() -> None:
    model = Model("DIFFERENT")
    chain = Chain([ByJudge(Judge("smart"), Allowance(30, None, FakeClock()), model), BY_EXACT])
    assert asyncio.run(chain.label(case("same", "same"))) == Label(same=False, source="judge", cost_pusd=7)


def test_vectors_of_answers_say_what_rules_cannot() -> None:
    chain = Chain([BY_EXACT, BY_RULE, ByVector(LexicalEmbedder())])
    near = case("You can return an item within 30 days.", "You can return items within 30 days!")
    assert asyncio.run(chain.label(near)) == Label(same=True, source="answers")
    far = case("Shares of the company fell sharply.", "Our opening hours are on the door.")
    assert asyncio.run(chain.label(far)) == Label(same=False, source="answers")
    assert asyncio.run(chain.label(case(*PROSE))) is None
    assert asyncio.run(chain.label(case("sky " * 10_000, "sky " * 10_000 + "door"))) is None


def test_when_the_judge_cannot_be_asked_there_is_no_label_and_it_is_counted() -> None:
    for says, options, said in (
        ("fails", {}, {"failed": 1, "asked": 1}),
        ("I would say so.", {}, {"unreadable": 1, "asked": 1, "cost_pusd": 7}),
        ("SAME", {"max_chars": 10}, {"too_long": 1}),
    ):
        _, allowance, chain = judged(says, **options)
        assert asyncio.run(chain.label(case(*PROSE))) is None
        counts = allowance.counts
        assert {name: value for name in counts.__struct_fields__ if (value := getattr(counts, name))} == said
    _, allowance, chain = judged("SAME", per_minute=1)
    assert asyncio.run(chain.label(case(*PROSE))) is not None
    assert asyncio.run(chain.label(case(*PROSE))) is None
    assert (allowance.counts.same, allowance.counts.busy) == (1, 1)


def test_one_that_fails_is_passed_over() -> None:
    judge = ByJudge(Judge("smart"), Allowance(30, None, FakeClock()), Model("fails"))
    chain = Chain([judge, BY_RULE])
    assert asyncio.run(chain.label(case("18", "19"))) == Label(same=False, source="rule")
    assert chain.counts["judge", "failed"] == 1
