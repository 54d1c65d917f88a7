"""One handler, a stack of layers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from penstock.core.request import Request
from penstock.core.response import Response

Handler = Callable[[Request], Awaitable[Response]]


class Layer(Protocol):
    """Something done to a call on its way in, out, or both."""

    def __call__(self, request: Request, inner: Handler, /) -> Awaitable[Response]:
        """Answer `request`, usually by awaiting `inner` once; raises `PenstockError`.

        Usually an ``async def``; one that only looks at what comes in does without, and costs no frame.
        """


def compose(layers: Sequence[Layer], innermost: Handler) -> Handler:
    """Stack `layers`, the first outermost, on top of `innermost`."""
    handler = innermost
    for layer in reversed(layers):
        handler = _bind(layer, handler)
    return handler


def _bind(layer: Layer, inner: Handler) -> Handler:
    def handle(request: Request) -> Awaitable[Response]:
        return layer(request, inner)

    return handle
