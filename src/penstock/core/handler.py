"""One handler, a stack of layers.

A layer that only looks at what goes in and at what comes out is written as two halves, see `Phased`: an awaited frame
costs more than most of them do. `compose` puts neighbours of that kind into one frame, and `penstock.lane` runs them
without any.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from penstock.core.events import Batch
from penstock.core.request import Request
from penstock.core.response import Response

Handler = Callable[[Request], Awaitable[Response]]


class Layer(Protocol):
    """Something done to a call on its way in, out, or both."""

    def __call__(self, request: Request, inner: Handler, /) -> Awaitable[Response]:
        """Answer `request`, usually by awaiting `inner` once; raises `PenstockError`.

        Usually an ``async def``; one that only looks at what comes in does without, and costs no frame.
        """


class Exit:
    """What a layer does when what is inside has answered or failed; a `penstock.core.response.Observer`.

    Either `failed` is called, or `on_end`: of a whole answer at once, of a live one after `begun`, and `on_events` for
    each batch. None of them blocks or raises.

    Attributes:
        leads: Others may share what is inside; see `penstock.caching.lead`.
    """

    __slots__ = ()

    leads = False

    def failed(self, error: BaseException, /) -> None:
        """There is no answer, because of `error`."""

    def begun(self, response: Response, /) -> None:
        """There is the first event of a live answer."""

    def on_events(self, batch: Batch, /) -> None:
        """Events are on their way to the client."""

    def on_end(self, response: Response, error: BaseException | None, /) -> None:
        """The answer has ended."""


Step = tuple[Request, Exit | None]
"""The request to go on with, and what to do at the end, if there is something."""
Enter = Callable[[Request, Handler], Step | None]
"""The first half of a layer, called with what is inside of it; None when it has to wait for something."""


def waits(request: Request, inner: Handler, /) -> Step | None:
    """The first half of a layer that is not in two."""
    return None


class Phased(ABC):
    """A layer in two halves, before and after what is inside, neither of which waits."""

    @abstractmethod
    def enter(self, request: Request, inner: Handler, /) -> Step | None:
        """Do what comes before `inner`; None, with nothing done, for a request that needs `handle`.

        Raises:
            PenstockError: The request is refused.
        """

    def enter_known(self, request: Request, inner: Handler, /) -> Step | None:
        """As `enter`, for a request whose answer is in memory and will be given."""
        return self.enter(request, inner)

    async def handle(self, request: Request, inner: Handler, /) -> Response:
        """Answer a request that `enter` did not take; a layer whose `enter` takes all of them has none."""
        raise AssertionError(f"{type(self).__name__}.enter takes every request")

    async def __call__(self, request: Request, inner: Handler, /) -> Response:
        """Answer `request`; raises `PenstockError`."""
        return await _in_one(((self.enter, self.handle, inner),), inner, request)


def compose(layers: Sequence[Layer], innermost: Handler) -> Handler:
    """Stack `layers`, the first outermost, on top of `innermost`."""
    return handlers(layers, innermost)[0]


def handlers(layers: Sequence[Layer], innermost: Handler) -> list[Handler]:
    """Return what answers from each of `layers` on, and last `innermost`."""
    found = [innermost]
    steps: _Steps = ()
    inside = innermost
    for layer in reversed(layers):
        inner = found[0]
        if isinstance(layer, Phased):
            steps = ((layer.enter, layer.handle, inner), *steps)
            found.insert(0, _folded(steps, inside))
        else:
            steps = ()
            inside = _bound(layer, inner)
            found.insert(0, inside)
    return found


_Steps = tuple[tuple[Enter, Callable[[Request, Handler], Awaitable[Response]], Handler], ...]


def _bound(layer: Layer, inner: Handler) -> Handler:
    def handle(request: Request) -> Awaitable[Response]:
        return layer(request, inner)

    return handle


def _folded(steps: _Steps, innermost: Handler) -> Handler:
    def handle(request: Request) -> Awaitable[Response]:
        return _in_one(steps, innermost, request)

    return handle


async def _in_one(steps: _Steps, innermost: Handler, request: Request) -> Response:
    """Run layers in one frame, up to the first that has to wait."""
    exits: list[Exit] = []
    try:
        for enter, handle, inner in steps:
            step = enter(request, inner)
            if step is None:
                response = await handle(request, inner)
                break
            request, leave = step
            if leave is not None:
                exits.append(leave)
        else:
            response = await innermost(request)
    except BaseException as error:
        for leave in reversed(exits):
            leave.failed(error)
        raise
    whole = response.whole
    for leave in reversed(exits):
        if not whole:
            leave.begun(response)
        response.observe(leave)
    return response


def run(answering: Awaitable[Response]) -> Response:
    """Return what `answering` comes to, which will not wait; raises what it raises."""
    steps = answering.__await__()
    try:
        next(steps)
    except StopIteration as done:
        response: Response = done.value
        return response
    steps.close()
    raise AssertionError("an answer at hand had to be waited for")
