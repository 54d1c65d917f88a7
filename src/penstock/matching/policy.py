"""When a proposal is served: an error rate as a setting, kept by a threshold that is learnt."""

from __future__ import annotations

from math import log
from typing import NamedTuple

from penstock.matching.bounds import ChangeDetector, upper_bound
from penstock.matching.model import PooledModel
from penstock.matching.partition import Proposal

BINS = 24
_STEP = 0.4
_FORGET = 0.9995
_ALPHA = 0.1


class Decision(NamedTuple):
    """What to do with a proposal.

    Attributes:
        serve: Whether its answer is served.
        probability: That it is right, as the model has it.
        audit: With which probability the answer, if served, is to be checked off the critical path.
    """

    serve: bool
    probability: float
    audit: float


class Policy:
    """Serves while wrong ÷ served stays at `delta` or below, relative to the labels it is told.

    Every request that is not served has a label for free: its own answer, compared with the one proposed. Of those
    served a part is audited, more near the threshold. The threshold is the lowest whose bound on the error of all
    above it, from labels weighted by one over their probability, is `delta` at most. An alarm throws away everything
    learnt about the threshold, what was shipped too: serving starts again when fresh labels allow it.

    Args:
        model: The probability of being right.
        prior: Counts (right, wrong) for each of the `BINS` bins of log-odds, from the data the model was not fitted on.
        delta: The share of served answers that may be wrong.
        audit: The probability of an audit far above the threshold.
    """

    def __init__(
        self, model: PooledModel, prior: tuple[tuple[float, float], ...], *, delta: float = 0.01, audit: float = 0.05
    ) -> None:
        if not 0 < delta < 1:
            raise ValueError(f"delta is {delta}; it is a share between 0 and 1, such as 0.01 for 1 %")
        if not 0 < audit <= 1:
            raise ValueError(f"audit is {audit}; it is a probability above 0 and at most 1")
        self.model = model
        self._delta = delta
        self._audit = audit
        self._right = [right for right, _ in prior] or [0.0] * BINS
        self._wrong = [wrong for _, wrong in prior] or [0.0] * BINS
        self._detector = ChangeDetector(delta)
        self.alarms = 0
        self._lowest = BINS
        self._choose()

    @property
    def serving(self) -> bool:
        """Whether anything at all may be served."""
        return self._lowest < BINS

    def decide(self, proposal: Proposal) -> Decision:
        """Return whether `proposal` is served. What is vetoed is not."""
        probability = self.model.probability(proposal.features, proposal.entry)
        place = bin_of(probability)
        serve = proposal.veto is None and place >= self._lowest
        return Decision(serve, probability, min(1.0, self._audit * (4.0 if place <= self._lowest + 1 else 1.0)))

    def served(self, proposal: Proposal, decision: Decision, *, right: bool | None) -> None:
        """Count a served answer, with its label if it was audited."""
        alarm = self._detector.served(wrong=right is False, chance=decision.audit)
        if right is not None:
            self._label(proposal, decision.probability, weight=1.0 / decision.audit, right=right)
        if alarm:
            self.alarms += 1
            self._right, self._wrong = [0.0] * BINS, [0.0] * BINS
            self._lowest = BINS

    def missed(self, proposal: Proposal, decision: Decision, *, right: bool) -> None:
        """Learn from a request that was not served: whether the proposal would have been right."""
        if proposal.veto is None:
            self._label(proposal, decision.probability, weight=1.0, right=right)

    def _label(self, proposal: Proposal, probability: float, *, weight: float, right: bool) -> None:
        self.model.learn(proposal.features, proposal.entry, right=right)
        place = bin_of(probability)
        for counts in (self._right, self._wrong):
            counts[:] = [count * _FORGET for count in counts]
        (self._right if right else self._wrong)[place] += weight
        self._choose()

    def _choose(self) -> None:
        """Take the longest run of bins from the top whose error is bounded."""
        right = wrong = 0.0
        lowest = BINS
        for place in range(BINS - 1, -1, -1):
            right += self._right[place]
            wrong += self._wrong[place]
            if wrong > 2 * self._delta * (right + wrong) + 3:
                break
            if upper_bound(wrong, right + wrong, alpha=_ALPHA, expected=self._delta) <= self._delta:
                lowest = place
        self._lowest = lowest


def bin_of(probability: float) -> int:
    """Return the bin of the log-odds of `probability`, 0 for the least."""
    bounded = min(max(probability, 1e-9), 1 - 1e-9)
    return max(0, min(BINS - 1, int(log(bounded / (1 - bounded)) / _STEP + BINS / 3)))
