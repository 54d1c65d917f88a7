"""Requests Penstock makes on its own, for a tenant and on its account."""

from __future__ import annotations

import msgspec

from penstock.core.call import Call
from penstock.core.clock import Clock, SystemClock
from penstock.core.request import CacheDirectives, Request

OPERATION = "operation"
"""The name under which the metadata have what a call is for; reports group by it."""

_MACHINE = SystemClock()


def background(request: Request, purpose: str, clock: Clock = _MACHINE, **changes: object) -> Request:
    """Make a request like `request` that nobody waits for; never answered from a cache, though its answer is kept.

    Args:
        request: On whose behalf.
        purpose: What for: it is on the ledger as the operation ``penstock-PURPOSE``.
        clock: Says when it began; by default the machine's.
        changes: Other fields, in place of those of `request`.
    """
    return msgspec.structs.replace(
        request,
        **{
            "call": Call(f"{request.call.id}-{purpose}", started=clock.monotonic(), started_at=clock.wall()),
            "stream": False,
            "include_usage": False,
            "stream_options": None,
            "metadata": {**(request.metadata or {}), OPERATION: f"penstock-{purpose}"},
            "cache": msgspec.structs.replace(request.cache, no_cache=True, only_if_cached=False),
            "deadline": None,
            "begin_by": None,
            "fallback": False,
            "priority": "low",
            "semantic": "off",
            "target": None,
            "prefix": None,
            **changes,
        },
    )


def other(
    request: Request, purpose: str, operation: str, model: str, payload: dict[str, object], clock: Clock = _MACHINE
) -> Request:
    """Make a request of another kind on behalf of `request`'s tenant; a repeated one is answered from the cache."""
    return background(
        request, purpose, clock, operation=operation, model=model, payload=payload, route=None, cache=CacheDirectives(),
        dialect="openai_chat", context="off", context_tokens=None, prompt=None, unit="",
    )  # fmt: skip
