"""An event loop of one thread, without sockets, whose time and order come from a seed.

Real loops run what is ready in the order in which it became so, but that order depends on the network and the kernel.
Here the seed decides it. What a program may rely on is kept: plain callbacks run in the order in which they were
scheduled, and a task never runs before what it waits for is there.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextvars import Context
from hashlib import sha256
from heapq import heappop, heappush
from random import Random
from typing import Any, NoReturn, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

TIMER_ERROR_S = 0.001
"""How much sooner or later than asked for a timer fires, as with loops that count in milliseconds."""
_RUSH = 0.02
"""How often time passes although something is ready, since running it takes time too: a share of the steps."""
_RUSH_S = 0.005
_DISORDER = (0.0, 0.2, 1.0)
_LONGEST = 500_000
_HASTE = 5


class Stuck(AssertionError):
    """Nothing is ready and nothing is scheduled, so that nothing will ever happen again; or far too much is."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs tasks in virtual time: where a real loop would wait, the clock jumps to the next timer.

    Threads are not used: work for an executor is done by the loop. There are no sockets: what would need one raises
    `NotImplementedError`.

    Attributes:
        steps: Callbacks that were run.
        errors: What tasks and callbacks raised that nobody handled.
        abandoned: Names of the async generators that were dropped before their end without being closed.
    """

    def __init__(self, seed: int, *, start: float = 1000.0, keep_trace: bool = True) -> None:
        """`start` is the time at the start, in seconds; without `keep_trace` there is no `digest`."""
        super().__init__()
        self.steps = 0
        self.errors: list[str] = []
        self.abandoned: list[str] = []
        self._random = Random(f"schedule {seed}")
        self._disorder = self._random.choice(_DISORDER)
        self._now = start
        self._ready: list[tuple[asyncio.Handle, asyncio.Task[Any] | None, str]] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._count = 0
        self._tasks: list[asyncio.Task[Any]] = []
        self._doomed: dict[asyncio.Task[Any], int] = {}
        self._trace: list[tuple[float, str]] | None = [] if keep_trace else None
        self._running = self._stopping = self._closed = False

    # Time and order

    def time(self) -> float:
        """Seconds of virtual time."""
        return self._now

    def call_soon(  # noqa: D102 - as the base class
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        owner = getattr(callback, "__self__", None)
        if isinstance(owner, asyncio.Task):
            self._ready.append((handle, owner, owner.get_name()))
        else:
            self._ready.append((handle, None, getattr(callback, "__qualname__", "callback")))
        return handle

    def call_later(  # noqa: D102 - as the base class
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # noqa: D102 - as the base class
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._count += 1
        fires = max(when + self._random.uniform(-TIMER_ERROR_S, TIMER_ERROR_S), self._now)
        heappush(self._timers, (fires, self._count, handle))
        return handle

    def call_soon_threadsafe(  # noqa: D102 - as the base class
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(self, executor: object, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]  # noqa: ANN401 - the stub's type variables cannot be repeated here
        """Do `func`'s work in a turn of the loop, not in a thread."""
        future: asyncio.Future[T] = self.create_future()
        self.call_soon(_work, future, func, args)
        return future

    def interrupt(self, task: asyncio.Task[Any], *, within: int = 6) -> None:
        """Cancel `task` at one of its next `within` suspensions, or some time after it; the seed says when."""
        self._doomed[task] = self._random.randrange(within)

    # Running

    def run_until_complete(self, main: Coroutine[Any, Any, T]) -> T:  # type: ignore[override]
        """Run `main` to its end and return its result.

        Raises:
            Stuck: It can never end.
        """
        task = self.create_task(main, name="main")
        self._run(task.done)
        return task.result()

    def run_forever(self) -> None:
        """Run until `stop` is called."""
        self._stopping = False
        self._run(lambda: self._stopping)

    def stop(self) -> None:  # noqa: D102 - as the base class
        self._stopping = True

    def is_running(self) -> bool:  # noqa: D102 - as the base class
        return self._running

    def is_closed(self) -> bool:  # noqa: D102 - as the base class
        return self._closed

    def close(self) -> None:
        """Forget what is scheduled. Tasks that still run never go on; `pending` names them."""
        for task in self.pending():
            steps = task.get_coro()
            if isinstance(steps, Coroutine) and inspect.getcoroutinestate(steps) == inspect.CORO_CREATED:
                steps.close()  # or else it would be complained about, some time, that it was never begun
        self._ready.clear()
        self._timers.clear()
        self._closed = True

    @property
    def digest(self) -> str:
        """A digest of everything that was run, in order, with its time: equal for equal runs."""
        return sha256(repr(self._trace).encode()).hexdigest()[:16]

    def note(self, what: str) -> None:
        """Put `what` into the trace."""
        if self._trace is not None:
            self._trace.append((self._now, what))

    def last(self, count: int = 30) -> list[str]:
        """The newest entries of the trace, as text."""
        return [f"{at:.4f} {what}" for at, what in (self._trace or [])[-count:]]

    def pending(self) -> list[asyncio.Task[Any]]:
        """Tasks that have not ended, in the order in which they were started."""
        self._tasks = [task for task in self._tasks if not task.done()]
        return list(self._tasks)

    def _run(self, over: Callable[[], bool]) -> None:
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=None, finalizer=self._abandoned)
        asyncio._set_running_loop(self)
        self._running = True
        try:
            while not over():
                self._step()
        finally:
            self._running = False
            asyncio._set_running_loop(None)
            sys.set_asyncgen_hooks(*hooks)

    def _step(self) -> None:
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heappop(timers)
        ready = self._ready
        if timers and (not ready or timers[0][0] <= self._now or self._hurries(timers[0][0])):
            self._now = max(self._now, timers[0][0])
            while timers and timers[0][0] <= self._now:
                handle = heappop(timers)[2]
                ready.append((handle, None, "timer"))
        if not ready:
            self._give_up("nothing is scheduled any more")
        handle_, task, name = ready.pop(self._next() if len(ready) > 1 else 0)
        if handle_.cancelled():
            return
        self.steps += 1
        if self.steps > _LONGEST:
            self._give_up(f"{_LONGEST} steps")
        if self._trace is not None:
            self._trace.append((self._now, name))
        handle_._run()
        if task is not None and task in self._doomed:
            self._count_down(task)

    def _hurries(self, when: float) -> bool:
        return when - self._now < _RUSH_S and self._random.random() < _RUSH

    def _next(self) -> int:
        if not self._disorder or self._random.random() >= self._disorder:
            return 0
        chosen = self._random.randrange(len(self._ready))
        if self._ready[chosen][1] is not None:
            return chosen
        return next(index for index, (_, task, _) in enumerate(self._ready) if task is None)

    def _count_down(self, task: asyncio.Task[Any]) -> None:
        left = self._doomed[task]
        if task.done():
            del self._doomed[task]
        elif left:
            self._doomed[task] = left - 1
        else:
            del self._doomed[task]
            if self._random.random() < 0.5:
                task.cancel()
            else:
                self.call_later(self._random.expovariate(_HASTE), task.cancel)

    def _give_up(self, why: str) -> NoReturn:
        waiting = "\n".join(_describe(task) for task in self.pending())
        raise Stuck(f"stuck at {self._now:.3f} s after {self.steps} steps: {why}; still waiting:\n{waiting}")

    # Tasks and futures

    def create_future(self) -> asyncio.Future[Any]:  # noqa: D102 - as the base class
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]  # noqa: D102 - as the base class, whose stub differs between versions
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[T]:
        self._count += 1
        task = asyncio.Task(coro, loop=self, name=f"{name or 'task'} {self._count}", context=context)
        self._tasks.append(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what went wrong in `errors`."""
        self.errors.append(f"{context.get('message')}: {context.get('exception')!r}")

    def get_debug(self) -> bool:  # noqa: D102 - as the base class
        return False

    def set_debug(self, enabled: bool) -> None:  # noqa: D102, FBT001 - as the base class
        pass

    async def shutdown_asyncgens(self) -> None:  # noqa: D102 - as the base class
        pass

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: D102, ASYNC109 - as the base class
        pass

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Called by handles; cancelled ones are skipped when they come up."""

    def _abandoned(self, generator: AsyncGenerator[Any, Any]) -> None:
        """One was dropped before its end. A real loop closes it just so, but when that is depends on the collector."""
        if not self._closed:
            self.abandoned.append(getattr(generator, "__qualname__", "generator"))
            self.create_task(_close(generator), name="close generator")


class SimulatedClock:
    """A `penstock.core.clock.Clock` on a `SimulatedLoop`'s time."""

    def __init__(self, loop: SimulatedLoop, *, wall: float = 1_800_000_000.0) -> None:
        """`wall` is the time of day at the loop's time 0, in seconds since the Unix epoch."""
        self._offset = wall
        self.monotonic = loop.time

    def wall(self) -> float:
        """Seconds since the Unix epoch; moves along with the loop's time, and by `jump`."""
        return self.monotonic() + self._offset

    def wall_at(self, monotonic: float) -> float:
        """The time of day at a loop time, by what the clock shows now."""
        return monotonic + self._offset

    def jump(self, seconds: float) -> None:
        """Move the wall clock alone, forwards or back, as an administrator or NTP does."""
        self._offset += seconds

    async def sleep(self, seconds: float) -> None:
        """Wait in virtual time; zero or less only yields to other tasks."""
        await asyncio.sleep(max(seconds, 0.0))


def _work(future: asyncio.Future[T], func: Callable[..., T], args: tuple[Any, ...]) -> None:
    if future.cancelled():
        return
    try:
        result = func(*args)
    except Exception as error:  # noqa: BLE001 - whoever waits for the work handles it
        future.set_exception(error)
    else:
        future.set_result(result)


async def _close(generator: AsyncGenerator[Any, Any]) -> None:
    await generator.aclose()


def _describe(task: asyncio.Task[Any]) -> str:
    frames = [frame.f_code.co_qualname for frame in task.get_stack()]
    return f"  {task.get_name()}: {' > '.join(frames)}"
