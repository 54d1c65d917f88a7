"""What must be true of every simulation, whatever went wrong in it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from penstock.core.call import TEMPLATE
from penstock.testing.simulation.asked import OFF, Asked, terms_of
from penstock.testing.simulation.books import serial_in
from penstock.testing.simulation.cutting import cut
from penstock.testing.simulation.meaning import answers, number_of, reused
from penstock.testing.simulation.provider import Sent
from penstock.testing.simulation.rest import MARGIN_S
from penstock.testing.simulation.wording import question_of
from penstock.testing.simulation.world import CLOSING_S, World

_BACKGROUND = re.compile(r"-(renewal|audit|judge|embedding|summary)")
_RENEWAL, _AUDIT, _JUDGE, _EMBEDDING, _SUMMARY = "-renewal", "-audit", "-judge", "-embedding", "-summary"
_GRACE_S = 0.1
"""How long the cache may look for a stale answer when the time is over."""
_HARMLESS = ("_once",)
"""Iterates what is in memory, so there is nothing to close."""


def check(world: World) -> Iterator[str]:
    """Say what is wrong; nothing if all is well."""
    yield from world.problems
    yield from _once(world)
    yield from _right(world)
    yield from _in_time(world)
    yield from _ended(world)
    yield from _only_cached(world)
    yield from _no_second_answer(world)
    yield from _one_at_a_time(world)
    yield from _kept(world)
    yield from cut(world)
    yield from (f"nobody handled: {error}" for error in world.loop.errors)
    yield from (f"{name} was dropped, not closed" for name in world.loop.abandoned if name not in _HARMLESS)


def _once(world: World) -> Iterator[str]:
    """Every call is recorded exactly once, as its client saw it, and every request to a provider is one attempt."""
    rows = Counter(row.call.id for row in world.book.rows)
    calls = {asked.request.call.id: asked for asked in world.asked}
    yield from (f"{name} has {rows[name]} rows" for name, asked in calls.items() if rows[name] != (asked.result != OFF))
    yield from (f"a row for {name}, which nobody asked" for name in rows if _BACKGROUND.sub("", name) not in calls)
    # One call may be made twice for another, if a second model is asked: its notes tell them apart.
    notes = Counter(id(row.call) for row in world.book.rows)
    yield from (f"{row.call.id} was recorded twice" for row in world.book.rows if notes[id(row.call)] != 1)
    yield from _audited(world, rows)
    for row in world.book.rows:
        asked = calls.get(row.call.id)
        if asked is not None and asked.result not in ("cancelled", "left") and row.outcome != _recorded(asked):
            yield f"{row.call.id} was {asked.result} for its client, but recorded as {row.outcome}"
        if asked is not None and asked.result in ("cancelled", "left") and row.outcome == "internal_error":
            yield f"{row.call.id} was {asked.result}, but recorded as {row.outcome}"
        yield from (f"{row.call.id}: an attempt without an end" for each in row.attempts if not each.outcome)
        if row.open_attempts:
            yield f"{row.call.id} was recorded before {row.open_attempts} of its attempts had ended"
    attempts = Counter(each.provider for row in world.book.rows for each in row.attempts)
    sent = Counter(each.provider for each in world.journal)
    unsent = Counter(each.name for each in world.providers.values() for _ in each.unsent)
    if attempts != sent + unsent:
        yield f"attempts recorded {dict(attempts)}, requests sent {dict(sent)}, none in time {dict(unsent)}"


def _audited(world: World, rows: Counter[str]) -> Iterator[str]:
    """Each check of an answer by meaning is recorded, and was begun."""
    recorded = sum(count for name, count in rows.items() if name.endswith(_AUDIT))
    begun = sum(stats.audits for stats in {id(memory.stats): memory.stats for memory in world.memories}.values())
    if recorded > begun or (recorded < begun and world.plan.shutdown_at is None):
        yield f"{recorded} audits are recorded, {begun} were begun"


def _right(world: World) -> Iterator[str]:
    """Whoever was answered was given one whole answer, to its own question, made for its own tenant, or was told so."""
    for asked in world.asked:
        request = asked.request
        question = question_of(request.payload)
        template = f"{TEMPLATE}|{question}"
        if asked.result != "ok":
            if asked.text and not template.startswith(asked.text) and not _began(world, asked):
                yield f"{request.call.id} was begun with {asked.text!r}"
        elif not asked.text:
            if request.call.finish_reason != "content_filter":
                yield f"{request.call.id} was given nothing"
        elif asked.text.startswith(TEMPLATE):
            if asked.text != template or TEMPLATE not in asked.degraded or request.metadata is None:
                yield f"{request.call.id} was given {asked.text!r}, {asked.degraded}"
        else:
            yield from _given(world, asked, question)


def _began(world: World, asked: Asked) -> bool:
    mine = (said for said in world.journal if said.tenant == asked.request.tenant and answers(world, asked, said))
    return any(said.text.startswith(asked.text) for said in mine)


def _given(world: World, asked: Asked, question: str) -> Iterator[str]:
    """What a provider said: to the question that was asked, by the model that was asked, and fresh; or it is marked."""
    request = asked.request
    if asked.text.count("|") < 3:
        yield f"{request.call.id} was given {asked.text!r} and no more"
        return
    tenant, _, serial, _ = asked.text.split("|", 3)
    said = world.journal[int(serial)]
    if tenant != request.tenant or not answers(world, asked, said):
        yield f"{request.call.id} of {request.tenant} about {question!r} was given {asked.text!r}, {asked.cache}"
        return
    yield from reused(world, asked, said)
    if said.text != asked.text:
        yield f"{request.call.id} was given {asked.text!r} of {said.text!r}"
    if (said.model != request.model) != any(reason.startswith("fallback-") for reason in asked.degraded):
        yield f"{request.call.id} for {request.model} was given an answer of {said.model}, marked {asked.degraded}"
    # Everybody who hears an answer to its end keeps it, the slowest last, unless it is in the cache still.
    fresh = [kept.fresh_until for kept in world.shelf.of_serial(int(serial))]
    if fresh and said.call != request.call.id and asked.cache in ("hit", "stale", "semantic"):
        exact = world.settings.cache.exact
        old_s = world.clock.wall_at(asked.began) - max(fresh)
        marked = "stale-if-error" in asked.degraded
        allowed_s = 0.0 if asked.cache == "semantic" else exact.stale_while_revalidate_s
        if old_s > allowed_s + MARGIN_S and not marked:
            yield f"{request.call.id} was given an answer {old_s:.1f} s too old, marked {asked.degraded}"
        if marked and old_s > max(exact.stale_if_error_s, request.cache.stale_if_error or 0.0) + MARGIN_S:
            yield f"{request.call.id} was given an answer {old_s:.1f} s too old for a failure"


def _in_time(world: World) -> Iterator[str]:
    margin = MARGIN_S + _GRACE_S + (CLOSING_S if world.slow else 0.0)
    for asked in world.asked:
        if asked.late_s > margin:
            yield f"{asked.request.call.id} waited {asked.late_s:.3f} s longer than its {asked.limit_s:g} s allow"
        if not asked.result:
            yield f"{asked.request.call.id} never ended"
    yield from _in_time_each(world, margin)


def _in_time_each(world: World, margin: float) -> Iterator[str]:
    """A provider that does not begin to answer is waited for no longer than its settings say."""
    allowed_s = {each.name: each.timeouts.total_s for each in world.plan.settings.providers}
    for sent in world.journal:
        asked, until = world.asked[number_of(sent.call)], sent.started + allowed_s[sent.provider] + margin
        # Whoever leads a shared call with less time than that may leave it to others who have more.
        hasty = asked.began + asked.limit_s <= until
        if (sent.began or sent.ended or 0.0) > until and not hasty:
            yield f"request {sent.serial} of {sent.call} was waited for too long"


def _ended(world: World) -> Iterator[str]:
    """Nothing is left open upstream."""
    yield from (f"request {sent.serial} of {sent.call} is still open" for sent in world.journal if sent.ended is None)


def _only_cached(world: World) -> Iterator[str]:
    """No provider is asked for whoever wants what is cached or nothing."""
    only = {asked.request.call.id for asked in world.asked if asked.request.cache.only_if_cached}
    yield from (
        f"{sent.provider} was asked for {sent.call}, which is not to ask" for sent in world.journal if sent.call in only
    )


def _no_second_answer(world: World) -> Iterator[str]:
    """Once a call has the beginning of an answer, nothing is sent for it any more."""
    first: dict[tuple[str, str, str], Sent] = {}
    for sent in world.journal:
        # What one model began to say to a call does not keep another from being asked: another call may listen to it.
        # Several texts are embedded for one call, and each model it is asked by has a summary made for it.
        if _EMBEDDING in sent.call or _SUMMARY in sent.call:
            continue
        key = sent.call, sent.model, sent.question
        earlier = first.get(key)
        if earlier is not None and earlier.began is not None and sent.started > earlier.began + MARGIN_S:
            yield f"{sent.call} was sent again ({sent.serial}) after {earlier.serial} had begun to answer"
        if key not in first or (sent.began or 1e9) < (first[key].began or 1e9):
            first[key] = sent


def _one_at_a_time(world: World) -> Iterator[str]:
    """Of identical requests that may share, one at a time is with a provider."""
    if not world.plan.settings.cache.coalesce or world.plan.reload_at is not None:
        return
    alone = {asked.request.call.id for asked in world.asked if _alone(asked)}
    running: dict[tuple[object, ...], Sent] = {}
    for sent in world.journal:
        if sent.call.removesuffix(_SUMMARY) in alone or sent.call.endswith(_AUDIT) or sent.hedge:
            continue
        key = (sent.tenant, sent.question, sent.model, *_place(world, sent))
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
        serial = serial_in(kept)
        said = None if serial is None else world.journal[serial]
        if said is None:
            yield f"cached: what no provider said, for {kept.tenant}: {kept.data!r}"
        elif not said.whole or (said.tenant, said.model) != (kept.tenant, kept.model) or said.call in private:
            yield f"cached: request {said.serial}, {said.outcome}, of {said.tenant} for {kept.tenant}, {said.model}"


def _alone(asked: Asked) -> bool:
    directives = asked.request.cache
    return directives.no_store or directives.no_cache or directives.only_if_cached


def _place(world: World, sent: Sent) -> tuple[object, ...]:
    """Return what else must be the same: the namespace, the conversation before, and which answers are accepted."""
    if _JUDGE in sent.call:
        return ()
    request = world.asked[number_of(sent.call)].request
    if _EMBEDDING in sent.call or _SUMMARY in sent.call:
        return (request.cache.namespace,)
    wishes = ("off" if sent.call.endswith(_RENEWAL) else request.semantic, request.cache.max_age)
    several = "semantic" in world.plan.settings.cache.model_fields_set
    shape = terms_of(request, world.plan.settings)
    return request.cache.namespace, len(request.payload["messages"]), shape, *(wishes if several else ())


def _recorded(asked: Asked) -> str:
    return TEMPLATE if asked.result == "ok" and TEMPLATE in asked.degraded else asked.result
