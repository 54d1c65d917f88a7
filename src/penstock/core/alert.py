"""What an alert says."""

from __future__ import annotations

from typing import Literal

import msgspec

Severity = Literal["info", "warning", "critical"]
AlertState = Literal["firing", "resolved"]


class AlertEvent(msgspec.Struct, frozen=True):
    """A rule began or ceased to fire, or still does.

    Attributes:
        rule: The rule's name.
        state: ``firing`` or ``resolved``.
        severity: The rule's.
        at: When, seconds since the epoch.
        value: The measure; None when there was too little to tell.
        threshold: The rule's.
        message: The same in words.
        repeated: It was told before.
    """

    rule: str
    state: AlertState
    severity: Severity
    at: float
    value: float | None
    threshold: float
    message: str
    repeated: bool = False
