"""Who is who, and what falls to whom: by hash, so that nothing need be remembered."""

from __future__ import annotations

import math
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from penstock.core.request import Request

_encode = msgspec.json.Encoder(order="deterministic").encode
_NAMED = ("safety_identifier", "user")
_RANGE = 2.0**64


def unit_of(request: Request) -> str:
    """Return a digest of who or what is assigned: the same one gets the same arm.

    That is what `x-penstock-unit` says, else the body's ``safety_identifier`` or ``user``, else the beginning of the
    conversation up to the user's first message, else the request itself. The same unit of two tenants is two.
    """
    return blake2b(_encode((request.tenant, *_who(request))), digest_size=8).hexdigest()


class Lot:
    """Gives each unit one of several names, by their weights (rendezvous hashing, Thaler and Ravishankar 1998).

    When a weight grows, units move to that name and from no other to a third; so as few move as can.

    Args:
        salt: What is decided. Lots of different salts are independent of each other.
        weights: Of each name; none is negative.
    """

    def __init__(self, salt: str, weights: Mapping[str, float]) -> None:
        self._keys = [
            (name, blake2b(f"{salt}\0{name}".encode(), digest_size=32).digest(), weight)
            for name, weight in weights.items()
            if weight > 0
        ]

    def draw(self, unit: str) -> str:
        """Return what falls to `unit`."""
        if len(self._keys) == 1:
            return self._keys[0][0]
        text, best, chosen = unit.encode(), math.inf, ""
        for name, key, weight in self._keys:
            number = int.from_bytes(blake2b(text, digest_size=8, key=key).digest(), "big")
            # Exponentially distributed with the weight as its rate: each is the least with probability of its weight.
            wait = -math.log((number + 0.5) / _RANGE) / weight
            if wait < best:
                best, chosen = wait, name
        return chosen


def _who(request: Request) -> tuple[str, Any]:
    if request.unit:
        return "unit", request.unit
    payload = request.payload
    for name in _NAMED:
        value = payload.get(name)
        if isinstance(value, str) and value:
            return "user", value
    messages = payload.get("messages")
    if isinstance(messages, list):
        for position, message in enumerate(messages):
            if isinstance(message, dict) and message.get("role") == "user":
                return "conversation", messages[: position + 1]
    return "request", request.call.id
