"""Balancing over replicas by expected time to the first token. Pure: it is told what happened, and when.

    expected = queue (work sent there that has not begun to answer) + what of the prompt the replica must still compute

So a conversation stays where its beginning is as long as that pays, and leaves when waiting would take longer than
computing it anew. Everything in it is learned from what a gateway sees: what it sent, first events, ends.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from random import Random
from typing import NamedTuple
from weakref import WeakValueDictionary

from penstock.core.call import Footprint
from penstock.core.clock import Clock
from penstock.core.request import Request
from penstock.core.route import Route, Target
from penstock.routing.pace import Pace
from penstock.routing.prefixes import Estimate, footprint
from penstock.routing.replica import Replica, Ticket

_REMEMBERED = 256
"""Names whose replicas are kept, the least recently used forgotten first: with ``name: "*"`` they come from clients."""
_TIE = 0.01
"""Differences below this share are ties, which are broken by lot."""
_RANK_S = 1e9
"""More seconds than anything takes, so that a target of a higher `order` never comes before one of a lower."""


class ReplicaState(NamedTuple):
    """One replica as metrics report it.

    Attributes:
        provider: Name of the provider in the configuration.
        model: The provider's model.
        queue_seconds: Seconds a request sent now is expected to wait there before it is begun.
        waiting: Requests that have not begun to answer.
        running: Requests that are being answered.
        slowness: Its seconds for a prompt ÷ those of an average replica.
        blocks: Blocks of prompts it probably has.
    """

    provider: str
    model: str
    queue_seconds: float
    waiting: int
    running: int
    slowness: float
    blocks: int


REPLICA = {
    "queue_seconds": "Seconds a request sent now is expected to wait at a replica before it is begun.",
    "waiting": "Requests a replica has not begun to answer.",
    "running": "Requests a replica is answering.",
    "slowness": "Seconds a replica takes for a prompt, divided by those of an average one.",
    "blocks": "Blocks of prompts a replica probably has cached.",
}
"""Fields of `ReplicaState` for the metrics page, explained."""


class _Group:
    """The replicas behind one name, which are compared with each other."""

    __slots__ = ("pace", "rows", "targets")

    def __init__(self, targets: Sequence[Target]) -> None:
        self.pace = Pace()
        self.targets = targets
        self.rows: list[tuple[float, float, Replica]] = []
        """For each target what its rank adds to its seconds, what its weight multiplies them with, and its replica."""


class Balancer:
    """What is known of all replicas that take part in balancing."""

    def __init__(self, clock: Clock, random: Random, estimate: Estimate) -> None:
        self.now = clock.monotonic
        self._random = random
        self._estimate = estimate
        self._groups: OrderedDict[str, _Group] = OrderedDict()
        self._replicas: WeakValueDictionary[tuple[str, str], Replica] = WeakValueDictionary()

    def arrange(self, request: Request) -> Sequence[Target]:
        """Order the route's targets: by `order`, those of weight 0 last, then by expected time ÷ weight."""
        route = request.route
        if route is None:
            raise AssertionError("the pipeline resolves the route before a target is chosen")
        targets = route.targets
        if len(targets) == 1:
            return targets
        prompt = self.measure(request)
        now = self.now()
        draw = self._random.random
        group = self._group(route)
        costs = [
            rank + replica.expected(prompt, now) * impatience * (1.0 + _TIE * draw())
            for rank, impatience, replica in group.rows
        ]
        return [targets[place] for place in sorted(range(len(costs)), key=costs.__getitem__)]

    def start(self, request: Request) -> Ticket | None:
        """`request` is about to be sent to its target; None when the target takes no part in balancing."""
        target, route = request.target, request.route
        if target is None or route is None:
            raise AssertionError("failover chooses a target before it is asked")
        if route.strategy == "balanced":
            self._group(route)
        replica = self._replicas.get((target.provider, target.model))
        if replica is None:
            return None
        return replica.start(self.measure(request), self.now(), whole=not request.stream)

    def measure(self, request: Request) -> Footprint:
        """The request's prompt, measured once per call."""
        call = request.call
        if call.footprint is None:
            call.footprint = footprint(request.payload, self._estimate)
        return call.footprint

    def states(self) -> list[ReplicaState]:
        """List the replicas of names used lately and how they are."""
        now = self.now()
        return [
            ReplicaState(
                provider,
                model,
                replica.queue(now),
                replica.waiting,
                replica.running,
                replica.slowness(now),
                len(replica.index),
            )
            for (provider, model), replica in self._replicas.items()
        ]

    def _group(self, route: Route) -> _Group:
        group = self._groups.get(route.model)
        if group is None or (group.targets is not route.targets and group.targets != route.targets):
            group = self._regroup(route, group)
        self._groups.move_to_end(route.model)
        return group

    def _regroup(self, route: Route, known: _Group | None) -> _Group:
        """Gather the replicas of a name that is new or has other targets than before; keep what is known of them."""
        group = _Group(route.targets)
        if known is not None:
            group.pace = known.pace
        for target in route.targets:
            key = (target.provider, target.model)
            replica = self._replicas.get(key)
            if replica is None:
                replica = self._replicas[key] = Replica(group.pace, self.now())
            rank = target.order + (0.0 if target.weight else 0.5)
            group.rows.append((rank * _RANK_S, 1.0 / (target.weight or 1.0), replica))
        self._groups[route.model] = group
        if len(self._groups) > _REMEMBERED:
            self._groups.popitem(last=False)
        return group
