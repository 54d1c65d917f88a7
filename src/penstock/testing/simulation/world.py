"""The gateway's pipeline in a storm: clients that come, wait, leave and are cut off, before providers that fail.

After the storm everything must have come to rest; then the faults stop, and every call succeeds. Or the gateway is shut
down in the middle of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from random import Random
from typing import TypeVar

import msgspec

from penstock.core.call import Call
from penstock.core.errors import PenstockError
from penstock.core.request import NO_DIRECTIVES, CacheDirectives, Request
from penstock.core.response import Response
from penstock.pipeline import Pipeline, Shared
from penstock.testing.simulation.books import Book, Shelf
from penstock.testing.simulation.loop import SimulatedClock, SimulatedLoop
from penstock.testing.simulation.plan import TENANTS, Plan
from penstock.testing.simulation.provider import FAIR, FaultyProvider, Sent

T = TypeVar("T")

MARGIN_S = 0.1
"""How late things may be: timers are inexact, and one thing waits for another."""
CLOSING_S = 10.0
"""How long closing may take when providers are slow to close: several tries, each up to 4 s."""
SETTLED_S = 120.0
"""After this every pause a target asked for, every recovery time and every cached answer is over."""

_DIRECTIVES = (
    CacheDirectives(no_cache=True),
    CacheDirectives(no_store=True),
    CacheDirectives(only_if_cached=True),
    CacheDirectives(max_age=1.0),
    CacheDirectives(stale_if_error=5.0),
    CacheDirectives(ttl=1.0),
    CacheDirectives(namespace="other"),
)
_PAUSES_S = (0.0, 0.1, 3.0)


class Asked(msgspec.Struct):
    """One call as its client saw it.

    Attributes:
        request: What was asked.
        began: When, in loop time.
        limit_s: How long it may take.
        result: ``ok``, ``left``, ``cancelled`` or the code of the error; empty while it runs.
        text: What was answered.
        late_s: By how much the longest wait was longer than allowed.
        cache: What the cache had to do with it.
    """

    request: Request
    began: float
    limit_s: float
    result: str = ""
    text: str = ""
    late_s: float = 0.0
    cache: str = ""


class World:
    """Everything in one simulation.

    Attributes:
        asked: All calls, in the order in which they were made.
        journal: All requests to providers.
        book: All rows of the record.
        shelf: The cache's store.
        problems: What was found to be wrong while it ran.
        slow: Closing may take time.
        closed: The gateway is shutting down.
        fair: The storm is over.
    """

    def __init__(self, loop: SimulatedLoop, seed: int, plan: Plan, random: Random) -> None:
        self.loop = loop
        self.plan = plan
        self.clock = SimulatedClock(loop)
        self.asked: list[Asked] = []
        self.journal: list[Sent] = []
        self.book = Book()
        self.shelf = Shelf(Random(f"store {seed}"), faults=plan.store_faults)
        self.problems: list[str] = []
        self.providers = {
            each.name: FaultyProvider(each.name, self.clock, Random(f"{each.name} {seed}"), weather, self.journal)
            for each, weather in zip(plan.settings.providers, plan.weathers, strict=True)
        }
        self.slow = any(weather.slow for weather in plan.weathers)
        self.closed = False
        self.fair = False
        self._random = random
        self._seed = seed
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Let it all happen."""
        self.shared = await Shared.open(self.plan.settings, self.clock)
        self.shared.random = Random(f"pipeline {self._seed}")
        self.shared.stores.ledger = self.book
        self.shared.stores.cache = self.shelf
        self.pipeline = await self._open()
        self._teach_hedging()
        await self._storm()
        if not self.closed:
            await self._come_to_rest()
            await self._clear_up()
            await self._shut_down()

    async def _open(self, previous: Pipeline | None = None) -> Pipeline:
        return await Pipeline.open(self.plan.settings, self.shared, providers=self.providers, previous=previous)

    def _teach_hedging(self) -> None:
        """Without a past, nothing would be late."""
        route = self.pipeline.routes.resolve("m")
        if route.hedge is not None:
            for _ in range(40):
                self.shared.hedging.earn(route, route.hedge, 20, 40)
                for target in route.targets:
                    self.shared.hedging.learn(route, target, 20, 0.02)

    # The storm

    async def _storm(self) -> None:
        plan, spawn = self.plan, self.loop.create_task
        moments = sorted(self._random.choice((0.0, self._random.random())) * plan.spread_s for _ in range(plan.calls))
        self._tasks = [spawn(self._client(self._draw(), at), name="client") for at in moments]
        others = [
            spawn(work(at), name=work.__name__)
            for work, at in zip(
                (self._reload, self._clear, self._stop),
                (plan.reload_at, plan.clear_at, plan.shutdown_at),
                strict=True,
            )
            if at is not None
        ]
        longest = plan.spread_s + 3 * plan.settings.timeout_s + len(_PAUSES_S) * 30 + CLOSING_S
        await self._ends("the storm", asyncio.wait(self._tasks), longest)
        await self._ends("reload and shutdown", asyncio.gather(*others), longest)
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                self.problems.append(f"{task.get_name()} was given {error!r}")

    def _draw(self) -> Request:
        random, plan = self._random, self.plan
        question = f"q{random.randrange(plan.questions)}"
        directives = random.choice(_DIRECTIVES) if random.random() < plan.directed else NO_DIRECTIVES
        return self._request(
            question,
            tenant=random.choice(TENANTS),
            stream=random.random() < plan.streams,
            cache=directives,
            timeout_s=random.choice((0.01, 0.5, 3.0)) if random.random() < plan.hasty else None,
        )

    def _request(
        self,
        question: str,
        *,
        model: str = "m",
        tenant: str = TENANTS[0],
        stream: bool = False,
        cache: CacheDirectives = NO_DIRECTIVES,
        timeout_s: float | None = None,
    ) -> Request:
        payload = {"messages": [{"role": "user", "content": question}]}
        return Request("chat", model, payload, Call(""), stream=stream, tenant=tenant, cache=cache, timeout_s=timeout_s)

    async def _client(self, request: Request, at: float) -> None:
        await self.clock.sleep(at)
        if self.closed:
            return
        task = asyncio.current_task()
        if task is not None and self._random.random() < self.plan.cancels:
            self.loop.interrupt(task)
        await self._ask(request)

    async def _ask(self, request: Request) -> Asked:
        now = self.clock.monotonic()
        call = Call(f"call {len(self.asked)}", started=now, started_at=self.clock.wall())
        limit = self.plan.settings.timeout_s
        asked = Asked(msgspec.structs.replace(request, call=call), now, min(limit, request.timeout_s or limit))
        self.asked.append(asked)
        try:
            response = await self._timed(asked, self.pipeline(asked.request))
            try:
                await self._read(asked, response)
            finally:
                await response.aclose()
        except PenstockError as error:
            asked.result = error.code
        except asyncio.CancelledError:
            asked.result = "cancelled"
            raise
        finally:
            asked.cache = call.cache
            self.loop.note(f"{call.id}: {asked.result} {asked.text}")
        return asked

    async def _read(self, asked: Asked, response: Response) -> None:
        if not asked.request.stream:
            asked.text = _text_of_body(await self._timed(asked, response.read()))
            asked.result = "ok"
            return
        leaves = not self.fair and self._random.random() < self.plan.leaves
        lingers = not self.fair and self._random.random() < self.plan.lingers
        batches = aiter(response)
        while True:
            if lingers:
                await self.clock.sleep(self._random.choice(_PAUSES_S))
            if leaves and self._random.random() < 0.3:
                asked.result = "left"
                return
            try:
                batch = await self._timed(asked, anext(batches))
            except StopAsyncIteration:
                break
            asked.text += "".join(_text_of_chunk(event.data) for event in batch)
        asked.result = "ok"

    async def _timed(self, asked: Asked, work: Awaitable[T]) -> T:
        allowed = max(asked.began + asked.limit_s, self.clock.monotonic())
        try:
            return await work
        finally:
            asked.late_s = max(asked.late_s, self.clock.monotonic() - allowed)

    # What else happens

    async def _reload(self, at: float) -> None:
        await self.clock.sleep(at)
        if self.closed:
            return
        old, self.pipeline = self.pipeline, await self._open(self.pipeline)
        await self._ends("the old pipeline", old.idle(), 600.0)
        await old.aclose()

    async def _clear(self, at: float) -> None:
        await self.clock.sleep(at)
        if self.pipeline.parts.cache is not None:
            self.pipeline.parts.cache.clear()

    async def _stop(self, at: float) -> None:
        await self.clock.sleep(at)
        self.closed = True
        try:
            async with asyncio.timeout(self._random.choice((0.0, 1.0, 5.0))):
                await self.pipeline.idle()
        except TimeoutError:
            if self._random.random() < 0.5:
                for task in self._tasks:
                    task.cancel()
                await self._ends("clients at shutdown", asyncio.wait(self._tasks), 2 * CLOSING_S)
        await self._shut_down()

    # The end

    async def _come_to_rest(self) -> None:
        longest = 3 * (self.plan.settings.timeout_s + self.plan.settings.providers[0].timeouts.total_s) + 2 * CLOSING_S
        await self._ends("background tasks", self.shared.tasks.drain(), longest)
        await self.clock.sleep(MARGIN_S)
        self._at_rest()

    async def _clear_up(self) -> None:
        """The faults stop: after a while, all goes well."""
        self.fair = True
        for provider in self.providers.values():
            provider.weather = FAIR
        self.shelf.faults = 0.0
        await self.clock.sleep(SETTLED_S)
        sent_before = len(self.journal)
        requests = [
            self._request(f"q{number}", tenant=tenant, stream=bool(number % 2), cache=directives)
            for number in range(self.plan.questions)
            for tenant in TENANTS
            for directives in (NO_DIRECTIVES, _DIRECTIVES[-1])
        ]
        requests += [self._request("direct", model=f"{name}/m") for name in self.providers]
        for request in requests:
            asked = await self._ask(request)
            if asked.result != "ok" or self.clock.monotonic() - asked.began > MARGIN_S:
                self.problems.append(f"not live: {asked.request.call.id} after the storm: {asked.result}")
            elif int(asked.text.split("|")[2]) < sent_before:
                self.problems.append(f"{asked.request.call.id} was answered with what was said long ago")
        for state in self.pipeline.parts.health.states():
            if state.state != "closed":
                self.problems.append(f"not live: the breaker of {state.provider} is {state.state}")
        await self._ends("background tasks after the storm", self.shared.tasks.drain(), MARGIN_S)
        await self.clock.sleep(MARGIN_S)
        self._at_rest()

    async def _shut_down(self) -> None:
        self.closed = True
        await self._ends("closing", self._close(), 2 * CLOSING_S)

    async def _close(self) -> None:
        await self.pipeline.aclose()
        await self.shared.aclose()

    def _at_rest(self) -> None:
        if self.pipeline.running or self.shared.metrics.active:
            self.problems.append(f"{self.pipeline.running} calls run at rest, {self.shared.metrics.active} are counted")
        left = [task.get_name() for task in self.loop.pending() if not task.get_name().startswith("main")]
        if left:
            self.problems.append(f"tasks at rest: {left}")

    async def _ends(self, what: str, work: Awaitable[object], seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await work
        except TimeoutError:
            running = [task.get_name() for task in self.loop.pending()]
            self.problems.append(f"{what}: not over after {seconds:g} s; {running}")


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    message: _Delta | None = None


class _Said(msgspec.Struct):
    choices: list[_Choice] = []


_decode = msgspec.json.Decoder(_Said).decode


def _text_of_chunk(data: bytes) -> str:
    return "".join((choice.delta.content if choice.delta else "") or "" for choice in _decode(data).choices)


def _text_of_body(data: bytes) -> str:
    return "".join((choice.message.content if choice.message else "") or "" for choice in _decode(data).choices)
