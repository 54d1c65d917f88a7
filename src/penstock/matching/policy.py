"""When a proposal is served: an error rate as a setting, kept by a threshold that is learnt."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from penstock.matching.bounds import ChangeDetector, ErrorBound
from penstock.matching.model import PooledModel
from penstock.matching.partition import Proposal
from penstock.matching.threshold import BINS, Threshold, bin_of
from penstock.matching.weights import DENSE, LEXICAL

ALPHA = 0.05
"""How often the bound of a certificate may fail."""

_FIRST_AUDITS = 20.0
_NEAR, _NEAR_FACTOR = 1, 4.0
_SUSPICION = 3.0
_CREDIT = 3.0
"""Wrong answers that the same words are forgiven before there are labels, so as many right ones as show 1 - delta."""

_SLACK, _SURPRISED, _HOPELESS = 0.1, 6.0, 0.6
"""Of the labels of questions not served: by how much the share of wrong ones may be larger than it was, how many more
wrong ones than that are an alarm, and from which share on a bin says nothing."""
_STALE = -2.0


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


class Certificate(NamedTuple):
    """What can be said of the answers served, relative to the labels.

    Attributes:
        delta: The share that may be wrong.
        bound: At most this share of what was served since the last alarm was wrong, as audits show; 1 is "not known".
        confidence: How sure the bound is, at all moments at once.
        serving: Whether anything would be served now.
        reason: Why, in a sentence.
        served: Answers served since the last alarm.
        audits: How many of them were checked.
        wrong: How many of those checked were wrong.
        labels: Labels the threshold rests on since the last alarm, those of questions not served included.
        alarms: How often the error was found to have risen.
        since: When counting began, in seconds since the epoch as they were told; 0 where they were not.
    """

    delta: float
    bound: float
    confidence: float
    serving: bool
    reason: str
    served: int
    audits: int
    wrong: int
    labels: int
    alarms: int
    since: float


class _State(msgspec.Struct, array_like=True):
    """All that a policy has learnt."""

    version: int
    model: bytes
    right: list[float]
    wrong: list[float]
    seen: list[float]
    lowest: int
    capital: list[list[float]]
    evidence: list[float]
    served: int
    audits: int
    found: int
    labels: int
    alarms: int
    since: float
    delta: float
    same: list[float]


_VERSION = 1


class Policy:
    """Serves while wrong ÷ served stays at `delta` or below, relative to the labels it is told.

    Every request that is not served has a label for free: its own answer, compared with the one proposed. Of those
    served a part is audited: all at first and while audits give cause for doubt, more near the threshold. `Threshold`
    says from which probability on the error of all is small enough; the bound of the certificate judges it by audits
    alone. Questions in the same words, but for case, spaces and the marks that end sentences, need not wait for labels:
    they are served until labels show that they must not be.

    There is an alarm when audits find more wrong than promised, or labels of what was not served find much more wrong
    than before. It throws away everything learnt about the threshold, what was shipped too: serving starts again when
    fresh labels allow it.

    Args:
        model: The probability of being right.
        prior: Counts (right, wrong) for each of the `BINS` bins of log-odds, from data the model was not fitted on.
        delta: The share of served answers that may be wrong.
        audit: The probability of an audit far above the threshold.
        now: When it starts, in seconds since the epoch; only shown.

    Raises:
        ValueError: `delta` or `audit` is out of range.
    """

    def __init__(
        self,
        model: PooledModel,
        prior: tuple[tuple[float, float], ...],
        *,
        delta: float = 0.01,
        audit: float = 0.05,
        now: float = 0.0,
    ) -> None:
        self.model = model
        self._threshold = Threshold(prior)
        self._bound = ErrorBound(ALPHA)
        self._served = self._audits = self._found = self._labels = 0
        self._since = now
        self._surprise = 0.0
        self._same = [0.0, 0.0]
        self.alarms = 0
        self._delta, self._detector = delta, ChangeDetector(delta)
        self.configure(delta, audit)

    @classmethod
    def shipped(cls, embedder: str, *, delta: float = 0.01, audit: float = 0.05, now: float = 0.0) -> Policy:
        """Return one that starts from what was fitted on public data for vectors of `embedder`."""
        start = LEXICAL if embedder == "lexical" else DENSE
        return cls(PooledModel(start.weights), start.counts, delta=delta, audit=audit, now=now)

    @classmethod
    def load(cls, state: bytes, *, delta: float | None = None, audit: float = 0.05) -> Policy:
        """Return the policy that `dump` was called on.

        Args:
            state: What `dump` returned.
            delta: Another share than it had.
            audit: As for a new one.

        Raises:
            ValueError: `state` is not such a thing, or of another version.
        """
        try:
            kept = msgspec.msgpack.decode(state, type=_State)
        except msgspec.DecodeError as error:
            raise ValueError(f"the state of a policy cannot be read: {error}") from None
        if kept.version != _VERSION or len(kept.right) != BINS:
            raise ValueError(f"the state of a policy is of version {kept.version}, not {_VERSION}")
        policy = cls(PooledModel.load(kept.model), (), delta=kept.delta, audit=audit, now=kept.since)
        policy._threshold = Threshold(tuple(zip(kept.right, kept.wrong, strict=True)), seen=kept.seen)
        policy._threshold.lowest = kept.lowest
        policy._bound.capital = kept.capital
        policy._detector.capital = kept.evidence
        policy._served, policy._audits, policy._found = kept.served, kept.audits, kept.found
        policy._labels, policy.alarms = kept.labels, kept.alarms
        policy._same = kept.same
        if delta is not None:
            policy.configure(delta, audit)
        return policy

    def dump(self) -> bytes:
        """Return everything learnt."""
        counts = self._threshold
        return msgspec.msgpack.encode(
            _State(
                _VERSION, self.model.dump(), counts.right, counts.wrong, counts.seen, counts.lowest,
                self._bound.capital, self._detector.capital, self._served, self._audits, self._found, self._labels,
                self.alarms, self._since, self._delta, self._same,
            )
        )  # fmt: skip

    def configure(self, delta: float, audit: float) -> None:
        """Keep another promise from now on; what was learnt stays.

        Raises:
            ValueError: One is out of range.
        """
        if not 0 < delta < 1:
            raise ValueError(f"delta is {delta}; it is a share between 0 and 1, such as 0.01 for 1 %")
        if not 0 < audit <= 1:
            raise ValueError(f"audit is {audit}; it is a probability above 0 and at most 1")
        self._audit = audit
        if delta != self._delta:
            self._delta, self._detector = delta, ChangeDetector(delta)
        self._threshold.choose(delta)

    @property
    def serving(self) -> bool:
        """Whether anything at all may be served."""
        return self._threshold.lowest < BINS or self._trusts_words

    def decide(self, proposal: Proposal) -> Decision:
        """Return whether `proposal` is served. What is vetoed is not."""
        probability = self.model.probability(proposal.features, proposal.entry)
        place = bin_of(probability)
        sure = place >= self._threshold.lowest or (proposal.same and self._trusts_words)
        serve = proposal.veto is None and sure
        return Decision(serve, probability, self._audit_chance(place))

    def served(self, proposal: Proposal, decision: Decision, *, right: bool | None, now: float = 0.0) -> None:
        """Count a served answer.

        Args:
            proposal: What was served.
            decision: What was decided then; its `audit` is the probability with which there was to be a label.
            right: The label, if it was audited and there is one.
            now: Seconds since the epoch; only shown.
        """
        self._served += 1
        wrong = right is False
        self._bound.served(wrong=wrong, chance=decision.audit)
        alarm = self._detector.served(wrong=wrong, chance=decision.audit)
        if alarm:
            self._alarm(now)
        elif right is not None:
            self._audits += 1
            self._found += wrong
        self._learn(proposal, decision, right=right)

    def missed(self, proposal: Proposal, decision: Decision, *, right: bool | None) -> None:
        """Learn from a request that was not served: whether the proposal would have been right, None if not known."""
        if proposal.veto is None:
            self._learn(proposal, decision, right=right)

    def stale(self, entry: int) -> bool:
        """Return whether labels contradicted `entry` so often that it only stands in the way of others: drop it."""
        return self.model.intercept(entry) <= _STALE

    def certificate(self) -> Certificate:
        """Return what can be said of the answers served."""
        return Certificate(
            self._delta, self._bound.value(), 1 - ALPHA, self.serving, self._reason(), self._served, self._audits,
            self._found, self._labels, self.alarms, self._since,
        )  # fmt: skip

    def _learn(self, proposal: Proposal, decision: Decision, *, right: bool | None) -> None:
        place = bin_of(decision.probability)
        self._threshold.see(place)
        if right is None:
            return
        self._labels += 1
        if proposal.same:
            self._same[not right] += 1.0
        self._notice(place, right=right)
        self.model.learn(proposal.features, proposal.entry, right=right)
        self._threshold.label(place, right=right)
        self._threshold.choose(self._delta)

    @property
    def _trusts_words(self) -> bool:
        """Whether the same words are answered: as if labels had shown that they may be, until one shows otherwise."""
        right, wrong = self._same
        credit = 0.0 if self.alarms else _CREDIT
        return wrong + 1.0 <= self._delta * (right + wrong) + credit

    def _alarm(self, now: float = 0.0) -> None:
        """Forget all that the threshold rests on."""
        self.alarms += 1
        self._threshold = Threshold(())
        self._bound = ErrorBound(ALPHA)
        self._served = self._audits = self._found = self._labels = 0
        self._surprise = 0.0
        self._same = [0.0, 0.0]
        self._since = now

    def _notice(self, place: int, *, right: bool) -> None:
        """See from all labels, those of questions not served included, that answers have changed (Page 1954)."""
        expected = self._threshold.error(place)
        if expected > _HOPELESS:
            return
        self._surprise = max(0.0, self._surprise + (not right) - expected - _SLACK)
        if self._surprise > _SURPRISED:
            self._alarm()

    def _audit_chance(self, place: int) -> float:
        if self._detector.evidence > _SUSPICION:
            return 1.0
        near = place <= self._threshold.lowest + _NEAR
        usual = self._audit * (_NEAR_FACTOR if near else 1.0)
        return min(1.0, max(usual, _FIRST_AUDITS / (_FIRST_AUDITS + self._served)))

    def _reason(self) -> str:
        promised = f"{100 * self._delta:g} %"
        if not self.serving and self.alarms:
            return f"the error had risen above {promised}; fresh labels do not show yet that it is below"
        if self._threshold.lowest == BINS:
            return f"labels do not show yet that some answers in other words are wrong in at most {promised}"
        if self._bound.value() <= self._delta:
            return f"audits show an error of at most {promised}"
        if self._labels < self._threshold.shipped:
            return "what was fitted on public data carries the threshold until there are more labels"
        return f"labels show an error of at most {promised} above the threshold; audits do not contradict them"
