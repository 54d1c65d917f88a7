"""Errors keep what clients are told when another worker met them."""

import pytest

from penstock.caching.passing_on import Piece, encode, notes_of, read_error, read_piece, take_notes, write_error
from penstock.core.call import Call, Shaping
from penstock.core.errors import DeadlineExceeded, InvalidRequest, ProviderError, RateLimited, TargetBusy
from penstock.core.events import Event
from penstock.core.money import to_usd
from penstock.core.quota import Quota
from penstock.core.usage import Usage


@pytest.mark.parametrize(
    "error",
    [
        ProviderError("down", status_code=503, code="upstream_error", retry_after=2.5, retryable=True, provider="near"),
        InvalidRequest("wrong", code="unsupported", param="n", status_code=413),
        DeadlineExceeded("late"),
        TargetBusy("busy", retry_after=1.0),
        RateLimited("enough", retry_after=3.0, quota=Quota(requests_limit=5)),
    ],
)
def test_an_error_arrives_as_it_was(error):
    told = read_error(read_piece(encode(Piece(failure=write_error(error)))).failure)
    assert isinstance(error, type(told))
    assert (str(told), told.code, told.param) == (str(error), error.code, error.param)
    for name in ("status_code", "retry_after", "retryable", "elsewhere", "provider"):
        assert getattr(told, name, None) == getattr(error, name, None)


def test_events_and_notes_arrive_as_they_were():
    events = [Event(b'{"a":1}', "stop", Usage(3, 4, reasoning_tokens=2)), Event(b"{}", bare_usage=True)]
    call = Call("id", cache="semantic", saved_usd=to_usd(123_456), age_s=1.5, semantic="hit", semantic_key=b"k" * 32,
                usage=Usage(3, 4), shaping=Shaping(10, 5, 1), stage="small", degraded=["cascade"],
                cache_status=["Penstock-Semantic; hit"])  # fmt: skip
    piece = read_piece(encode(Piece(events, notes=notes_of(call))))
    assert piece.events == events
    other = Call("other")
    take_notes(other, piece.notes)
    assert notes_of(other) == notes_of(call)
    assert (other.id, other.attempts) == ("other", [])
