"""What must be true of conversations that are cut, and of those that are not."""

from __future__ import annotations

from collections.abc import Iterator

from penstock.core.request import Request
from penstock.core.route import ContextTerms
from penstock.testing.simulation.asked import terms_of
from penstock.testing.simulation.meaning import number_of
from penstock.testing.simulation.provider import Sent
from penstock.testing.simulation.wording import size_of
from penstock.testing.simulation.world import World

_SUMMARY = "-summary"
_OTHERS = ("-judge", "-embedding", _SUMMARY)


def cut(world: World) -> Iterator[str]:
    """What exceeds its budget is cut to it, what fits is sent as it came, and only what is cut needs a summary."""
    for sent in world.journal:
        request = world.asked[number_of(sent.call)].request
        several = [terms_of(request, settings) for settings in world.in_force()]
        if _SUMMARY in sent.call and not any(several):
            yield f"{sent.call} asks for a summary, though nothing is to be cut"
        if not any(name in sent.call for name in _OTHERS):
            yield from _sized(sent, request, several)


def _sized(sent: Sent, request: Request, several: list[ContextTerms | None]) -> Iterator[str]:
    whole = size_of(request.payload)
    tokens = {None if terms is None else terms.tokens for terms in several}
    most = None if None in tokens else max(each or 0 for each in tokens)
    if most is not None and sent.size > most:
        yield f"{sent.call} was sent with {sent.size} tokens, of {most}"
    eager = any(terms is not None and terms.mode == "aggressive" for terms in several)
    if sent.size != whole and not eager and (most is None or whole <= most):
        yield f"{sent.call} was sent with {sent.size} tokens in place of {whole}, which fitted"
