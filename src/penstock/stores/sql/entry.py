"""A call as the spool and the writer's queue hold it: all that becomes rows, without its body."""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.core.call import Attempt, Call
from penstock.core.money import to_picodollars
from penstock.core.request import Request
from penstock.core.usage import Usage

_KEY_BYTES = 16
Fields = tuple[Any, ...]
"""An `Entry` as a tuple, which may be without fields at its end that have their defaults."""


class Entry(msgspec.Struct, array_like=True, gc=False):
    """One call, at one of its stages: an attempt is about to be sent, or the call has ended.

    Written down as an array: fields are added at the end, with defaults, and none is removed.

    Attributes:
        id: Number of the row.
        request_id: `Call.id`.
        started: `Call.started`; a process's own clock, of which only differences mean anything.
        started_at: Seconds since the epoch.
        tenant: Whose it is.
        key_id: Which key asked; empty without one.
        operation: As `Request.operation`.
        model: The model name as the client wrote it.
        stream: Whether a stream was wanted.
        tags: Labels.
        metadata: Key-value pairs.
        attempts: Every try so far; of a call that never asks a provider none.
        outcome: How the call ended; empty while it runs.
        duration_s: Seconds until it ended.
        expected: Tokens that the attempts which run are expected to send.
        most_output: Output tokens the request allows, if it says so.
        cache: As `Call.cache`.
        finish_reason: As `Call.finish_reason`.
        usage: As `Call.usage`.
        saved_pusd: Picodollars that a hit saved, if known.
        cache_key: Beginning of the cache key.
        answer_bytes: As `Call.answer_bytes`.
        semantic: As `Call.semantic`.
        semantic_key: Beginning of `Call.semantic_key`.
        semantic_audit: As `Call.semantic_audit`.
        prompt: As `Call.prompt`.
        arms: As `Call.arms`.
        context_before: As `Shaping.before`, when the conversation was cut.
        context_after: As `Shaping.after`.
        stage: As `Call.stage`.
        unit: As `Call.unit`.
    """

    id: int
    request_id: str
    started: float
    started_at: float
    tenant: str
    key_id: str
    operation: str
    model: str
    stream: bool
    tags: tuple[str, ...]
    metadata: dict[str, str] | None
    attempts: list[Attempt]
    outcome: str = ""
    duration_s: float = 0.0
    expected: Usage | None = None
    most_output: int | None = None
    cache: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    saved_pusd: int | None = None
    cache_key: bytes | None = None
    answer_bytes: int | None = None
    semantic: str = ""
    semantic_key: bytes | None = None
    semantic_audit: float | None = None
    prompt: str = ""
    arms: dict[str, str] | None = None
    context_before: int | None = None
    context_after: int | None = None
    stage: str = ""
    unit: str = ""


ATTEMPTS, USUAL_FIELDS = map(Entry.__struct_fields__.index, ("attempts", "semantic"))


def begun(ident: int, request: Request, attempts: list[Attempt], expected: Usage | None) -> Fields:
    """Describe a call with `attempts`, some of which are running: the first fields of an `Entry`."""
    call, operation, payload = request.call, request.operation, request.payload
    most = payload.get("max_completion_tokens")
    if most is None:
        most = payload.get("max_tokens")
    if type(most) is not int:
        most = 0 if operation == "embeddings" else None
    elif type(choices := payload.get("n")) is int:
        most *= choices
    return (
        ident, call.id, call.started, call.started_at, request.tenant, request.key_id, operation, request.model,
        request.stream, request.tags, request.metadata, attempts, "", 0.0, expected, most,
    )  # fmt: skip


def ended(ident: int, request: Request, call: Call, duration_s: float, outcome: str) -> Fields:
    """Describe a call that has ended; of most the first `USUAL_FIELDS` say everything."""
    key, saved, shaping = call.key, call.saved_usd, call.shaping
    usual = (
        ident, call.id, call.started, call.started_at, request.tenant, request.key_id, request.operation, request.model,
        request.stream, request.tags, request.metadata, call.attempts, outcome, duration_s, None, None, call.cache,
        call.finish_reason, call.usage, None if saved is None else to_picodollars(saved),
        None if key is None else key[:_KEY_BYTES], call.answer_bytes,
    )  # fmt: skip
    if not (call.semantic or call.prompt or call.arms or shaping or call.stage):
        return usual
    other = call.semantic_key
    return (
        *usual, call.semantic, None if other is None else other[:_KEY_BYTES], call.semantic_audit,
        call.prompt, call.arms, None if shaping is None else shaping.before,
        None if shaping is None else shaping.after, call.stage, call.unit,
    )  # fmt: skip
