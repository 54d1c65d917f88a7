"""How much of a large model's quality does a cascade keep, for how many of its calls, and does its promise hold?

    python -m benchmarks.cascade --data PATH [--json]

`APGR` and `CPT80` are RouteLLM's: the share of the gap between the models that is recovered, averaged over all shares
of calls to the large one; and the share of calls that recovers 80 %. Random choice has 0.5 and 80 %. What a perfect
judge of right and wrong would have is `…_oracle`.

- `gsm8k`: a cascade, the quality is estimated from question and cheap answer by the shipped `Verifier`; five-fold,
  three times. Labels: `lenient`, which compare numbers, and `original`, which call "$20.00" wrong.
- `mmlu`: a choice before anybody has answered, from the question's words, with 1,500 labels; the others are reported
  on. The subject is not looked at, but for the figure of its means, which is there to compare.
- The promise: 500 times certified on one part of what the verifier was not fitted on (at most 2, 5, 10 % of requests
  lost, and at most 5 % of the certificates fail), and measured on the rest, of which the promise is made (`horizon`). A
  request is lost if it is given the small model's answer, which is wrong, and the large model's is right.
  `guarantee_violations` is the largest share of certificates that failed. In the long run the bound is that of Clopper
  and Pearson; measured on a few hundred requests it fails more often, since their luck counts too.
- Dollars for 1,000 requests, of published prices; a cascade pays the cheap call always. Tokens are estimated.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.cascade_topics import Floats, Places, Texts
from benchmarks.outcome import finish
from benchmarks.processes import say
from benchmarks.semantic_data import rows
from penstock.core.usage import Usage
from penstock.pricing.estimate import estimate_tokens
from penstock.pricing.published import PriceList
from penstock.pricing.rates import Rates
from penstock.routing.cascade.answers import Answer
from penstock.routing.cascade.certificate import certify
from penstock.routing.cascade.verifier import Example, Verifier

ALPHAS, DELTA = (0.02, 0.05, 0.1), 0.05
LABELS = 1500
_FOLDS, _REPEATS, _SPLITS = 5, 3, 20
_FITS, _DIVISIONS = 20, 25
_PRICES = {"cheap": ("together", "mistralai/Mixtral-8x7B-Instruct-v0.1"), "large": ("openai", "gpt-4-turbo")}


class Models(NamedTuple):
    """Whether the small and the large model are right, by question."""

    small: Floats
    large: Floats

    @property
    def lost(self) -> Floats:
        return np.asarray((self.large > self.small).astype(float))

    def at(self, places: Places) -> Models:
        return Models(self.small[places], self.large[places])


class Question(NamedTuple):
    """A question with its answers."""

    prompt: str
    cheap: str
    large: str


def recovered(need: Floats, models: Models) -> Floats:
    """Return the share of the gap recovered with 0, 1, 2, … calls to the large model, those first that need it most."""
    order = np.argsort(-need, kind="stable")
    gained = np.cumsum((models.large - models.small)[order])
    return np.asarray(np.concatenate([[0.0], gained]) / (models.large.sum() - models.small.sum()))


def apgr(need: Floats, models: Models) -> float:
    curve = recovered(need, models)
    return float(((curve[1:] + curve[:-1]) / 2.0).mean())


def cpt(need: Floats, models: Models, share: float = 0.8) -> float:
    return float(np.argmax(recovered(need, models) >= share)) / len(need)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cascade", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data")
    parser.add_argument("--json", action="store_true", help="accepted for uniformity: the last line always is JSON")
    options = parser.parse_args()
    started = time.monotonic()
    questions, lenient, original = read_gsm8k(options.data)
    figures, n = gsm8k(questions, lenient, original), len(questions)
    prompts, models, subjects = read_mmlu(options.data)
    figures |= mmlu(prompts, models, subjects)
    n += len(prompts)
    worst = max(figures["gsm8k_violations"], figures["mmlu_violations"])
    finish({**figures, "guarantee_violations": worst, "delta": DELTA}, started=started, n=n)


def read_gsm8k(data: Path) -> tuple[list[Question], Models, Models]:
    found = rows(data / "routing/routellm-gsm8k/gsm8k.jsonl.gz")
    questions = [Question(row["prompt"], row["mixtral_response"], row["gpt4_response"]) for row in found]
    lenient, original = (
        Models(*(np.array([float(row[f"{name}_correct{kind}"]) for row in found]) for name in ("mixtral", "gpt4")))
        for kind in ("_lenient", "")
    )
    return questions, lenient, original


def read_mmlu(data: Path) -> tuple[list[str], Models, list[str]]:
    found = rows(data / "routing/routellm-mmlu/mmlu.jsonl.gz")
    models = Models(*(np.array([float(row[name]) for row in found]) for name in ("mixtral", "gpt4")))
    return [row["prompt"] for row in found], models, [row["subject"] for row in found]


def gsm8k(questions: Sequence[Question], lenient: Models, original: Models) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    shipped = Verifier.shipped()
    for suffix, models in (("", lenient), ("_original", original)):
        seen = examples(questions, models)
        untaught = 1.0 - np.array([shipped.estimate(each)[1] for each in seen])
        needs = [out_of_fold(seen, seed) for seed in range(_REPEATS)]
        for when, place in (("", 1), ("_prompt_only", 0)):
            scores = [need[place] for need in needs]
            figures[f"gsm8k_apgr{when}{suffix}"] = round(float(np.mean([apgr(each, models) for each in scores])), 4)
            figures[f"gsm8k_cpt80{when}{suffix}"] = round(float(np.mean([cpt(each, models) for each in scores])), 4)
        figures[f"gsm8k_apgr_no_labels{suffix}"] = round(apgr(untaught, models), 4)
        figures[f"gsm8k_apgr_oracle{suffix}"] = round(apgr(models.large - models.small, models), 4)
        say(f"gsm8k{suffix}: " + ", ".join(f"{key} {value}" for key, value in figures.items() if key.endswith(suffix)))
        if models is lenient:
            figures["gsm8k_usd_1000"] = spending(questions, needs[0][1], models)
            figures |= {f"gsm8k_{key}": value for key, value in promise_kept(questions, seen, models).items()}
    return figures


def examples(questions: Sequence[Question], models: Models) -> list[Example]:
    """What there is to fit on: the verifier is to know wrong answers, whether or not the large model has them right."""
    return [
        Example.of(question.prompt, Answer(question.cheap), lost=not right)
        for question, right in zip(questions, models.small, strict=True)
    ]


def out_of_fold(seen: Sequence[Example], seed: int) -> tuple[Floats, Floats]:
    """Return how much each needs the large model, before and after the cheap answer, by verifiers fitted without it."""
    order = np.random.default_rng(seed).permutation(len(seen))
    before, after = np.zeros(len(seen)), np.zeros(len(seen))
    for fold in range(_FOLDS):
        verifier = Verifier.fit([seen[place] for number, place in enumerate(order) if number % _FOLDS != fold])
        for place in order[fold::_FOLDS]:
            prospect, quality = verifier.estimate(seen[place])
            before[place], after[place] = 1.0 - prospect, 1.0 - quality
    return before, after


def promise_kept(questions: Sequence[Question], seen: Sequence[Example], models: Models) -> dict[str, Any]:
    """Fit on 40 %, certify on 30 % and measure on the rest, over and over."""
    tally = Tally()
    for fit in range(_FITS):
        random = np.random.default_rng(1000 + fit)
        order = random.permutation(len(seen))
        cut = 2 * len(seen) // 5
        verifier = Verifier.fit([seen[place] for place in order[:cut]])
        rest = order[cut:]
        quality = np.array([verifier.estimate(seen[place])[1] for place in rest])
        tally.divide(random, quality, models.at(rest), len(rest) // 2, [questions[place] for place in rest])
    return tally.figures()


class Outcome(NamedTuple):
    """What came of a promise: shares of the requests it was made of, and dollars for 1,000."""

    lost: float
    lost_in_the_long_run: float
    served_by_small: float
    right_small: float
    right: float
    right_large: float
    usd_1000: float
    usd_1000_large_only: float


class Tally:
    """What came of promises."""

    def __init__(self) -> None:
        self._outcomes: dict[float, list[Outcome]] = {alpha: [] for alpha in ALPHAS}

    def divide(
        self, random: np.random.Generator, quality: Floats, models: Models, labels: int, asked: Sequence[Question] = ()
    ) -> None:
        """Certify on so many, and measure on the others, over and over."""
        costs = np.array([[float(cost) for cost in dollars(each)] for each in asked] or [[0.0, 0.0]] * len(quality))
        for _ in range(_DIVISIONS):
            order = random.permutation(len(quality))
            known, new = order[:labels], order[labels:]
            pairs = [(float(quality[place]), bool(models.lost[place])) for place in known]
            for alpha, outcomes in self._outcomes.items():
                threshold = certify(pairs, alpha=alpha, delta=DELTA, horizon=len(new)).threshold
                forever = certify(pairs, alpha=alpha, delta=DELTA).threshold
                outcomes.append(outcome(quality[new], models.at(new), costs[new], threshold, forever))

    def figures(self) -> dict[str, Any]:
        """Return shares of the promises that failed, and means."""
        failed = {alpha: np.mean([each.lost > alpha for each in found]) for alpha, found in self._outcomes.items()}
        luckless = [np.mean([each[1] > alpha for each in found]) for alpha, found in self._outcomes.items()]
        return {
            "violations": round(float(max(failed.values())), 4),
            "violations_long_run": round(float(max(luckless)), 4),
            "divisions": len(self._outcomes[ALPHAS[0]]),
            "operating": {
                f"{alpha:.0%}": {
                    "violations": round(float(failed[alpha]), 4),
                    **{
                        name: round(float(mean), 4)
                        for name, mean in zip(Outcome._fields, np.mean(found, axis=0), strict=True)
                        if mean or not name.startswith("usd")
                    },
                }
                for alpha, found in self._outcomes.items()
            },
        }


def outcome(quality: Floats, models: Models, costs: Floats, threshold: float, forever: float) -> Outcome:
    served = quality >= threshold
    return Outcome(
        float((served * models.lost).mean()),
        float(((quality >= forever) * models.lost).mean()),
        float(served.mean()),
        float(models.small.mean()),
        float(np.where(served, models.small, models.large).mean()),
        float(models.large.mean()),
        1000.0 * float((costs[:, 0] + np.where(served, 0.0, costs[:, 1])).mean()),
        1000.0 * float(costs[:, 1].mean()),
    )


def spending(questions: Sequence[Question], need: Floats, models: Models) -> dict[str, float]:
    """Return dollars for 1,000 requests where 50, 80 and 95 % of the gap are recovered."""
    costs = np.array([[float(cost) for cost in dollars(each)] for each in questions])
    order = np.argsort(-need, kind="stable")
    found = {"small_only": costs[:, 0].mean(), "large_only": costs[:, 1].mean()}
    for share in (0.5, 0.8, 0.95):
        calls = round(cpt(need, models, share) * len(need))
        found[f"recovering_{share:.0%}"] = costs[:, 0].mean() + costs[order[:calls], 1].sum() / len(need)
    return {name: round(1000.0 * float(usd), 3) for name, usd in found.items()}


def dollars(question: Question) -> tuple[Decimal, Decimal]:
    """Return what the small and the large model's answers cost."""
    given = estimate_tokens(question.prompt)
    costs = []
    for model, answer in (("cheap", question.cheap), ("large", question.large)):
        costs.append(_rates(model).amount(Usage(given, estimate_tokens(answer))) or Decimal(0))
    return costs[0], costs[1]


@cache
def _rates(model: str) -> Rates:
    found = PriceList().find(*_PRICES[model], datetime(2026, 1, 1, tzinfo=UTC))
    if found is None or not found.tiers:
        raise SystemExit(f"no published price of {_PRICES[model]}")
    return found.tiers[-1]


def mmlu(prompts: Sequence[str], models: Models, subjects: Sequence[str]) -> dict[str, Any]:
    texts = Texts(prompts)
    names = sorted(set(subjects))
    places = np.array([names.index(subject) for subject in subjects])
    gains = models.large - models.small
    found: dict[str, list[float]] = {}
    for known, asked in divided(len(prompts)):
        for name, approach in texts.approaches().items():
            found.setdefault(name, []).append(apgr(approach(known, gains[known], asked), models.at(asked)))
        seen = np.bincount(places[known], minlength=len(names))
        sums = np.bincount(places[known], gains[known] - gains[known].mean(), minlength=len(names))
        found.setdefault("subject, a label", []).append(apgr((sums / (seen + 10.0))[places[asked]], models.at(asked)))
    table = {name: round(float(np.mean(each)), 4) for name, each in found.items()}
    for name, each in found.items():
        say(f"mmlu, {name}: {np.mean(each):.4f} ± {np.std(each):.4f}")
    tally = Tally()
    best = texts.approaches()["features and topics, kernel"]
    for known, rest in divided(len(prompts), seed=500, labels=LABELS // 2):
        quality = -best(known, models.lost[known], rest)
        tally.divide(np.random.default_rng(len(found)), quality, models.at(rest), LABELS // 2)
    return {
        "mmlu_apgr": table["features and topics, kernel"],
        "mmlu_apgr_shipped": table["shipped: features, landmarks"],
        "mmlu_approaches": table,
        "mmlu_labels": LABELS,
        "mmlu_apgr_oracle": round(apgr(gains, models), 4),
        **{f"mmlu_{key}": value for key, value in tally.figures().items()},
    }


def divided(count: int, *, seed: int = 0, labels: int = LABELS) -> Iterator[tuple[Places, Places]]:
    """Divide at random into what is labelled and what is not, over and over."""
    for number in range(_SPLITS):
        order = np.random.default_rng(seed + number).permutation(count)
        yield order[:labels], order[labels:]


if __name__ == "__main__":
    main()
