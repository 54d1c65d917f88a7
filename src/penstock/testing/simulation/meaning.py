"""What must be true of answers to other calls, and of those by meaning above all."""

from __future__ import annotations

from collections.abc import Iterator

from penstock.config.settings import Settings
from penstock.testing.simulation.asked import Asked, terms_of
from penstock.testing.simulation.provider import Sent
from penstock.testing.simulation.rest import MARGIN_S
from penstock.testing.simulation.wording import meant, question_of
from penstock.testing.simulation.world import World

_HIT = "Penstock-Semantic; hit"
_REUSED = ("hit", "stale", "semantic")


def answers(world: World, asked: Asked, said: Sent) -> bool:
    """Whether what was `said` is about what was asked: word for word, or in other words where it is marked so."""
    question = question_of(asked.request.payload)
    if said.question == question:
        return True
    praised = (asked.request.tenant, question) in world.praised
    return (asked.request.call.cache == "semantic" or praised) and meant(said.question) == meant(question)


def reused(world: World, asked: Asked, said: Sent) -> Iterator[str]:
    """An answer to another call was whole, in its place, recent enough, and one that the client accepts."""
    request, call = asked.request, asked.request.call
    if call.cache in _REUSED and not said.whole:
        yield f"{call.id} was given request {said.serial}, {said.outcome}, which was never said to its end"
    first = world.asked[number_of(said.call)].request
    if first.cache.namespace != request.cache.namespace:
        yield f"{call.id} was given an answer of {said.call}, which is in another namespace"
    if first.payload["messages"][:-1] != request.payload["messages"][:-1]:
        yield f"{call.id} was given an answer of {said.call}, which had another conversation before it"
    if all(terms_of(first, settings) != terms_of(request, settings) for settings in world.in_force()):
        yield f"{call.id} was given an answer of {said.call}, whose conversation was cut on other terms"
    if call.cache in _REUSED and request.cache.max_age is not None and said.ended is not None:
        age = asked.began - said.ended
        if age > request.cache.max_age + MARGIN_S and not asked.degraded:
            yield f"{call.id} was given an answer {age:.1f} s old, which is older than it accepts"
    if call.cache == "semantic":
        yield from _by_meaning(world, asked)


def _by_meaning(world: World, asked: Asked) -> Iterator[str]:
    request, call = asked.request, asked.request.call
    if call.semantic != "hit" or not any(member.startswith(_HIT) for member in call.cache_status):
        yield f"{call.id} was answered by meaning, but marked {call.semantic!r}, {call.cache_status}"
    if request.cache.no_cache or request.cache.no_store:
        yield f"{call.id} was answered by meaning, though it asked for an answer of its own"
    several = world.in_force()
    own = not asked.degraded and request.model == several[0].models[0].name
    modes = [request.semantic] if request.semantic else [_mode(settings, own=own) for settings in several]
    if "on" not in modes:
        yield f"{call.id} was answered by meaning, though it is off"
    talked = len(request.payload["messages"]) > 1
    if talked and all(settings.cache.semantic.first_turn_only for settings in several):
        yield f"{call.id} was answered by meaning in the middle of a conversation"


def number_of(call: str) -> int:
    """Return which call it is that `call` was made for, or is."""
    return int(call.removeprefix("call ").partition("-")[0])


def _mode(settings: Settings, *, own: bool) -> str:
    return (own and settings.models[0].semantic) or settings.cache.semantic.mode
