"""Learning from examples in a file, in place of audits."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec

from penstock.cascading.known import Known
from penstock.core.errors import InvalidRequest
from penstock.matching.labels.chain import Case, Chain
from penstock.routing.cascade.answers import Answer
from penstock.routing.fallbacks import question_of


class Sample(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request and an earlier model's answer to it.

    Attributes:
        answer: That answer.
        prompt: What was asked: the last message of the user,
        messages: or the whole conversation.
        right: Whether the answer is as good as the last model's;
        reference: or the last model's answer, to compare with.
        stage: Which model's answer it is; needed only where there are several.
        finish_reason: Why the answer ended.
    """

    answer: str
    prompt: str = ""
    messages: list[dict[str, Any]] = []
    right: bool | None = None
    reference: str | None = None
    stage: str = ""
    finish_reason: str = "stop"

    @property
    def question(self) -> str:
        """What was asked."""
        return self.prompt or question_of({"messages": self.messages})


def read_samples(text: str, stages: Sequence[str], file: str) -> list[Sample]:
    """Read samples, one JSON object a line.

    Args:
        text: The lines.
        stages: Names of the models that answers may be of.
        file: What to call it in messages.

    Raises:
        InvalidRequest: A line is not a sample; the message has its number.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            sample = msgspec.json.decode(line, type=Sample)
        except msgspec.DecodeError as error:
            raise _wrong(file, number, str(error)) from None
        stage = sample.stage or (stages[0] if len(stages) == 1 else "")
        if stage not in stages:
            raise _wrong(file, number, f"`stage` is {sample.stage!r}; it must be one of {', '.join(stages)}")
        if not sample.question:
            raise _wrong(file, number, "it asks nothing; give `prompt`, or `messages` with one of a user")
        if (sample.right is None) == (sample.reference is None):
            raise _wrong(file, number, "give either `right` or `reference`")
        found.append(msgspec.structs.replace(sample, stage=stage))
    return found


async def train(known: Known, samples: Sequence[Sample], labels: Chain) -> int:
    """Learn from `samples` and certify anew; return how many were as good as the last model's answer.

    They must be like the requests to come, and drawn at random from such. Their order is not taken to mean anything.
    """
    same = 0
    mixed = list(samples)
    Random(0).shuffle(mixed)
    for sample in mixed:
        answer, right = Answer(sample.answer, sample.finish_reason), sample.right
        if sample.reference is not None:
            label = await labels.label(Case(sample.question, sample.question, sample.answer, sample.reference))
            right = label is not None and label.same
        same += bool(right)
        known.learners[sample.stage].audited(sample.question, answer, lost=not right)
    for learner in known.learners.values():
        learner.refresh()
    known.news = True
    return same


def _wrong(file: str, line: int, why: str) -> InvalidRequest:
    return InvalidRequest(f"{file}:{line}: {why}", code="invalid_value")
