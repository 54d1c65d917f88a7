"""Labellers in the user's order: the first that can say whether two answers are the same decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from penstock.abc import Embedder
from penstock.core.errors import PenstockError
from penstock.core.request import Request
from penstock.matching.labels.allowance import Allowance
from penstock.matching.labels.answers import DENSE, SPARSE, Thresholds, compare, cosine
from penstock.matching.labels.exact import exact
from penstock.matching.labels.judge import Judge
from penstock.matching.labels.rules import MAX_CHARS, rule

Source = Literal["exact", "rule", "answers", "judge", "human"]


class Case(NamedTuple):
    """A question that came and the one whose answer was proposed for it.

    Attributes:
        question: The question whose answer is known.
        other: The question that came.
        answer: The known answer.
        fresh: The answer to the question that came.
    """

    question: str
    other: str
    answer: str
    fresh: str


class Label(NamedTuple):
    """Whether the proposed answer is the same as the fresh one.

    Attributes:
        same: Whether it is.
        source: Who says so.
        cost_pusd: What asking cost, in picodollars; None when that is not known.
    """

    same: bool
    source: Source
    cost_pusd: int | None = 0


class Said(NamedTuple):
    """What a judge model answered, and what that cost in picodollars, or None when it is not known."""

    text: str
    cost_pusd: int | None


Ask = Callable[[dict[str, Any], Request | None], Awaitable[Said]]
"""Sends a chat payload on behalf of a request. A failed call raises a `PenstockError`; it is taken to cost nothing."""


class Labeller(Protocol):
    """Something that may know whether two answers are the same."""

    source: Source

    async def __call__(self, case: Case, behalf: Request | None, /) -> Label | None:
        """Return a label, or None when it cannot say.

        Raises:
            PenstockError: Something it needs has failed.
        """


class ByText:
    """Goes by the two answers alone."""

    def __init__(self, source: Source, decide: Callable[[str, str], bool | None]) -> None:
        self.source: Source = source
        self._decide = decide

    async def __call__(self, case: Case, _behalf: Request | None) -> Label | None:
        """See `Labeller`."""
        same = self._decide(case.answer, case.fresh)
        return None if same is None else Label(same, self.source)


BY_EXACT = ByText("exact", exact)
BY_RULE = ByText("rule", rule)


class ByVector:
    """Goes by the vectors of the two answers; by default with the thresholds for the kind of vector."""

    source: Source = "answers"

    def __init__(self, embedder: Embedder, thresholds: Thresholds | None = None) -> None:
        self._embedder = embedder
        self._thresholds = thresholds or (DENSE if embedder.dimensions else SPARSE)

    async def __call__(self, case: Case, behalf: Request | None) -> Label | None:
        """See `Labeller`."""
        if max(len(case.answer), len(case.fresh)) > MAX_CHARS:
            return None
        one, other = await self._embedder.embed([case.answer, case.fresh], behalf)
        same = compare(case.answer, case.fresh, cosine(one, other), self._thresholds) if one and other else None
        return None if same is None else Label(same, self.source)


class ByJudge:
    """Asks a model, while its allowance lasts."""

    source: Source = "judge"

    def __init__(self, judge: Judge, allowance: Allowance, ask: Ask) -> None:
        self._judge = judge
        self._allowance = allowance
        self._ask = ask

    async def __call__(self, case: Case, behalf: Request | None) -> Label | None:
        """See `Labeller`."""
        counts = self._allowance.counts
        payload = self._judge.request(*case)
        if payload is None:
            counts.too_long += 1
            return None
        if not self._allowance.take():
            return None
        cost: int | None = 0
        try:
            text, cost = await self._ask(payload, behalf)
        except PenstockError:
            counts.failed += 1
            raise
        finally:
            self._allowance.settle(cost)
        same = self._judge.verdict(text)
        if same is None:
            counts.unreadable += 1
            return None
        if same:
            counts.same += 1
        else:
            counts.different += 1
        return Label(same, self.source, cost)


class Chain:
    """Asks labellers in order until one can say.

    Attributes:
        counts: How often each source said ``same`` or ``different``, could not say (``unknown``) or ``failed``.
    """

    def __init__(self, labellers: Sequence[Labeller]) -> None:
        self._labellers = labellers
        self.counts: Counter[tuple[Source, str]] = Counter()

    async def label(self, case: Case, behalf: Request | None = None) -> Label | None:
        """Return the first label there is; None when nobody can say. A labeller that fails is passed over.

        Args:
            case: What is compared.
            behalf: The request it is done for; what it costs is its tenant's.
        """
        for labeller in self._labellers:
            try:
                label = await labeller(case, behalf)
            except PenstockError:
                self.counts[labeller.source, "failed"] += 1
                continue
            said = "unknown" if label is None else "same" if label.same else "different"
            self.counts[labeller.source, said] += 1
            if label is not None:
                return label
        return None
