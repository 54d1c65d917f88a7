"""How many tokens a conversation may have when nobody says: what the models' windows leave beside the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from penstock.abc import Windowed
from penstock.core.errors import ProviderError
from penstock.core.route import Route, Target

ANSWER_TOKENS = 4096
"""Left for an answer whose request does not limit it, or a quarter of a window of less than four times that."""
MARGIN = 0.75
"""Estimates of tokens are right to about 30 %, so this part of a window is filled."""

_REMEMBERED = 1024
_CAPS = ("max_completion_tokens", "max_tokens")


class Windows:
    """The windows of models: published ones, and those that the providers themselves say.

    Args:
        published: The window of a target, None where nobody publishes it.
        providers: By name; those that are `Windowed` are asked, once for each model.
        patience_s: How long they may take to answer.
    """

    def __init__(
        self, published: Callable[[Target], int | None], providers: Mapping[str, object], patience_s: float = 2.0
    ) -> None:
        self._patience_s = patience_s
        self._published = published
        self._providers = {name: each for name, each in providers.items() if isinstance(each, Windowed)}
        self._known: dict[tuple[str, str], int | None] = {}

    def knowable(self, route: Route) -> bool:
        """Whether the window of any of the targets is published, or there is somebody to ask for it."""
        return any(each.provider in self._providers or self._published(each) is not None for each in route.targets)

    async def of(self, route: Route) -> int | None:
        """Return the smallest window known of the targets; None when none is."""
        known = [window for target in route.targets if (window := await self._of(target)) is not None]
        return min(known, default=None)

    async def _of(self, target: Target) -> int | None:
        provider = self._providers.get(target.provider)
        if provider is None:
            return self._published(target)
        key = (target.provider, target.model)
        if key not in self._known:
            try:
                async with asyncio.timeout(self._patience_s):
                    window = await provider.context_window(target.model)
            except (ProviderError, TimeoutError):
                return None
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[key] = window
        return self._known[key]


def stated(payload: dict[str, Any]) -> int | None:
    """Return the window a request asks its model to be loaded with: Ollama's ``num_ctx``."""
    options = payload.get("options")
    asked = options.get("num_ctx") if isinstance(options, dict) else None
    asked = payload.get("num_ctx") if asked is None else asked
    return asked if type(asked) is int and asked > 0 else None


def room(window: int, payload: dict[str, Any]) -> int:
    """Return how many tokens of a window a request's messages and tools may fill; at least 1."""
    caps = [payload[name] for name in _CAPS if type(payload.get(name)) is int]
    answer = caps[0] if caps else min(ANSWER_TOKENS, window // 4)
    return max(int((window - answer) * MARGIN), 1)
