"""What must be true when nothing happens, and what must come true when nothing fails any more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from penstock.config.settings import Settings
from penstock.core.request import NO_DIRECTIVES, Request
from penstock.matching.labels.chain import ByJudge
from penstock.testing.simulation.asked import DIRECTIVES, Asked
from penstock.testing.simulation.settings import TENANTS
from penstock.testing.simulation.weather import FAIR
from penstock.testing.simulation.wording import SPELLINGS

if TYPE_CHECKING:
    from penstock.testing.simulation.world import World

MARGIN_S = 0.1
"""How late things may be: timers are inexact, and one thing waits for another."""
SETTLED_S = 120.0
"""After this every pause a target asked for, every recovery time and every cached answer is over;"""
RESTED_S = 900.0
"""and after this so is every minute: one request of unknown length may be taken for several minutes' worth."""

FOR_EVER = "follow changes of budgets"
"""A task that does not end by itself."""

_MORE = 1_000_000
"""How much more everybody may use when the storm is over."""
_RUSH = 12
_TRIES, _TRIES_IN_RUSH = 8, 60
"""How often a client that heeds Retry-After comes back at most: alone, and beside others."""
_GROWING, _MOST = 1.5, 20.0
"""How much longer than told a client waits each time, where one call makes others, and how much at most."""
_LIMITED = "rate_limit_exceeded"


def left_over(world: World) -> Iterator[str]:
    """Name what is held although nothing is under way."""
    shared = world.shared
    if world.pipeline.running or shared.metrics.active:
        yield f"{world.pipeline.running} calls run at rest, {shared.metrics.active} are counted"
    left = [task.get_name() for task in world.loop.pending() if not task.get_name().startswith(("main", FOR_EVER))]
    if left:
        yield f"tasks at rest: {left}"
    for gate in shared.doors.states():
        if gate.in_use or gate.queued:
            yield f"{gate.in_use} slots of {gate.provider} are taken at rest, {gate.queued} wait"
    if len(shared.doors._waiting):
        yield f"{len(shared.doors._waiting)} places in the queue are taken at rest"
    for replica in shared.balancer.states():
        if replica.waiting or replica.running:
            yield f"{replica.waiting} wait and {replica.running} run at replica {replica.provider} at rest"
    if shared.hedging._crowds:
        yield f"somebody waits for {list(shared.hedging._crowds)} at rest"
    yield from _reserved(world)
    yield from _held(world)
    yield from _remembered(world)
    yield from _judging(world)


def _reserved(world: World) -> Iterator[str]:
    """Of a tenant's tokens, only those that were used may be missing."""
    now = world.clock.monotonic()
    for tenant in TENANTS:
        account = world.shared.tenants.account(tenant)
        if account is None or account.tokens is None:
            continue
        # A call of Penstock's own is on its tenant's account, but for renewals, which no limit sees.
        calls = [asked.request.call for asked in world.asked if asked.request.tenant == tenant]
        calls += [row.call for row in world.book.rows if row.request.tenant == tenant and "-" in row.call.id]
        tries = (each.usage for call in calls for each in call.attempts)
        used = sum(usage.total_tokens for usage in tries if usage is not None)
        missing = account.tokens.capacity - account.tokens.level(now)
        if missing > used + 0.001:
            yield f"{missing:.1f} tokens of {tenant} are missing at rest, {used} were used"


def _held(world: World) -> Iterator[str]:
    """Nothing of a budget is held for what is not under way, and no more is spent than it allows."""
    world.shared.budgets.close()  # gives back what requests to come would have had
    yield from (f"{amount} of {name} is held at rest" for name, amount in world.purser.held().items())
    running = [purse for purse in world.shared.budgets._purses.values() if purse.running]
    yield from (f"{purse.running} hold something of {purse.budget.id} at rest" for purse in running)
    for budget in world.shared.budgets.configured:
        spent = world.purser.spent(budget.id)
        if spent > budget.amount:
            yield f"{spent} of {budget.id} is spent, of {budget.amount}"


def _remembered(world: World) -> Iterator[str]:
    """At rest, each question has an answer, what is learnt is of questions, and nothing is under way."""
    memory, cache = world.shared.memory, world.pipeline.parts.cache
    if memory is None or cache is None:
        return
    questions = memory.questions
    known = {question.id for question in questions}
    if len(known) > memory._size:
        yield f"{len(known)} questions are remembered, of {memory._size}"
    for question in questions:
        if cache.answers.find(question.key) is None and question.id not in world.notebook.given:
            yield f"the question {question.text!r} of {question.tenant} is remembered without an answer"
    for (tenant, model), policy in memory.policies:
        for entry in policy.model.intercepts:
            if entry not in known and entry not in world.notebook.questions:
                yield f"something is learnt of a question of {tenant} to {model} that is not known"
    if memory._loading:
        yield f"{len(memory._loading)} partitions are being read at rest"


def _judging(world: World) -> Iterator[str]:
    learner = world.pipeline.learner
    for labeller in learner.labels._labellers if learner is not None else ():
        if isinstance(labeller, ByJudge) and labeller._allowance._under_way:
            yield f"{labeller._allowance._under_way} judgements are under way at rest"


async def clear_up(world: World) -> None:
    """The faults stop: after a while all goes well, and limits only cost patience."""
    world.fair = world.short.fair = True
    for provider in world.providers.values():
        provider.weather = FAIR
    world.shelf.calm()
    world.notebook.calm()
    world.purser.faults = 0.0
    world.shared.budgets.configure(
        [msgspec.structs.replace(each, amount=each.amount * _MORE) for each in world.shared.budgets.configured]
    )
    quiet_s = RESTED_S if limited(world.settings) else SETTLED_S
    await world.clock.sleep(quiet_s)
    now = world.clock.monotonic()
    for gate in world.shared.doors.states():
        door = world.shared.doors.get(gate.provider)
        if door is not None and not door.gate.room(now):
            world.problems.append(f"{gate.provider} has no room though it was left alone for {quiet_s:g} s")
    await _one_by_one(world)
    if limited(world.settings):
        await _rush(world)
    for state in world.pipeline.parts.health.states():
        if state.state != "closed":
            world.problems.append(f"not live: the breaker of {state.provider}/{state.model} is {state.state}")


def limited(settings: Settings) -> bool:
    """Whether anybody may have to wait or to come back later."""
    return settings.limits.for_tenants or any(provider.limits for provider in settings.providers)


async def _one_by_one(world: World) -> None:
    before = len(world.journal)
    patient = limited(world.settings)
    requests = [
        world.request(f"q{number}", tenant=tenant, stream=bool(number % 2), cache=directives)
        for number in range(world.plan.questions)
        for tenant in TENANTS
        for directives in (NO_DIRECTIVES, DIRECTIVES[-1])
    ]
    if world.plan.respelt:
        requests += [world.request(SPELLINGS[1].format("q0"), tenant=tenant) for tenant in TENANTS]
    models = [model.name for model in world.settings.models[1:]] + [f"{name}/m" for name in world.providers]
    requests += [world.request("direct", model=model) for model in models]
    for request in requests:
        own = msgspec.structs.replace(request, fallback=not patient)  # or else busy models would not be asked
        asked = await _polite(world, own, _TRIES if patient else 1)
        late = not patient and world.clock.monotonic() - asked.began > MARGIN_S
        if asked.result != "ok" or late or (asked.degraded and not patient):
            world.problems.append(f"not live: {asked.request.call.id} after the storm: {asked.result} {asked.degraded}")
        elif int(asked.text.split("|")[2]) < before:
            world.problems.append(f"{asked.request.call.id} was answered with what was said long ago")


async def _rush(world: World) -> None:
    """All at once, of both tenants and of all priorities: whoever heeds Retry-After is answered in the end."""
    requests = [
        world.request(f"rush {number}", tenant=TENANTS[number % 2], stream=number % 3 == 0, priority=priority)
        for number in range(_RUSH // 3)
        for priority in ("low", "normal", "high")
    ]
    clients = [_polite(world, request, _TRIES_IN_RUSH) for request in requests]
    for asked in await asyncio.gather(*clients):
        if asked.result != "ok":
            world.problems.append(f"starved: {asked.request.call.id} got {asked.result} {_TRIES_IN_RUSH} times")


async def _polite(world: World, request: Request, tries: int) -> Asked:
    """Ask, and ask again when the gateway says so."""
    settings = world.settings
    if limited(settings) and settings.cache.semantic.embedder.kind == "provider":
        # Where no more than one request fits into a limit, the one for its vector would be in its way for ever.
        request = msgspec.structs.replace(request, semantic="off")
    asked = await world.ask(request)
    # For each call others may be made, so that what was free when it was told to come back need not be enough.
    patience = _GROWING if "semantic" in settings.cache.model_fields_set else 1.0
    for number in range(tries - 1):
        if asked.result != _LIMITED or asked.retry_after is None:
            break
        await world.clock.sleep(asked.retry_after * min(patience**number, _MOST) + MARGIN_S)
        asked = await world.ask(request)
    return asked
