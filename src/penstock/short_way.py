"""The short way through a pipeline's layers: what of them is run by a `penstock.lane.Lane`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

from penstock.abc import Immediate, Provider, Sending
from penstock.core.errors import PenstockError
from penstock.core.events import Batch
from penstock.core.handler import Handler, Layer
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.core.route import Target
from penstock.lane import Lane, Stage
from penstock.layers.attempt import Attempts
from penstock.layers.deadline import Deadline
from penstock.layers.failover import Failover
from penstock.layers.retry import Retry
from penstock.shared import Shared


def make_lane(
    calls: Mapping[str, Stage],
    targets: Mapping[str, Stage],
    layers: Mapping[str, Layer],
    providers: Mapping[str, Provider],
    provide: Handler,
    shared: Shared,
) -> Lane:
    """Make the lane.

    Args:
        calls: The layers once per call, outermost first.
        targets: Those once per target.
        layers: All of them, by name.
        providers: The providers, by name.
        provide: Asks the one of a request's target.
        shared: What outlives the configuration.
    """
    names = list(calls)
    outside = names.index("failover")
    failover, retry, deadline, attempts = (layers[name] for name in ("failover", "retry", "deadline", "attempt"))
    assert isinstance(failover, Failover)
    assert isinstance(retry, Retry)
    assert isinstance(deadline, Deadline)
    assert isinstance(attempts, Attempts)
    # Found out once: a look at a protocol's members costs as much as several layers.
    begins = {name: each.begin for name, each in providers.items() if isinstance(each, Immediate)}

    def begin(request: Request, then: Callable[[], None], hear: Callable[[Batch], None] | None) -> Sending | None:
        target = request.target
        if target is None:
            raise AssertionError("the lane chooses a target before a provider is asked")
        ask = begins.get(target.provider)
        return None if ask is None else ask(request, target, then, hear)

    return Lane(
        call=[calls[name] for name in names[:outside]],
        target=[*(calls[name] for name in names[outside + 1 :]), *targets.values()],
        order=failover.order,
        elsewhere=partial(_after_first, failover, retry, calls["failover"].inner, targets["retry"].inner),
        begin=begin,
        provide=partial(attempts.in_time, inner=provide),
        failover=calls["failover"].whole,
        ready=shared.loading.done,
        in_time=deadline.in_time,
        clock=shared.clock,
        tasks=shared.tasks,
    )


async def _after_first(
    failover: Failover,
    retry: Retry,
    inside_failover: Handler,
    inside_retry: Handler,
    request: Request,
    targets: Sequence[Target],
    error: PenstockError,
    tried: bool,  # noqa: FBT001 the type of `Lane.elsewhere`, which has no names
) -> Response:
    """Go on as failover does when the first of `targets` has failed with `error`, and retry if that has `tried` it."""
    failures = [error]

    def fail_first(request: Request) -> Awaitable[Response]:
        if failures:
            raise failures.pop()
        return inside_retry(request)

    def ask(request: Request) -> Awaitable[Response]:
        if not failures:
            return inside_failover(request)
        if tried:
            return retry(request, fail_first)
        raise failures.pop()

    try:
        return await failover.through(request, ask, targets)
    finally:
        del error  # its traceback refers to this frame
