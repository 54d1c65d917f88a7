from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import product
from random import Random

from penstock.abc import Vector
from penstock.embedders.lexical import LexicalEmbedder
from penstock.matching.evaluation import evaluate, play
from penstock.matching.policy import Policy

VERBS = ("repair", "clean", "replace", "paint", "sell", "borrow")
THINGS = ("password", "invoice", "router", "garden", "passport", "kettle", "camera", "bicycle")
FRAMES = ("How do I {} the {}?", "How can I {} the {}?", "how do i {} the {}", "How do you {} the {}?")


class PlainEmbedder:
    name = LexicalEmbedder.name

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        return [LexicalEmbedder().embed_one(text) for text in texts]


def questions(seed: int = 0, count: int = 1500) -> list[tuple[str, Hashable]]:
    """Return questions of which many differ in their frame only; the answer is named by verb and thing."""
    chance = Random(seed)
    every = [(frame.format(*each), each) for frame, each in product(FRAMES, product(VERBS, THINGS))]
    return chance.choices(every, k=count)


def test_every_request_is_counted_and_paraphrases_are_served() -> None:
    outcome = evaluate(questions(), LexicalEmbedder(), 0.05)
    assert outcome.served + outcome.missed == 1500
    assert outcome.wrong <= 0.05 * outcome.served
    assert outcome.served > 300
    assert outcome.audits <= outcome.served
    assert outcome.certificate.served == outcome.served


def test_the_same_seed_gives_the_same_outcome_with_a_plain_embedder_too() -> None:
    assert evaluate(questions(), PlainEmbedder(), 0.05, seed=3) == evaluate(
        questions(), LexicalEmbedder(), 0.05, seed=3
    )


def test_answers_nobody_can_compare_are_neither_right_nor_wrong() -> None:
    outcome = evaluate(questions(), LexicalEmbedder(), 0.05, same=lambda one, other: True if one == other else None)
    assert outcome.wrong == 0
    assert outcome.certificate.wrong == 0


def test_answers_are_known_to_be_the_same_only_by_labels() -> None:
    compared = []

    def same(one: Hashable, other: Hashable) -> bool:
        compared.append((one, other))
        return one == other

    steps = list(play(questions(count=50), LexicalEmbedder(), Policy.shipped("lexical"), same=same))
    assert len(compared) == sum(step.probability > 0 for step in steps)


def test_when_answers_change_serving_stops_and_comes_back() -> None:
    before = questions(1, 1500)
    after = [(question, (answer, "new")) for question, answer in questions(2, 3000)]
    policy = Policy.shipped("lexical", delta=0.05)
    steps = list(play(before + after, LexicalEmbedder(), policy))
    changed, late = steps[1500:2500], steps[3500:]
    wrong = sum(step.served and not step.right for step in changed)
    assert 0 < wrong < 0.2 * len(changed)
    assert sum(step.served and not step.right for step in late) <= 0.05 * sum(step.served for step in late)
    assert sum(step.served for step in late) > 100
