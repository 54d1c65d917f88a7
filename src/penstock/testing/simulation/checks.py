"""What must be true of every simulation, whatever went wrong in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from penstock.testing.simulation.provider import Sent
from penstock.testing.simulation.world import CLOSING_S, MARGIN_S, Asked, World

_RENEWAL = "-renewal"
_HARMLESS = ("_once",)
"""Iterates what is in memory, so there is nothing to close."""


def check(world: World) -> Iterator[str]:
    """Say what is wrong; nothing if all is well."""
    yield from world.problems
    yield from _once(world)
    yield from _right(world)
    yield from _in_time(world)
    yield from _ended(world)
    yield from _no_second_answer(world)
    yield from _one_at_a_time(world)
    yield from _kept(world)
    yield from (f"nobody handled: {error}" for error in world.loop.errors)
    yield from (f"{name} was dropped, not closed" for name in world.loop.abandoned if name not in _HARMLESS)


def _once(world: World) -> Iterator[str]:
    """Every call is recorded exactly once, as its client saw it, and every request to a provider is one attempt."""
    rows = Counter(row.call.id for row in world.book.rows)
    calls = {asked.request.call.id: asked for asked in world.asked}
    yield from (f"{name} has {rows[name]} rows" for name in calls if rows[name] != 1)
    yield from (f"a row for {name}, which nobody asked" for name in rows if name.removesuffix(_RENEWAL) not in calls)
    for row in world.book.rows:
        asked = calls.get(row.call.id)
        if asked is not None and asked.result not in ("cancelled", "left") and row.outcome != asked.result:
            yield f"{row.call.id} was {asked.result} for its client, but recorded as {row.outcome}"
        if asked is not None and asked.result in ("cancelled", "left") and row.outcome == "internal_error":
            yield f"{row.call.id} was {asked.result}, but recorded as {row.outcome}"
        yield from (f"{row.call.id}: an attempt without an end" for each in row.attempts if not each.outcome)
        if row.open_attempts:
            yield f"{row.call.id} was recorded before {row.open_attempts} of its attempts had ended"
    attempts = Counter(each.provider for row in world.book.rows for each in row.attempts)
    sent = Counter(each.provider for each in world.journal)
    if attempts != sent:
        yield f"attempts recorded {dict(attempts)}, requests sent {dict(sent)}"


def _right(world: World) -> Iterator[str]:
    """Whoever was answered was given one whole answer, to its own question, made for its own tenant."""
    for asked in world.asked:
        request = asked.request
        question = request.payload["messages"][0]["content"]
        if asked.result != "ok":
            if asked.text and not asked.text.startswith(f"{request.tenant}|{question}|"):
                yield f"{request.call.id} was begun with {asked.text!r}"
            continue
        tenant, asked_for, serial, _ = asked.text.split("|", 3)
        if (tenant, asked_for) != (request.tenant, question):
            yield f"{request.call.id} of {request.tenant} about {question} was given {asked.text!r}"
        elif world.journal[int(serial)].text != asked.text:
            yield f"{request.call.id} was given {asked.text!r} of {world.journal[int(serial)].text!r}"


def _in_time(world: World) -> Iterator[str]:
    margin = MARGIN_S + (CLOSING_S if world.slow else 0.0)
    for asked in world.asked:
        if asked.late_s > margin:
            yield f"{asked.request.call.id} waited {asked.late_s:.3f} s longer than its {asked.limit_s:g} s allow"
        if not asked.result:
            yield f"{asked.request.call.id} never ended"


def _ended(world: World) -> Iterator[str]:
    """Nothing is left open upstream."""
    yield from (f"request {sent.serial} of {sent.call} is still open" for sent in world.journal if sent.ended is None)


def _no_second_answer(world: World) -> Iterator[str]:
    """Once a call has the beginning of an answer, nothing is sent for it any more."""
    first: dict[str, Sent] = {}
    for sent in world.journal:
        earlier = first.get(sent.call)
        if earlier is not None and earlier.began is not None and sent.started > earlier.began + MARGIN_S:
            yield f"{sent.call} was sent again ({sent.serial}) after {earlier.serial} had begun to answer"
        if sent.call not in first or (sent.began or 1e9) < (first[sent.call].began or 1e9):
            first[sent.call] = sent


def _one_at_a_time(world: World) -> Iterator[str]:
    """Of identical requests that may share, one at a time is with a provider."""
    if not world.plan.settings.cache.coalesce or world.plan.reload_at is not None:
        return
    alone = {asked.request.call.id for asked in world.asked if _alone(asked)}
    running: dict[tuple[str, ...], Sent] = {}
    for sent in world.journal:
        if sent.call in alone or sent.hedge:
            continue
        key = (sent.tenant, sent.question, _namespace(world, sent))
        other = running.get(key)
        if other is not None and other.call != sent.call:
            over = min(each for each in (other.ended, other.given_up, 1e9) if each is not None)
            if sent.started < over - MARGIN_S:
                yield f"requests {other.serial} of {other.call} and {sent.serial} of {sent.call} ran at the same time"
        running[key] = sent


def _kept(world: World) -> Iterator[str]:
    """Only whole answers are cached, as those of their tenant, and none that was asked not to be."""
    private = {asked.request.call.id for asked in world.asked if asked.request.cache.no_store}
    for kept in world.shelf.kept:
        found = [sent for sent in world.journal if f"|{sent.serial}|".encode() in kept.data.replace(b'"', b"")]
        said = next(iter(found), None)
        if said is None:
            continue
        if not said.whole or said.tenant != kept.tenant or said.call in private:
            yield f"cached: request {said.serial}, {said.outcome}, of {said.tenant} for {kept.tenant}"


def _alone(asked: Asked) -> bool:
    return asked.request.cache.no_store or asked.request.cache.no_cache


def _namespace(world: World, sent: Sent) -> str:
    number = int(sent.call.removesuffix(_RENEWAL).removeprefix("call "))
    return world.asked[number].request.cache.namespace + world.asked[number].request.model
