"""Where a request may go: the targets behind a model name."""

from __future__ import annotations

from typing import Literal

import msgspec

Strategy = Literal["ordered", "weighted"]


class Target(msgspec.Struct, frozen=True):
    """One provider's model.

    Attributes:
        provider: Name of the provider in the configuration.
        model: The provider's own name for the model.
        weight: Share of the traffic among targets of the same `order`; 0 takes none unless the others failed.
        order: Lower ones are tried first.
        timeout_s: Seconds one attempt may take in all; None takes the provider's.
    """

    provider: str
    model: str
    weight: float = 1.0
    order: int = 0
    timeout_s: float | None = None


class Route(msgspec.Struct, frozen=True):
    """What a model name stands for, resolved.

    Attributes:
        model: The name the client used.
        targets: Where the request may be sent, as configured; never empty. `penstock.routing.selection` orders them.
        identity: Digest of the targets and of what in their providers' configuration changes answers. Part of every
            cache key, so that an answer of one model is never given as another's.
        cache_ttl_s: Seconds an answer stays fresh; None takes the cache's default, 0 switches caching off.
        timeout_s: Seconds a request may take in all, retries and failover included; None takes the default.
        strategy: ``ordered`` tries targets by `order`, then as listed; ``weighted`` draws among those of the same
            `order` by `weight`.
    """

    model: str
    targets: tuple[Target, ...]
    identity: bytes
    cache_ttl_s: float | None = None
    timeout_s: float | None = None
    strategy: Strategy = "ordered"
