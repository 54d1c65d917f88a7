"""The way of a request whose answer is in memory: the layers outside of what has it, run as calls, without a wait."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from penstock.caching.key import cache_key
from penstock.core.handler import Exit, Handler, Layer, Phased, run
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.lane import Stage
from penstock.layers.coalesce import Coalesce
from penstock.layers.exact_cache import ExactCache
from penstock.layers.neighbours import Neighbours
from penstock.layers.semantic_cache import SemanticCache


class KnownWay:
    """Answers from memory: what was asked word for word before, and what means the same."""

    def __init__(self, stages: Mapping[str, Stage], layers: Mapping[str, Layer], through: Handler) -> None:
        """Leave the layers alone until a request comes.

        Args:
            stages: The layers once per call, outermost first.
            layers: All of them, by name.
            through: The whole pipeline.
        """
        self._cache, self._semantic = layers.get("exact_cache"), layers.get("semantic_cache")
        self._coalesce, self._neighbours = layers.get("coalesce"), layers.get("neighbours")
        self._through = through
        names = list(stages)
        outside = names[: names.index("exact_cache")] if "exact_cache" in names else []
        # What is there at once is never late.
        self._outside_cache = [_knowing(stages[name], layers[name]) for name in outside if name != "deadline"]
        # Nor does it need company, or others' answers.
        self._outside_meaning = [*self._outside_cache, stages["exact_cache"]] if outside else []

    def answer(self, request: Request) -> Response | None:
        """Answer a routed request whose answer is in memory; None for others.

        Raises:
            PenstockError: It is refused.
        """
        cache = self._cache
        if not isinstance(cache, ExactCache):
            return None
        entry = cache.at_hand(request)
        outside, give = self._outside_cache, cache.give
        if entry is None:
            semantic = self._semantic
            if not isinstance(semantic, SemanticCache) or not self._is_news(cache, request):
                return None
            entry = semantic.at_hand(request)
            if entry is None:
                return None
            outside, give = self._outside_meaning, semantic.give
        if (request.semantic or request.context or request.context_tokens) is not None:
            return run(self._through(request))
        return _at_once(outside, partial(give, entry=entry), request)

    def _is_news(self, cache: ExactCache, request: Request) -> bool:
        """Whether nobody has the answer to `request` word for word, or is asking for it."""
        if cache.answers.find(cache_key(request)) is not None:
            return False
        coalesce, neighbours = self._coalesce, self._neighbours
        if isinstance(coalesce, Coalesce) and coalesce.flying(request):
            return False
        return not (isinstance(neighbours, Neighbours) and neighbours.knows(request))


def _knowing(stage: Stage, layer: Layer) -> Stage:
    """Return `stage` for requests whose answer is in memory."""
    return stage._replace(enter=layer.enter_known) if isinstance(layer, Phased) else stage


def _at_once(stages: Sequence[Stage], give: Callable[[Request], Response], request: Request) -> Response:
    """Answer a request whose answer `give` has: `stages` are the layers outside of that. Nothing waits.

    Raises:
        PenstockError: One of the layers refuses it.
    """
    exits: list[Exit] = []
    try:
        for enter, inner, whole in stages:
            step = enter(request, inner)
            if step is None:
                response = run(whole(request))
                break
            request, leave = step
            if leave is not None:
                exits.append(leave)
        else:
            response = give(request)
    except BaseException as error:
        for leave in reversed(exits):
            leave.failed(error)
        raise
    for leave in reversed(exits):
        leave.on_end(response, None)
    return response
