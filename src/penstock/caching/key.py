"""Under which key an answer is cached: a digest of everything that decides what the answer will be."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256

import msgspec

from penstock.core.request import Request
from penstock.core.route import Target

IGNORED = frozenset({"metadata"})
"""Fields of the payload that label a request without changing its answer. Everything else takes part, known or not."""

_VERSION = 1
"""Raised whenever the meaning of keys changes, so that no stored answer is found under a key of another meaning."""

_encode = msgspec.json.Encoder(order="deterministic").encode


def cache_key(request: Request) -> bytes:
    """Return the 32 bytes `request` is cached under, computing them once per call.

    The digest is taken of one JSON array, so that no two different lists of parts have the same bytes. Inside it the
    keys of objects are sorted, because their order means nothing; lists keep theirs, and 1, 1.0 and true stay apart.
    `request.route` brings what the model name stands for: two names of the same targets share answers, and a changed
    target or provider shares none.

    Raises:
        UnicodeEncodeError: The payload has text that cannot be sent either (half of a surrogate pair).
    """
    call = request.call
    key = call.key
    if key is None:
        payload = request.payload
        if not IGNORED.isdisjoint(payload):
            payload = {name: value for name, value in payload.items() if name not in IGNORED}
        parts = _VERSION, request.tenant, request.cache.namespace, request.operation, goal_of(request), payload
        asked = _encode(parts)
        call.asked_bytes = len(asked)
        call.key = key = sha256(asked).digest()
    return key


def goal_of(request: Request) -> object:
    """Return what the model name of `request` stands for, and on what terms its conversation is cut if it is."""
    route = request.route
    goal = request.model if route is None else _goal(route.identity, route.targets)
    if request.context is None and request.context_tokens is None and (route is None or route.context.mode == "off"):
        return goal  # as `context_terms` would say
    terms = request.context_terms()
    return goal if terms is None else (goal, terms)


@lru_cache(maxsize=1024)
def _goal(identity: bytes, targets: Sequence[Target]) -> msgspec.Raw:
    """Return what a route stands for as JSON, which is the same for all its requests."""
    return msgspec.Raw(_encode((identity, [(each.provider, each.model) for each in targets])))
