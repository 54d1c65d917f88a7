"""What another worker of this machine knows, or is asking for now, is not asked for again."""

from __future__ import annotations

from penstock.caching.directory import Sighting
from penstock.caching.key import cache_key
from penstock.caching.neighbourhood import Neighbourhood
from penstock.core.errors import NOTHING_CACHED, NotCached
from penstock.core.handler import Handler, Phased, Step
from penstock.core.request import Request
from penstock.core.response import Response

_TRIES = 3
"""Workers that are asked, one after another, before this one asks for itself."""


class Neighbours(Phased):
    """Takes the answer of another worker: from its memory, or by joining its flight; in the stack with several only.

    An answer from memory is a hit like any other, and stays here. A flight is joined as by a follower of the same
    worker, streams included. When the other worker ends before it has said anything, or says nothing, this one asks,
    and so does exactly one of several that wait for it. Left alone is what is left alone by the exact cache and by
    coalescing.
    """

    def __init__(self, near: Neighbourhood, *, joins: bool, by_meaning: bool) -> None:
        """`joins` tells whether identical requests share one call, `by_meaning` whether others of its meaning may."""
        self._near = near
        self._joins = joins
        self._by_meaning = by_meaning

    def knows(self, request: Request) -> bool:
        """Whether another worker has the answer, or is asking for it."""
        return self._near.directory.look(cache_key(request)) is not None

    def enter(self, request: Request, inner: Handler, /) -> Step | None:
        """Let pass what no other worker has; from then on the others wait for this one."""
        if request.call.at_hand:
            return request, None
        if request.cache.only_if_cached:
            return None
        return (request, None) if _alone(request) or self._sight(request) is None else None

    async def handle(self, request: Request, inner: Handler, /) -> Response:
        """Take another worker's answer, or ask for one.

        Raises:
            NotCached: The request is to be answered from memory only, and nobody has it there, nor can by meaning.
        """
        sighting, near = None if _alone(request) else self._sight(request), self._near
        for _ in range(_TRIES):
            if sighting is None:
                break
            ask = near.fetch if sighting.cached else near.join
            response = await ask(request, sighting.worker)
            if response is not None:
                return response
            sighting = near.directory.claim(cache_key(request), sighting) if self._claims(request) else None
        if request.cache.only_if_cached and not self._by_meaning:
            raise NotCached(NOTHING_CACHED)
        return await inner(request)

    def _sight(self, request: Request) -> Sighting | None:
        """Return where the answer is, claiming it if it is nowhere."""
        key, directory = cache_key(request), self._near.directory
        if self._claims(request):
            return directory.claim(key)
        sighting = directory.look(key)
        return sighting if sighting is not None and sighting.cached else None

    def _claims(self, request: Request) -> bool:
        """Whether it makes a flight that others may join; `penstock.layers.coalesce` has the rule."""
        if not self._joins or request.cache.only_if_cached:
            return False
        if not self._by_meaning:
            return True
        semantic = request.semantic or (None if request.route is None else request.route.semantic)
        return semantic is None and request.cache.max_age is None


def _alone(request: Request) -> bool:
    directives, route = request.cache, request.route
    return directives.no_cache or directives.no_store or (route is not None and route.cache_ttl_s == 0)
