"""Fit the weights by which turns are selected, and write them as the module `penstock.context.weights`.

    python -m benchmarks.context_fit --data DIR [--output src/penstock/context/weights.py]

Fits a logistic model on half of QMSum's meetings (`benchmarks.context` reports on the others): which turns answer a
question. Each question weighs as much as another however long its meeting is. Questions about meetings of another
kind, which nothing answers, are fitted too, so that a score is low where there is no answer; and, weighing little,
questions that stand once in other words among hundreds that have nothing to do with each other (half of qqp), so that
what is said in a single turn is not lost. Says what recall is on meetings that were kept back, a fifth at a time.
Needs numpy.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.context.data import Meeting, read_meetings, tokens_of
from benchmarks.processes import say
from benchmarks.semantic_data import qqp_pairs
from penstock.context.lexicon import Lexicon
from penstock.context.selection import WORTH, Turn

Floats = NDArray[np.float64]

RIDGE = 50.0
FOREIGN = 2
"""Questions nothing answers, per meeting."""
FOREIGN_WEIGHT = 0.5
LOOSE, AROUND, LOOSE_ASKED = 24, 800, 12
"""Texts of turns that have nothing to do with each other, their turns, and the questions about each."""
LOOSE_WEIGHT = 0.1
FOLDS = 5
BUDGETS = (2048, 4096, 8192)


class Asked(NamedTuple):
    """The features of a meeting's turns for one question, and which turns answer it."""

    meeting: Meeting
    rows: Floats
    gold: Floats
    weight: float


def features(meeting: Meeting, questions: Iterable[str]) -> tuple[list[Floats], int]:
    """Return the features of turns for each question, with 1 as the first, and how many are of blocks."""
    lexicon = Lexicon()
    for turn in meeting.turns:
        lexicon.add(*turn)
    found, of_blocks = [], 0
    for question in questions:
        columns = lexicon.columns(question)
        of_blocks = len(columns.blocks)
        near = [lexicon.meant(column) for column in columns.blocks]
        found.append(np.array([[1.0] * len(meeting.turns), *near, *columns.turns]).T)
    return found, of_blocks


def gather(meetings: list[Meeting]) -> tuple[list[Asked], int]:
    """Return what to fit on, and how many features are of blocks."""
    chance, found, of_blocks = Random(0), [], 0
    for meeting in meetings:
        others = [query.text for other in meetings if other.kind != meeting.kind for query in other.queries]
        foreign = chance.sample(others, FOREIGN)
        rows, of_blocks = features(meeting, [*[query.text for query in meeting.queries], *foreign])
        places = np.arange(len(meeting.turns))
        for query, each in zip(meeting.queries, rows, strict=False):
            found.append(Asked(meeting, each, np.isin(places, list(query.gold)).astype(float), 1.0))
        for each in rows[len(meeting.queries) :]:
            found.append(Asked(meeting, each, np.zeros(len(places)), FOREIGN_WEIGHT))
    return found, of_blocks


def loose(data: Path) -> Iterator[Asked]:
    """Yield questions about texts that are no conversations, each answered by one turn."""
    chance, pairs = Random(0), qqp_pairs(data, half=0)
    same = [(one, other) for one, other, its, others in pairs if its == others and one != other]
    texts = sorted({text for pair in pairs for text in pair[:2]})
    for number in range(LOOSE):
        asked = chance.sample(same, LOOSE_ASKED)
        said = [*chance.sample(texts, AROUND), *[other for _, other in asked]]
        chance.shuffle(said)
        text = Meeting(f"loose {number}", "loose", [Turn("", each, tokens_of(each)) for each in said], [])
        rows, _ = features(text, [question for question, _ in asked])
        for each, (_, answer) in zip(rows, asked, strict=True):
            yield Asked(text, each, np.array([float(turn.text == answer) for turn in text.turns]), LOOSE_WEIGHT)


def fit(asked: list[Asked], rounds: int = 8) -> Floats:
    """Maximise the penalised likelihood by Newton's method, and return the weights; the first is the intercept."""
    rows = np.concatenate([each.rows for each in asked])
    gold = np.concatenate([each.gold for each in asked])
    weigh = 100.0 * np.concatenate([_weigh(each) for each in asked])
    mean, spread = rows.mean(0), rows.std(0)
    mean[0], spread[0] = 0.0, 1.0
    rows = (rows - mean) / spread
    ridge = np.diag([1e-6, *[RIDGE] * (rows.shape[1] - 1)])
    weights = np.zeros(rows.shape[1])
    for _ in range(rounds):
        chance = 1 / (1 + np.exp(-np.clip(rows @ weights, -30, 30)))
        gradient = rows.T @ (weigh * (gold - chance)) - ridge @ weights
        curve = (rows * (weigh * chance * (1 - chance))[:, None]).T @ rows + ridge
        weights = weights + np.linalg.solve(curve, gradient)
    plain: Floats = weights / spread
    plain[0] -= (weights * mean / spread)[1:].sum()
    return plain


def _weigh(asked: Asked) -> Floats:
    """What its turns weigh: those that answer more, the fewer they are, since recall is a share of them."""
    share = max(asked.gold.mean(), 1 / len(asked.gold))
    weigh: Floats = asked.weight * np.where(asked.gold > 0, share**-0.5, 1.0) / len(asked.gold)
    return weigh


def recall(asked: list[Asked], weights: Floats, budget: int) -> float:
    """Return the mean recall, by the rule of `penstock.context.selection` but for what is said twice."""
    found = []
    for each in asked:
        tokens = np.array([turn.tokens for turn in each.meeting.turns])
        worth = tokens ** (WORTH - 1.0) / (1 + np.exp(-(each.rows @ weights)))
        left, met = budget, 0.0
        for place in np.argsort(-worth, kind="stable"):
            if tokens[place] <= left:
                left -= tokens[place]
                met += each.gold[place]
        found.append(met / each.gold.sum())
    return float(np.mean(found))


def check(asked: list[Asked], always: list[Asked]) -> None:
    """Say what recall is on meetings that are kept back."""
    found = dict.fromkeys(BUDGETS, 0.0)
    answered = sum(each.gold.any() for each in asked)
    for fold in range(FOLDS):
        kept = [zlib.crc32(each.meeting.name.encode()) // 2 % FOLDS == fold for each in asked]
        weights = fit([*[each for each, back in zip(asked, kept, strict=True) if not back], *always])
        back = [each for each, back in zip(asked, kept, strict=True) if back and each.gold.any()]
        for budget in BUDGETS:
            found[budget] += recall(back, weights, budget) * len(back) / answered
    say("recall on meetings kept back: " + ", ".join(f"{share:.4f} at {budget}" for budget, share in found.items()))


def module(weights: Floats, of_blocks: int) -> str:
    """Return the source of `penstock.context.weights`."""
    values = [round(float(weight), 3) for weight in weights]
    return (
        '"""Fitted by `benchmarks.context_fit` on public data; do not edit."""\n\n'
        "from __future__ import annotations\n\n"
        f"INTERCEPT = {values[0]}\n"
        f"BLOCKS = {tuple(values[1 : 1 + of_blocks])}\n"
        f"TURNS = {tuple(values[1 + of_blocks :])}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="where the sets are")
    parser.add_argument("--output", type=Path, help="the module to write; by default it is printed")
    arguments = parser.parse_args()
    asked, of_blocks = gather([meeting for meeting in read_meetings(arguments.data) if meeting.fitted])
    always = list(loose(arguments.data))
    check(asked, always)
    source = module(fit(asked + always), of_blocks)
    if arguments.output:
        arguments.output.write_text(source, encoding="utf-8")
    else:
        print(source, end="")


if __name__ == "__main__":
    main()
