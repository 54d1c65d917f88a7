"""Asking models: providers, and the connections to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from penstock.core.events import Batch
from penstock.core.quota import Quota
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import Target


class ModelInfo(msgspec.Struct, frozen=True):
    """A model a provider offers: its id and, if known, when it was made (Unix seconds) and by whom."""

    id: str
    created: int = 0
    owned_by: str = ""


class Provider(Protocol):
    """Something that answers requests with a model."""

    name: str
    """The provider's name in the configuration."""

    async def send(self, request: Request, target: Target) -> Response:
        """Make one attempt at `request` on `target`, without retries.

        A live stream is returned only when its first event is there, so that failures before it can still be answered
        by another target. A stream that ends without a finish reason raises `upstream_incomplete` from the iteration.

        Raises:
            ProviderError: The attempt failed.
        """

    async def models(self) -> list[ModelInfo]:
        """List the models on offer.

        Raises:
            ProviderError: The provider cannot be asked.
        """

    async def aclose(self) -> None:
        """Close connections."""


class Sending(Protocol):
    """A request that is with a provider."""

    request: Request

    @property
    def quota(self) -> Quota | None:
        """What the provider says, with the beginning of a stream, is left of its limits; None for nothing."""

    def cancel(self) -> None:
        """Give it up."""

    def pause(self) -> None:
        """Whoever hears of events is behind: no more until `resume`."""

    def resume(self) -> None:
        """Go on."""

    def answer(self) -> Response | None:
        """Return the whole answer, once it is there; None when the provider must be asked again, with `Provider.send`.

        Of a stream that has said something the answer is an empty one; only that it is complete is of interest.

        Raises:
            ProviderError: The attempt failed.
        """


@runtime_checkable
class Immediate(Protocol):
    """A provider that can be asked without a task."""

    def begin(
        self, request: Request, target: Target, then: Callable[[], None], hear: Callable[[Batch], None] | None = None
    ) -> Sending | None:
        """Send `request`, and call `then` when the answer is there or will not come.

        Args:
            request: For a stream if there is a `hear`, otherwise for a whole answer.
            target: Where.
            then: Asks `Sending.answer` what became of it.
            hear: Told of the events of a stream as they come, before `then` is called.

        Returns:
            None when something would have to be waited for; nothing was done.

        Raises:
            ProviderError: It cannot be sent.
            InvalidRequest: The payload, given as Python values, cannot be written as JSON.
        """


class HttpRequest(msgspec.Struct, frozen=True):
    """One HTTP request to an upstream.

    Attributes:
        method: ``GET`` or ``POST``.
        path: Path and query below the transport's origin, with a leading slash.
        headers: Lower-case names; `host`, `content-length`, `connection` and `accept-encoding` are the transport's.
        body: The body, empty for none.
        deadline: Event loop time at which the whole exchange is over; None for no limit beyond the phases'.
    """

    method: str
    path: str
    headers: Sequence[tuple[str, str]]
    body: bytes = b""
    deadline: float | None = None


class HttpReply(Protocol):
    """An upstream's answer whose headers have arrived."""

    status: int
    headers: Mapping[str, str]
    """Lower-case names; of repeated fields the values joined with a comma."""

    async def read(self) -> bytes:
        """Return the whole body, decoded.

        Raises:
            ProviderError: As the iteration.
        """

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate the decoded body as it arrives.

        Raises:
            ProviderError: ``upstream_timeout``, ``upstream_incomplete`` or ``upstream_invalid`` (framing, size).
        """

    async def aclose(self) -> None:
        """Done with it: an unfinished exchange closes its connection, a finished one gives it back to the pool."""


class Transport(Protocol):
    """A pool of connections to one origin."""

    async def send(self, request: HttpRequest) -> HttpReply:
        """Send `request` and wait for the answer's headers.

        Raises:
            ProviderError: ``upstream_connect``, ``upstream_dns``, ``upstream_tls``, ``upstream_timeout``,
                ``upstream_incomplete`` or ``upstream_invalid``.
        """

    async def aclose(self) -> None:
        """Close all connections."""


@runtime_checkable
class Connected(Protocol):
    """A transport or a provider that can say how many connections it has."""

    @property
    def connections(self) -> tuple[int, int]:
        """How many are in use, counting those being made, and how many idle."""


@runtime_checkable
class Windowed(Protocol):
    """A provider that can say how long its models' prompts may be."""

    async def context_window(self, model: str) -> int | None:
        """Most tokens of a prompt and its answer together; None when it does not know the model.

        Raises:
            ProviderError: It cannot be asked.
        """
