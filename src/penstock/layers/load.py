"""Tells the balancer what each replica was sent, and when its answers begin and end."""

from __future__ import annotations

from penstock.core.errors import ProviderError
from penstock.core.handler import Exit, Handler, Phased, Step
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.routing.balancing import Balancer
from penstock.routing.replica import Ticket

_LOST = "upstream_connect"
"""A server that cannot be reached has probably been restarted, so its cache is empty."""


class Load(Phased):
    """Notes every request to a replica that takes part in balancing, also those that came under other names.

    Whatever becomes of a request, its ticket is given back: a replica's queue is never longer than what runs there.
    """

    def __init__(self, balancer: Balancer) -> None:
        self._balancer = balancer

    def enter(self, request: Request, inner: Handler, /) -> Step:
        """Take a ticket, which is given back at the end."""
        ticket = self._balancer.start(request)
        return request, None if ticket is None else _Return(self._balancer, ticket)


class _Return(Exit):
    __slots__ = ("_balancer", "_ticket")

    def __init__(self, balancer: Balancer, ticket: Ticket) -> None:
        self._balancer = balancer
        self._ticket = ticket

    def failed(self, error: BaseException, /) -> None:
        lost = isinstance(error, ProviderError) and error.code == _LOST
        self._ticket.replica.failed(self._ticket, lost=lost)

    def begun(self, response: Response, /) -> None:
        self._ticket.replica.began(self._ticket, self._balancer.now())

    def on_end(self, response: Response, error: BaseException | None, /) -> None:
        replica = self._ticket.replica
        if error is None:
            replica.ended(self._ticket, self._balancer.now(), response.usage)
        else:
            replica.released(self._ticket)
