"""Learns from labels: fits the verifier on some, certifies on others, and keeps both fresh."""

from __future__ import annotations

from collections import deque
from decimal import Decimal

import msgspec

from penstock.routing.cascade.answers import Answer
from penstock.routing.cascade.certificate import Certificate, certify
from penstock.routing.cascade.outlook import Outlook
from penstock.routing.cascade.policy import Policy
from penstock.routing.cascade.verifier import LEAST, Example, Verifier

_VERSION = 2
_STAKE = 3.0
_PATIENCE = 1000.0
"""Audits between false alarms, on average and at least, while what is promised is kept."""


class _State(msgspec.Struct):
    version: int
    verifier: Verifier
    certificate: Certificate
    outlook: Outlook | None
    fitting: list[Example]
    certifying: list[Example]
    more: list[Example]
    drawn: int
    since: int
    evidence: float


class Learner:
    """What is known of one cascade, and the policy that follows from it.

    Requests to audit are drawn at random before anything is known of them (`audit` is the share); of those both
    models are asked, whatever the policy decides, and `audited` is called with the label. Every second one is fitted
    on, the others are certified on. A request that went on to the large model has a label too, but is no random one:
    `escalated` takes it, to fit on. It is weighed by how many of the random ones went on (post-stratification).

    Args:
        alpha: The share of requests that may be lost.
        delta: The share of certificates that may fail.
        loss_usd: As for `Policy`.
        every: Audits after which the verifier is fitted and the certificate made anew.
        memory: Audits that count; older ones are forgotten.

    Raises:
        ValueError: `alpha` or `delta` is not between 0 and 1.

    Attributes:
        policy: What decides now.
    """

    def __init__(
        self,
        *,
        alpha: float = 0.02,
        delta: float = 0.05,
        loss_usd: Decimal = Decimal(0),
        every: int = 50,
        memory: int = 2000,
    ) -> None:
        self.alpha, self.delta, self.loss_usd = alpha, delta, loss_usd
        self._every, self._memory = every, memory
        self._fitting: deque[Example] = deque(maxlen=memory)
        self._certifying: deque[Example] = deque(maxlen=memory)
        self._more: deque[Example] = deque(maxlen=memory)
        self._drawn = self._since = 0
        self._evidence = 0.0
        certificate = certify((), alpha=alpha, delta=delta)
        self.policy = Policy(Verifier.shipped(), certificate, None, loss_usd)

    @property
    def labels(self) -> int:
        """How many labels of random requests are kept to certify on."""
        return len(self._certifying)

    @property
    def due(self) -> bool:
        """Whether enough is new to call `refresh`, which takes a second for a few hundred labels."""
        return self._since >= max(self._every, self.labels // 5)

    @property
    def drifted(self) -> bool:
        """Whether a certificate was withdrawn, and there is none again yet."""
        return self.policy.certificate.drifted

    def audited(self, prompt: str, answer: Answer, *, lost: bool, escalated: bool = False) -> None:
        """Take the label of a request that was drawn at random.

        Args:
            prompt: What was asked.
            answer: The cheap answer.
            lost: Whether serving it would be a loss.
            escalated: Whether the request would have gone on to the large model anyway.
        """
        example = Example.of(prompt, answer, lost=lost, escalated=escalated)
        (self._certifying if self._drawn % 2 else self._fitting).append(example)
        self._drawn += 1
        self._since += 1
        self._watch(example)

    def escalated(self, prompt: str, answer: Answer, *, lost: bool) -> None:
        """Take the label of a request that was not drawn, but went on to the large model."""
        self._more.append(Example.of(prompt, answer, lost=lost, escalated=True))

    def refresh(self) -> None:
        """Fit, certify, and put the new policy in the place of the old."""
        examples, weights = self._weighted()
        verifier = Verifier.fit(examples, weights) if len(self._fitting) >= LEAST else self.policy.verifier
        self._certify(verifier)
        self._since = 0

    def dump(self) -> bytes:
        """Return everything learnt, without any text."""
        policy = self.policy
        lists = (list(self._fitting), list(self._certifying), list(self._more))
        state = _State(
            _VERSION,
            policy.verifier,
            policy.certificate,
            policy.outlook,
            *lists,
            self._drawn,
            self._since,
            self._evidence,
        )
        return msgspec.msgpack.encode(state)

    def load(self, state: bytes) -> None:
        """Take up what `dump` returned. With another `alpha` or `delta` the certificate is made anew.

        Raises:
            ValueError: `state` is not such a thing, or of another version.
        """
        try:
            kept = msgspec.msgpack.decode(state, type=_State)
        except msgspec.DecodeError as error:
            raise ValueError(f"the state of a cascade cannot be read: {error}") from None
        if kept.version != _VERSION or not kept.verifier.fits:
            raise ValueError(f"the state of a cascade is of version {kept.version}, not {_VERSION}")
        self._fitting.extend(kept.fitting)
        self._certifying.extend(kept.certifying)
        self._more.extend(kept.more)
        self._drawn, self._since, self._evidence = kept.drawn, kept.since, kept.evidence
        self.policy = Policy(kept.verifier, kept.certificate, kept.outlook, self.loss_usd)
        if (kept.certificate.alpha, kept.certificate.delta) != (self.alpha, self.delta):
            self._certify(kept.verifier)

    def _certify(self, verifier: Verifier) -> None:
        seen = [verifier.estimate(example) for example in self._certifying]
        labels = [(quality, bool(each.lost)) for (_, quality), each in zip(seen, self._certifying, strict=True)]
        certificate = certify(labels, alpha=self.alpha, delta=self.delta)
        if self.drifted and not certificate.holds:
            certificate = msgspec.structs.replace(certificate, drifted=True)
        self.policy = Policy(verifier, certificate, Outlook.of(seen), self.loss_usd)

    def _watch(self, example: Example) -> None:
        """Withdraw the certificate if audits speak against it (e-detector, Shin, Ramdas & Rinaldo 2023)."""
        policy = self.policy
        if not policy.certificate.holds:
            return
        lost = example.lost and policy.verifier.estimate(example)[1] >= policy.certificate.threshold
        self._evidence = max(self._evidence, 1.0) * (1.0 + _STAKE * (float(lost) - self.alpha))
        if self._evidence < _PATIENCE:
            return
        self._fitting.clear()
        self._certifying.clear()
        self._more.clear()
        self._evidence = 0.0
        certificate = Certificate(alpha=self.alpha, delta=self.delta, drifted=True)
        self.policy = msgspec.structs.replace(policy, certificate=certificate)

    def _weighted(self) -> tuple[list[Example], list[float]]:
        """Return what to fit on, those that were not drawn weighing no more than their part of all requests."""
        escalated = sum(each.escalated for each in self._fitting)
        share = escalated / (escalated + len(self._more)) if escalated else 0.0
        more = list(self._more) if share else []
        examples = [*self._fitting, *more]
        return examples, [share if each.escalated else 1.0 for each in examples]
