"""The gateway's pipeline in a storm: clients that come, wait, leave and are cut off, before providers that fail.

After the storm everything must have come to rest; then the faults stop, and every call succeeds. Or the gateway is shut
down in the middle of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from random import Random
from typing import TypeVar

import msgspec

from penstock.config.settings import Settings
from penstock.core.call import Call
from penstock.core.errors import PenstockError
from penstock.core.request import NO_DIRECTIVES, CacheDirectives, Priority, Request
from penstock.core.response import Response
from penstock.core.route import ContextMode, SemanticMode
from penstock.pipeline import Pipeline
from penstock.semantic.memory import Memory
from penstock.shared import Shared
from penstock.testing.simulation.asked import CONTEXTS, DIRECTIVES, Asked, text_of_body, text_of_chunk
from penstock.testing.simulation.books import Book, Notebook, Purser, Shelf
from penstock.testing.simulation.loop import SimulatedClock, SimulatedLoop
from penstock.testing.simulation.plan import Plan
from penstock.testing.simulation.provider import FaultyProvider, Sent
from penstock.testing.simulation.rest import FOR_EVER, MARGIN_S, clear_up, left_over, limited
from penstock.testing.simulation.settings import OPERATION, TENANTS
from penstock.testing.simulation.short import ShortClient, ShortWay
from penstock.testing.simulation.wording import EARLIER, NEAR, SPELLINGS, question_of

T = TypeVar("T")

CLOSING_S = 10.0
"""How long closing may take when providers are slow to close: several tries, each up to 4 s."""

_STEPS, _SHORT_STEPS = 6, 2
"""At which of its suspensions a client is cut off at the latest: those who wait on the short way have few."""
_PAUSES_S = (0.0, 0.1, 3.0)


class World:
    """Everything in one simulation.

    Attributes:
        settings: The configuration in force.
        asked: All calls, in the order in which they were made.
        journal: All requests to providers.
        book: All rows of the record.
        shelf: The cache's store.
        notebook: The store of questions.
        purser: The store of budgets.
        memories: What was remembered of questions, under each configuration that needed another memory.
        praised: Tenants and questions of answers by meaning that a person found right, which are exact from then on.
        problems: What was found to be wrong while it ran.
        slow: Closing may take time.
        closed: The gateway is shutting down.
        fair: The storm is over.
    """

    def __init__(self, loop: SimulatedLoop, seed: int, plan: Plan, random: Random) -> None:
        self.loop = loop
        self.plan = plan
        self.settings = plan.settings
        self.clock = SimulatedClock(loop)
        self.asked: list[Asked] = []
        self.journal: list[Sent] = []
        self.purser = Purser(self.clock, Random(f"budgets {seed}"), faults=plan.store_faults)
        self.book = Book(self.purser)
        self.shelf = Shelf(Random(f"store {seed}"), faults=plan.store_faults, hangs=plan.store_hangs)
        self.notebook = Notebook(Random(f"questions {seed}"), faults=plan.store_faults, hangs=plan.store_hangs)
        self.memories: list[Memory] = []
        self.praised: set[tuple[str, str]] = set()
        self.problems: list[str] = []
        self.providers = {
            each.name: FaultyProvider(
                each.name,
                self.clock,
                Random(f"{each.name} {seed}"),
                weather,
                self.journal,
                total_s=each.timeouts.total_s,
            )
            for each, weather in zip(plan.settings.providers, plan.weathers, strict=True)
        }
        self.slow = any(weather.slow for weather in plan.weathers)
        self.closed = False
        self.fair = False
        self.short = ShortWay(Random(f"clients {seed}"), self.problems.append)
        self._random = random
        self._seed = seed
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Let it all happen."""
        self.shared = await Shared.open(self.plan.settings, self.clock)
        self.purser.on_event = self.shared.stores.budgets.on_event
        self.shared.stores.budgets = self.shared.budgets.store = self.purser
        self.shared.random.seed(f"pipeline {self._seed}")
        self.shared.stores.ledger = self.book
        self.shared.stores.cache = self.shelf
        self.shared.stores.questions = self.notebook
        self.pipeline = await self._open()
        self._teach_hedging()
        await self._storm()
        if not self.closed:
            # An answer is checked, then compared, by models that may be asked for vectors first.
            rounds = 3 * (4 if "semantic" in self.settings.cache.model_fields_set else 1)
            longest = rounds * (self.settings.timeout_s + self.settings.providers[0].timeouts.total_s) + 2 * CLOSING_S
            await self._come_to_rest("background tasks", longest)
            await clear_up(self)
            # What runs in the background may wait its turn at a provider with limits.
            longest = rounds * self.settings.timeout_s + MARGIN_S if limited(self.settings) else MARGIN_S
            await self._come_to_rest("background tasks after the storm", longest)
            await self._shut_down()

    async def _open(self, previous: Pipeline | None = None) -> Pipeline:
        pipeline = await Pipeline.open(self.settings, self.shared, providers=self.providers, previous=previous)
        if pipeline.parts.memory is not None and pipeline.parts.memory not in self.memories:
            self.memories.append(pipeline.parts.memory)
        return pipeline

    def _teach_hedging(self) -> None:
        """Without a past, nothing would be late."""
        route = self.pipeline.routes.resolve("m")
        if route.hedge is not None:
            for _ in range(40):
                self.shared.hedging.earn(route, route.hedge, 20, 40)
                for target in route.targets:
                    self.shared.hedging.learn(route, target, 20, 0.02)

    def in_force(self) -> list[Settings]:
        """Return the configurations there have been."""
        return [self.plan.settings] if self.settings is self.plan.settings else [self.plan.settings, self.settings]

    # The storm

    async def _storm(self) -> None:
        plan, spawn = self.plan, self.loop.create_task
        moments = sorted(self._random.choice((0.0, self._random.random())) * plan.spread_s for _ in range(plan.calls))
        self._tasks = [spawn(self._client(request, at), name="client") for request, at in self._drawn(moments)]
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

    def _drawn(self, moments: list[float]) -> Iterator[tuple[Request, float]]:
        before: tuple[Request, float] | None = None
        for at in moments:
            request = self._draw()
            if before is not None and self._random.random() < self.plan.crowds:
                asked, at = before
                request = msgspec.structs.replace(request, tenant=asked.tenant, payload=asked.payload)
            before = request, at
            yield before

    def _draw(self) -> Request:
        random, plan = self._random, self.plan
        question = f"q{random.randrange(plan.questions)}"
        if random.random() < plan.near:
            question = random.choice(NEAR).format(question)
        if random.random() < plan.respelt:
            question = random.choice(SPELLINGS).format(question)
        directives = random.choice(DIRECTIVES) if random.random() < plan.directed else NO_DIRECTIVES
        return self.request(
            question,
            tenant=random.choice(TENANTS),
            stream=random.random() < plan.streams,
            cache=directives,
            timeout_s=random.choice((0.01, 0.5, 3.0)) if random.random() < plan.hasty else None,
            priority=random.choice(("high", "low")) if random.random() < plan.ranked else "normal",
            operation=OPERATION if random.random() < plan.named else None,
            talks=random.random() < plan.talks,
            semantic=random.choice(("off", "shadow", "on")) if random.random() < plan.moded else None,
            context=random.choice(CONTEXTS) if random.random() < plan.shaped else (None, None),
        )

    def request(  # noqa: PLR0913 - the fields of a request, each on its own
        self,
        question: str,
        *,
        model: str = "m",
        tenant: str = TENANTS[0],
        stream: bool = False,
        cache: CacheDirectives = NO_DIRECTIVES,
        timeout_s: float | None = None,
        priority: Priority = "normal",
        operation: str | None = None,
        talks: bool = False,
        semantic: SemanticMode | None = None,
        context: tuple[ContextMode | None, int | None] = (None, None),
    ) -> Request:
        """What a client asks; `ask` gives it a number."""
        return Request(
            "chat",
            model,
            {"messages": [*(EARLIER if talks else ()), {"role": "user", "content": question}]},
            Call(""),
            stream=stream,
            tenant=tenant,
            metadata=None if operation is None else {"operation": operation},
            cache=cache,
            timeout_s=timeout_s,
            priority=priority,
            semantic=semantic,
            context=context[0],
            context_tokens=context[1],
        )

    async def _client(self, request: Request, at: float) -> None:
        await self.clock.sleep(at)
        if self.closed:
            return
        short = self._random.random() < self.plan.short
        task = asyncio.current_task()
        if task is not None and self._random.random() < self.plan.cancels:
            self.loop.interrupt(task, within=_SHORT_STEPS if short else _STEPS)
        asked = await self.ask(request, short=short)
        if asked.result == "ok" and asked.cache == "semantic" and self._random.random() < self.plan.rates:
            await self._rate(asked)

    async def ask(self, request: Request, *, short: bool | None = None) -> Asked:
        """Ask, and read the answer as the seed says; `short` decides whether as by way of a server."""
        now = self.clock.monotonic()
        call = Call(f"call {len(self.asked)}", started=now, started_at=self.clock.wall())
        limit = self.plan.settings.timeout_s
        asked = Asked(msgspec.structs.replace(request, call=call), now, min(limit, request.timeout_s or limit))
        self.asked.append(asked)
        try:
            response = await self._timed(asked, self._answer(asked.request, short=short))
            try:
                await self._read(asked, response)
            finally:
                await response.aclose()
        except PenstockError as error:
            asked.failed(error)
        except asyncio.CancelledError:
            asked.result = "cancelled"
            raise
        finally:
            asked.cache = call.cache
            self.loop.note(f"{call.id}: {asked.result} {asked.text}")
        return asked

    async def _answer(self, request: Request, *, short: bool | None) -> Response | ShortClient:
        if self._random.random() < self.plan.short if short is None else short:
            answer, request = self.short.ask(self.pipeline, request)
            if answer is not None:
                return answer
        return await self.pipeline(request)

    async def _read(self, asked: Asked, response: Response | ShortClient) -> None:
        if not asked.request.stream:
            asked.text = text_of_body(await self._timed(asked, response.read()))
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
            asked.text += "".join(text_of_chunk(each.data) for event in batch for each in event.singles())
        asked.result = "ok"

    async def _timed(self, asked: Asked, work: Awaitable[T]) -> T:
        allowed = max(asked.began + asked.limit_s, self.clock.monotonic())
        try:
            return await work
        finally:
            asked.late_s = max(asked.late_s, self.clock.monotonic() - allowed)

    # What else happens

    async def _rate(self, asked: Asked) -> None:
        """A person says whether an answer by meaning was right, not always truly."""
        right, request, learner = self._random.random() < 0.7, asked.request, self.pipeline.learner
        if right:
            self.praised.add((request.tenant, question_of(request.payload)))
        if learner is not None:
            await learner.told(request.tenant, request.call.id, right=right)
            if await learner.told(request.tenant, request.call.id, right=right):
                self.problems.append(f"{request.call.id} was rated twice")

    async def _reload(self, at: float) -> None:
        await self.clock.sleep(at)
        if self.closed:
            return
        self.settings = self.plan.later
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
                    client = self.short.clients.get(task)
                    if client is None or client.over:
                        task.cancel()
                    else:
                        client.cut_off()
                await self._ends("clients at shutdown", asyncio.wait(self._tasks), 2 * CLOSING_S)
        await self._shut_down()

    # The end

    async def _come_to_rest(self, what: str, longest_s: float) -> None:
        await self._ends(what, self._drain(), longest_s)
        await self.clock.sleep(MARGIN_S)
        self.problems += left_over(self)

    async def _drain(self) -> None:
        while tasks := [task for task in self.shared.tasks._tasks if not task.get_name().startswith(FOR_EVER)]:
            await asyncio.wait(tasks)

    async def _shut_down(self) -> None:
        self.closed = True
        await self._ends("closing", self._close(), 2 * CLOSING_S)

    async def _close(self) -> None:
        await self.pipeline.aclose()
        await self.shared.aclose()

    async def _ends(self, what: str, work: Awaitable[object], seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await work
        except TimeoutError:
            running = [task.get_name() for task in self.loop.pending()]
            self.problems.append(f"{what}: not over after {seconds:g} s; {running}")
