"""How probable it is that a cheap answer loses nothing against the large model's, before it is there and after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import msgspec

from penstock.routing.cascade import answers, defaults, prompts
from penstock.routing.cascade.answers import Answer
from penstock.routing.cascade.isotonic import Curve, isotonic
from penstock.routing.cascade.landmarks import Landmarks, fit_landmarks
from penstock.routing.cascade.logistic import Logistic, fit_logistic

_VERSION = 1
_FOLDS = 3
LEAST = 40
"""Labels without which nothing is fitted."""

Rows = Sequence[Sequence[float]]
M = TypeVar("M", Landmarks, Logistic)
Fitting = Callable[[Rows, Sequence[float], Sequence[float]], M]


class Example(msgspec.Struct, frozen=True):
    """A labelled request, without its texts.

    Attributes:
        prompt: What `prompts.features` said.
        answer: What `answers.features` said.
        lost: Whether serving the cheap answer was a loss (1.0) or not (0.0).
        faulty: It may not be served whatever its quality, which is 0.
        escalated: It was compared because the request went on to the large model.
    """

    prompt: tuple[float, ...]
    answer: tuple[float, ...]
    lost: float
    faulty: bool = False
    escalated: bool = False

    @classmethod
    def of(cls, prompt: str, answer: Answer, *, lost: bool, escalated: bool = False) -> Example:
        """Return what there is to learn from a request.

        Args:
            prompt: What was asked.
            answer: The cheap answer.
            lost: Whether serving it would be a loss: it is wrong where the large model is right, or, where nobody
                knows that, says something else.
            escalated: Whether it was compared because the request went on to the large model.
        """
        seen = answers.features(prompt, answer)
        return cls(prompts.features(prompt), seen, float(lost), answer.fault() is not None, escalated)


class Verifier(msgspec.Struct, frozen=True):
    """Two calibrated models: one of the prompt, one of prompt and answer.

    Attributes:
        before: An estimate from the prompt.
        after: Log-odds from that and the answer's features.
        prospects: Calibrates the first.
        qualities: Calibrates the second.
        labels: How many labels both were fitted on; 0 for the shipped one.
        version: Of the features.
    """

    before: Landmarks
    after: Logistic
    prospects: Curve
    qualities: Curve
    labels: int = 0
    version: int = _VERSION

    @classmethod
    def shipped(cls) -> Verifier:
        """Return one with generic weights: useful without labels, and never certified without."""
        curve = Curve(defaults.SCORES, defaults.VALUES)
        return cls(defaults.BEFORE, defaults.AFTER, Curve((0.0, 1.0), (0.0, 1.0)), curve)

    @classmethod
    def fit(cls, examples: Sequence[Example], weights: Sequence[float] | None = None) -> Verifier:
        """Fit both models, and calibrate them on parts of the examples that they were not fitted on.

        Takes seconds for a thousand examples.

        Args:
            examples: In an order that says nothing.
            weights: How much each counts; 1 if not given.

        Raises:
            ValueError: There are fewer than `LEAST`.
        """
        if len(examples) < LEAST:
            raise ValueError(f"{len(examples)} labelled answers; {LEAST} are needed to fit a verifier")
        heavy = list(weights or [1.0] * len(examples))
        kept = [1.0 - each.lost for each in examples]
        asked = [each.prompt for each in examples]
        before, starts = _aside(fit_landmarks, asked, kept, heavy)
        rows = [(start, *each.answer) for start, each in zip(starts, examples, strict=True)]
        after, ends = _aside(partial(fit_logistic, prior=defaults.AFTER), rows, kept, heavy)
        return cls(before, after, isotonic(starts, kept, heavy), isotonic(ends, kept, heavy), len(examples))

    def prospect(self, prompt: str) -> float:
        """Return the probability that the cheap model's answer will lose nothing."""
        return self.prospects(self.before(prompts.features(prompt)))

    def quality(self, prompt: str, answer: Answer | str, logprobs: Sequence[float] | None = None) -> float:
        """Return the probability that a cheap answer loses nothing; 0 if it has a fault.

        Args:
            prompt: What was asked.
            answer: The cheap answer.
            logprobs: If `answer` is a string, natural logarithms of its tokens' probabilities, where they are known.
        """
        whole = Answer(answer, logprobs=logprobs) if isinstance(answer, str) else answer
        return self.estimate(Example.of(prompt, whole, lost=False))[1]

    def estimate(self, example: Example) -> tuple[float, float]:
        """Return the prospect and the quality of an example; a faulty one has none."""
        start = self.before(example.prompt)
        end = self.after((start, *example.answer))
        return self.prospects(start), 0.0 if example.faulty else self.qualities(end)

    def dump(self) -> bytes:
        """Return everything learnt, without any text."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def load(cls, state: bytes) -> Verifier:
        """Return the verifier that `dump` was called on.

        Raises:
            ValueError: `state` is not such a thing, or of another version.
        """
        try:
            found = msgspec.msgpack.decode(state, type=cls)
        except msgspec.DecodeError as error:
            raise ValueError(f"the state of a verifier cannot be read: {error}") from None
        if not found.fits:
            raise ValueError(f"the state of a verifier is of version {found.version}, not {_VERSION}")
        return found

    @property
    def fits(self) -> bool:
        """Whether it was fitted on the features there are now."""
        asked, said = len(prompts.FEATURES), len(answers.FEATURES)
        sizes = (len(self.before.means), len(self.after.weights))
        return self.version == _VERSION and sizes == (asked, 1 + said)


def _aside(fitting: Fitting[M], rows: Rows, labels: Sequence[float], weights: Sequence[float]) -> tuple[M, list[float]]:
    """Return a model of all rows, and for each row what a model says that was fitted without it."""
    said = [0.0] * len(rows)
    for fold in range(_FOLDS):
        others = [place for place in range(len(rows)) if place % _FOLDS != fold]
        part = [rows[place] for place in others], [labels[place] for place in others]
        model = fitting(*part, [weights[place] for place in others])
        for place in range(fold, len(rows), _FOLDS):
            said[place] = model(rows[place])
    return fitting(rows, labels, weights), said
