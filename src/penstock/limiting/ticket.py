"""A request as the limits see it."""

from __future__ import annotations

from penstock.limiting.account import Charge

HIGH, NORMAL, LOW = 0, 1, 2
LEVELS = {"high": HIGH, "normal": NORMAL, "low": LOW}
"""Priorities by name; lower numbers go first."""

_OUTPUT_WORK = 2.0
"""An output token is this many input tokens' work (Sheng et al., "Fairness in Serving Large Language Models", 2024)."""


class Ticket:
    """One request's place, from asking for admission to its end.

    Attributes:
        tenant: Whose it is.
        model: The provider's model.
        priority: `HIGH`, `NORMAL` or `LOW`; among the tenant's own.
        input_tokens: Predicted.
        output_tokens: Predicted.
        spread: Output tokens kept in reserve until it is known how many there were.
        latest: When it must have started to be done in time, on a monotonic clock; None for whenever.
        started: When it did.
        charge: What it was charged at the provider's account.
        mark: What the adaptive limit wants to know it by; None without one.
        contended: Others waited when it started, so it counts for fairness.
    """

    __slots__ = ("charge", "contended", "input_tokens", "latest", "mark", "model", "output_tokens", "priority",
                 "spread", "started", "tenant")  # fmt: skip

    def __init__(
        self,
        tenant: str,
        model: str,
        input_tokens: float,
        output_tokens: float,
        spread: float = 0.0,
        priority: int = NORMAL,
    ) -> None:
        self.tenant = tenant
        self.model = model
        self.priority = priority
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.spread = spread
        self.latest: float | None = None
        self.started = 0.0
        self.charge: Charge | None = None
        self.mark: float | None = None
        self.contended = False

    @property
    def tokens(self) -> float:
        """Tokens to reserve, input and output."""
        return self.input_tokens + self.output_tokens + self.spread

    @property
    def work(self) -> float:
        """What it costs its tenant's turn."""
        return work_of(self.input_tokens, self.output_tokens)


def work_of(input_tokens: float, output_tokens: float) -> float:
    """The virtual tokens of a request: at least 1, so that none is free."""
    return 1.0 + input_tokens + _OUTPUT_WORK * output_tokens
