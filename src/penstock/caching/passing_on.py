"""How answers go from one worker to another."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from penstock.abc import StoredAnswer
from penstock.core.call import CacheState, Call, SemanticNote, Shaping
from penstock.core.errors import (
    BudgetExceeded,
    DeadlineExceeded,
    InvalidRequest,
    NotCached,
    PenstockError,
    ProviderError,
    RateLimited,
    Refused,
    StoreError,
)
from penstock.core.events import Event
from penstock.core.usage import Usage

_ERRORS: dict[str, type[PenstockError]] = {
    each.__name__: each
    for each in (
        BudgetExceeded, DeadlineExceeded, InvalidRequest, NotCached, PenstockError, ProviderError, RateLimited, Refused,
        StoreError,
    )
}  # fmt: skip


class Wish(msgspec.Struct, array_like=True):
    """Who wants to join a flight.

    Attributes:
        key: The cache key.
        id: The request's.
        stream: It wants a stream.
        deadline: When its time is over, on the machine's monotonic clock.
        key_id: The API key it came with.
        tags: Its labels.
    """

    key: bytes
    id: str
    stream: bool
    deadline: float | None
    key_id: str
    tags: tuple[str, ...]


class Failure(msgspec.Struct, array_like=True):
    """A `PenstockError`."""

    kind: str
    fields: dict[str, str | float | bool | None]


class Notes(msgspec.Struct, array_like=True):
    """What a passenger's call was told by the layers inside; the names are those of `penstock.core.call.Call`."""

    cache: CacheState
    saved_usd: Decimal | None
    age_s: float | None
    semantic: SemanticNote
    semantic_key: bytes | None
    semantic_audit: float | None
    usage: Usage | None
    finish_reason: str | None
    shaping: Shaping | None
    stage: str
    verdict: str
    degraded: list[str]
    cache_status: list[str]


_NOTED = Notes.__struct_fields__


class Piece(msgspec.Struct, array_like=True):
    """A part of an answer.

    Attributes:
        events: What is said of a stream, or all events of a whole answer.
        body: A whole answer.
        stored: An answer from memory instead, as it would be at rest.
        failure: Why nothing more comes.
        last: All has been said.
        notes: With the first piece of an answer, and with the last.
    """

    events: list[Event] | None = None
    body: bytes | None = None
    stored: StoredAnswer | None = None
    failure: Failure | None = None
    last: bool = False
    notes: Notes | None = None


encode = msgspec.msgpack.Encoder().encode
read_wish = msgspec.msgpack.Decoder(Wish).decode
read_piece = msgspec.msgpack.Decoder(Piece).decode


def notes_of(call: Call) -> Notes:
    """Return what is passed on of `call`."""
    return Notes(*(getattr(call, name) for name in _NOTED))


def take_notes(call: Call, notes: Notes) -> None:
    """Put them on the notes of another call."""
    for name in _NOTED:
        setattr(call, name, getattr(notes, name))


def write_error(error: PenstockError) -> Failure:
    """Put an error into words; its fields are kept as far as they are text and numbers."""
    kind = next(each.__name__ for each in type(error).__mro__ if each.__name__ in _ERRORS)
    fields = {
        name: value for name, value in vars(error).items() if value is None or isinstance(value, str | float | int)
    }
    return Failure(kind, {**fields, "code": error.code})


def read_error(failure: Failure) -> PenstockError:
    """Make the error again."""
    error = _ERRORS[failure.kind](str(failure.fields["message"]))
    vars(error).update(failure.fields)
    return error
