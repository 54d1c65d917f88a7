"""A call as its client sees it."""

from __future__ import annotations

import msgspec

from penstock.config.context import context_terms
from penstock.config.settings import Settings
from penstock.core.errors import PenstockError, ProviderError, Refused
from penstock.core.request import CacheDirectives, Request
from penstock.core.route import ContextMode, ContextTerms, Route

OFF = "semantic_cache_off"
"""What a client is told that asks for an answer by meaning where there are none; it is refused before it is a call."""
DIRECTIVES = (
    CacheDirectives(no_cache=True),
    CacheDirectives(no_store=True),
    CacheDirectives(only_if_cached=True),
    CacheDirectives(max_age=1.0),
    CacheDirectives(stale_if_error=5.0),
    CacheDirectives(ttl=1.0),
    CacheDirectives(namespace="other"),
)


CONTEXTS: tuple[tuple[ContextMode | None, int | None], ...] = (
    ("off", None),
    ("budget", None),
    ("aggressive", 250),
    (None, 150),
)
"""Whether a client wants its conversation cut, and to how many tokens."""


def terms_of(request: Request, settings: Settings) -> ContextTerms | None:
    """Return on what terms the conversation of `request` is cut under `settings`; None when it is not."""
    route = Route(request.model, (), b"", context=context_terms(settings.context))
    return msgspec.structs.replace(request, route=route).context_terms()


class Asked(msgspec.Struct):
    """One call.

    Attributes:
        request: What was asked.
        began: When, in loop time.
        limit_s: How long it may take.
        result: ``ok``, ``left``, ``cancelled`` or the code of the error; empty while it runs.
        text: What was answered.
        late_s: By how much the longest wait was longer than allowed.
        cache: What the cache had to do with it.
        retry_after: When to come back, as the error says.
        over_limit: It was refused for its tenant's limits.
    """

    request: Request
    began: float
    limit_s: float
    result: str = ""
    text: str = ""
    late_s: float = 0.0
    cache: str = ""
    retry_after: float | None = None
    over_limit: bool = False

    @property
    def degraded(self) -> list[str]:
        """Why the answer is not the best possible one, as the client is told."""
        return self.request.call.degraded

    def failed(self, error: PenstockError) -> None:
        """`error` is what the client was told."""
        self.result = error.code
        if isinstance(error, (Refused, ProviderError)):
            self.retry_after = error.retry_after
            self.over_limit = isinstance(error, Refused) and getattr(error, "quota", None) is not None


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    message: _Delta | None = None


class _Said(msgspec.Struct):
    choices: list[_Choice] = []


_decode = msgspec.json.Decoder(_Said).decode


def text_of_chunk(data: bytes) -> str:
    """Return the text in one event of a stream."""
    return "".join((choice.delta.content if choice.delta else "") or "" for choice in _decode(data).choices)


def text_of_body(data: bytes) -> str:
    """Return the text of a whole answer."""
    return "".join((choice.message.content if choice.message else "") or "" for choice in _decode(data).choices)
