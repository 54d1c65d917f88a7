"""How probable it is that a cheap answer loses nothing against the large model's, before it is there and after."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from penstock.routing.cascade import answers, defaults, prompts
from penstock.routing.cascade.answers import Answer
from penstock.routing.cascade.isotonic import Curve, isotonic
from penstock.routing.cascade.logistic import Logistic, fit
from penstock.routing.cascade.words import Words, fit_words

_VERSION = 1
_FOLDS = 4
LEAST = 40
"""Labels without which nothing is fitted."""


class Example(msgspec.Struct, frozen=True):
    """A labelled request, without its texts.

    Attributes:
        prompt: What `prompts.features` said.
        words: What `prompts.words` said.
        answer: What `answers.features` said.
        lost: Whether serving the cheap answer was a loss (1.0) or not (0.0).
        faulty: It may not be served whatever its quality, which is 0.
        escalated: It was compared because the request went on to the large model.
    """

    prompt: tuple[float, ...]
    words: tuple[int, ...]
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
        faulty = answer.fault() is not None
        return cls(prompts.features(prompt), prompts.words(prompt), seen, float(lost), faulty, escalated)


class Verifier(msgspec.Struct, frozen=True):
    """Two calibrated logistic models: one of the prompt, one of prompt and answer.

    Attributes:
        before: Log-odds from the prompt's features.
        words: Log-odds from its words, added to those.
        after: Log-odds from the prospect, the prompt's features and the answer's.
        prospects: Calibrates the first.
        qualities: Calibrates the second.
        labels: How many labels both were fitted on; 0 for the shipped one.
    """

    before: Logistic
    words: Words
    after: Logistic
    prospects: Curve
    qualities: Curve
    labels: int = 0
    version: int = _VERSION

    @classmethod
    def shipped(cls) -> Verifier:
        """Return one with generic weights: useful without labels, and never certified without."""
        identity = Curve(defaults.SCORES, defaults.VALUES)
        return cls(defaults.BEFORE, Words({}), defaults.AFTER, identity, identity)

    @classmethod
    def fit(cls, examples: Sequence[Example], weights: Sequence[float] | None = None) -> Verifier:
        """Fit both models, and calibrate them on parts of the examples that they were not fitted on.

        Args:
            examples: In an order that says nothing.
            weights: How much each counts; 1 if not given.

        Raises:
            ValueError: There are fewer than `LEAST`.
        """
        if len(examples) < LEAST:
            raise ValueError(f"{len(examples)} labelled answers; {LEAST} are needed to fit a verifier")
        heavy = list(weights or [1.0] * len(examples))
        starts, ends, kept = [0.0] * len(heavy), [0.0] * len(heavy), [1.0 - each.lost for each in examples]
        for fold in range(_FOLDS):
            others = [place for place in range(len(heavy)) if place % _FOLDS != fold]
            part = _Pair.of([examples[place] for place in others], [heavy[place] for place in others])
            for place in range(fold, len(heavy), _FOLDS):
                starts[place] = part.start(examples[place])
                ends[place] = part.end(examples[place], starts[place])
        whole = _Pair.of(examples, heavy)
        curves = isotonic(starts, kept, heavy), isotonic(ends, kept, heavy)
        return cls(whole.before, whole.words, whole.after, *curves, len(examples))

    def prospect(self, prompt: str) -> float:
        """Return the probability that the cheap model's answer will lose nothing."""
        return self.prospects(self._start(prompts.features(prompt), prompts.words(prompt)))

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
        start = self._start(example.prompt, example.words)
        end = self.after.logit((start, *example.prompt, *example.answer))
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
        sizes = (len(found.before.weights), len(found.after.weights))
        wanted = (len(prompts.FEATURES), 1 + len(prompts.FEATURES) + len(answers.FEATURES))
        if found.version != _VERSION or sizes != wanted:
            raise ValueError(f"the state of a verifier is of version {found.version}, not {_VERSION}")
        return found

    def _start(self, row: tuple[float, ...], words: tuple[int, ...]) -> float:
        return self.before.logit(row) + self.words.logit(words)


class _Pair(msgspec.Struct, frozen=True):
    """Both models, not calibrated."""

    before: Logistic
    words: Words
    after: Logistic

    @classmethod
    def of(cls, examples: Sequence[Example], weights: Sequence[float]) -> _Pair:
        kept = [1.0 - each.lost for each in examples]
        before = fit([each.prompt for each in examples], kept, weights)
        rest = [before.logit(each.prompt) for each in examples]
        words = fit_words([each.words for each in examples], kept, rest, weights)
        starts = [rest[place] + words.logit(each.words) for place, each in enumerate(examples)]
        rows = [(start, *each.prompt, *each.answer) for start, each in zip(starts, examples, strict=True)]
        return cls(before, words, fit(rows, kept, weights))

    def start(self, example: Example) -> float:
        return self.before.logit(example.prompt) + self.words.logit(example.words)

    def end(self, example: Example, start: float) -> float:
        return self.after.logit((start, *example.prompt, *example.answer))
