"""Which model answers: at each step the one with the best quality less its cost, within what is certified."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

import msgspec

from penstock.routing.cascade.answers import Answer
from penstock.routing.cascade.certificate import Certificate
from penstock.routing.cascade.outlook import Outlook
from penstock.routing.cascade.verifier import Verifier


class Choice(StrEnum):
    """What to do next."""

    CHEAP = "cheap"
    """Ask the cheap model; or, once it has answered, serve that."""
    LARGE = "large"
    """Ask the large model."""


class Decision(NamedTuple):
    """What was decided, and why.

    Attributes:
        choice: What to do next.
        quality: The estimated probability that the cheap answer loses nothing against the large model's.
        threshold: What the quality was compared with; infinity where nothing is certified.
        reason: A short phrase in plain English, without anything of the prompt or the answer.
    """

    choice: Choice
    quality: float
    threshold: float
    reason: str


class Policy(msgspec.Struct, frozen=True):
    """Decides for one cascade of a cheap and a large model. Longer cascades are cascades of cascades.

    Attributes:
        verifier: Estimates quality.
        certificate: What may be served; without one the large model answers.
        outlook: Which qualities to expect after a prompt; without one the cheap model is always asked first.
        loss_usd: What a lost request costs its user: the reciprocal of the weight of cost against quality. Cheap
            answers that are certified are still not served if their chance of a loss costs more than the large model.
            0 saves all that the certificate allows.
    """

    verifier: Verifier
    certificate: Certificate = Certificate()
    outlook: Outlook | None = None
    loss_usd: Decimal = Decimal(0)

    def before(self, prompt: str, *, cheap_usd: Decimal | None = None, large_usd: Decimal | None = None) -> Decision:
        """Decide which model is asked first.

        The cheap one, if what its answer can be expected to save is worth its cost.

        Args:
            prompt: What is asked.
            cheap_usd: What the cheap model's answer will cost, as far as is known.
            large_usd: What the large one's will.
        """
        prospect = self.verifier.prospect(prompt)
        certificate = self.certificate
        if not certificate.holds:
            return Decision(Choice.LARGE, prospect, certificate.threshold, certificate.reason)
        threshold = self._threshold(large_usd)
        if threshold > 1.0:
            return Decision(Choice.LARGE, prospect, threshold, "a loss costs more than the large model")
        if self.outlook is None or cheap_usd is None or large_usd is None:
            return Decision(Choice.CHEAP, prospect, threshold, "the cheap model first")
        saving = self.outlook.saving(prospect, threshold, float(large_usd), float(self.loss_usd))
        if saving < float(cheap_usd):
            return Decision(Choice.LARGE, prospect, threshold, "the cheap answer would not be worth its cost")
        return Decision(Choice.CHEAP, prospect, threshold, "the cheap model first")

    def after(self, prompt: str, answer: Answer, *, large_usd: Decimal | None = None) -> Decision:
        """Decide whether the cheap answer is served.

        Args:
            prompt: What was asked.
            answer: The cheap answer.
            large_usd: What the large model's will cost, as far as is known.
        """
        certificate = self.certificate
        threshold = self._threshold(large_usd)
        fault = answer.fault()
        if fault is not None:
            return Decision(Choice.LARGE, 0.0, threshold, fault)
        quality = self.verifier.quality(prompt, answer)
        if not certificate.holds:
            return Decision(Choice.LARGE, quality, threshold, certificate.reason)
        if quality >= threshold:
            return Decision(Choice.CHEAP, quality, threshold, certificate.reason)
        certified = quality >= certificate.threshold
        why = "a loss would cost more than the large model" if certified else "below the certified quality"
        return Decision(Choice.LARGE, quality, threshold, why)

    def _threshold(self, large_usd: Decimal | None) -> float:
        """The certificate is a floor; the worth of a loss against the cost of the large model only raises it."""
        if not self.loss_usd or large_usd is None:
            return self.certificate.threshold
        return max(self.certificate.threshold, 1.0 - float(large_usd / self.loss_usd))
