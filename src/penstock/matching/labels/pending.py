"""Decisions of late that a person, or an audit, may still say right or wrong about."""

from __future__ import annotations

from collections import OrderedDict

import msgspec


class Decided(msgspec.Struct, frozen=True):
    """What was decided on one request, and what is needed to learn from a label of it.

    Attributes:
        request_id: The request.
        tenant: Whose it is.
        model: The model name it was asked of.
        question: The number of the question whose answer was proposed.
        key: The cache key of the request.
        features: What the decision went by.
        probability: That the answer is right, as estimated then.
        audit: With which probability it was to be checked.
        served: Whether the answer was served; otherwise it only would have been (shadow) or was not.
        at: When, in seconds since the epoch.
    """

    request_id: str
    tenant: str
    model: str
    question: int
    key: bytes
    features: tuple[float, ...]
    probability: float
    audit: float
    served: bool
    at: float


class Pending:
    """The latest decisions, for as long as they can be labelled. The oldest leave first.

    Args:
        most: How many are kept.
        retention_s: How long one can be labelled.
    """

    def __init__(self, most: int = 10_000, retention_s: float = 7 * 86_400.0) -> None:
        self._most = most
        self._retention_s = retention_s
        self._kept: OrderedDict[tuple[str, str], Decided] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, decided: Decided) -> None:
        """Keep a decision; one of the same request takes the place of the earlier."""
        place = (decided.tenant, decided.request_id)
        self._kept.pop(place, None)
        self._kept[place] = decided
        self._tidy(decided.at)

    def take(self, tenant: str, request_id: str, now: float) -> Decided | None:
        """Return the decision on one of `tenant`'s requests, once, so that no label counts twice.

        Args:
            tenant: Whose request it must be.
            request_id: The request.
            now: Seconds since the epoch.

        Returns:
            None when there is none: not the tenant's, not decided on by meaning, too old, or labelled already.
        """
        self._tidy(now)
        return self._kept.pop((tenant, request_id), None)

    def forget(self, tenant: str | None = None) -> None:
        """Drop all decisions, or one tenant's."""
        for place in [place for place in self._kept if tenant is None or place[0] == tenant]:
            del self._kept[place]

    def dump(self) -> bytes:
        """Return all of it, for `restore`."""
        return msgspec.msgpack.encode(list(self._kept.values()))

    def restore(self, state: bytes, now: float) -> None:
        """Take up what `dump` returned, as far as it is not too old at `now`.

        Raises:
            msgspec.DecodeError: It is no such state.
        """
        for decided in msgspec.msgpack.decode(state, type=list[Decided]):
            self.add(decided)
        self._tidy(now)

    def _tidy(self, now: float) -> None:
        """The clock may have been set back, so the oldest need not be the first that was added; its turn comes."""
        while self._kept:
            oldest = next(iter(self._kept.values()))
            if len(self._kept) <= self._most and now - oldest.at <= self._retention_s:
                return
            self._kept.popitem(last=False)
