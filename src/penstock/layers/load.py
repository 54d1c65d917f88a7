"""Tells the balancer what each replica was sent, and when its answers begin and end."""

from __future__ import annotations

from penstock.core.errors import ProviderError
from penstock.core.events import Batch
from penstock.core.handler import Handler
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.routing.balancing import Balancer
from penstock.routing.replica import Ticket

_LOST = "upstream_connect"
"""A server that cannot be reached has probably been restarted, so its cache is empty."""


class Load:
    """Notes every request to a replica that takes part in balancing, also those that came under other names.

    Whatever becomes of a request, its ticket is given back: a replica's queue is never longer than what runs there.
    """

    def __init__(self, balancer: Balancer) -> None:
        self._balancer = balancer

    async def __call__(self, request: Request, inner: Handler, /) -> Response:
        """Answer with what the replica says."""
        ticket = self._balancer.start(request)
        if ticket is None:
            return await inner(request)
        try:
            response = await inner(request)
        except BaseException as error:
            ticket.replica.failed(ticket, lost=isinstance(error, ProviderError) and error.code == _LOST)
            raise
        if response.whole:
            ticket.replica.ended(ticket, self._balancer.now(), response.usage)
        else:
            ticket.replica.began(ticket, self._balancer.now())
            response.observe(_Watch(self._balancer, ticket))
        return response


class _Watch:
    __slots__ = ("_balancer", "_ticket")

    def __init__(self, balancer: Balancer, ticket: Ticket) -> None:
        self._balancer = balancer
        self._ticket = ticket

    def on_events(self, batch: Batch, /) -> None:
        """The first event was there before the response."""

    def on_end(self, response: Response, error: BaseException | None, /) -> None:
        replica = self._ticket.replica
        if error is None:
            replica.ended(self._ticket, self._balancer.now(), response.usage)
        else:
            replica.released(self._ticket)
