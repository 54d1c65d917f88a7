"""The judge of the matrix notices what it is there to notice."""

import sqlite3

import pytest
from benchmarks.faults.answers import TEXT, USAGE, WHOLE, whole
from benchmarks.faults.asking import Heard
from benchmarks.faults.cells import ANSWERED, Cell, Fault, Outcome
from benchmarks.faults.judging import Played, judge
from benchmarks.faults.stage import KEY

from penstock.testing import InvoiceLine, UpstreamConnection, UpstreamRequest

CELL = Cell("c", Fault(6, "x", "in the middle", "JSON", ANSWERED, whole()), "only")
BROKEN = Cell("c", Fault(6, "x", "in the middle", "JSON", Outcome(502, ("upstream_error",)), whole()), "only")
HEADERS = {
    "content-type": "application/json",
    "x-request-id": "c",
    "x-penstock-provider": "faulty",
    "x-penstock-attempts": "1",
}
HIT = Heard(200, {"cache-status": "Penstock-Exact; hit"}, b"", complete=True, seconds=0.1, ended_at=1.0)
ERROR = b'{"error":{"message":"no","type":"server_error","param":null,"code":"upstream_error"}}'
NOT_CACHED = Heard(504, {}, b'{"error":{"code":"not_cached"}}', complete=True, seconds=0.1, ended_at=1.0)
GONE = {"content-type": "application/json", "x-request-id": "c", "x-should-retry": "false"}


def heard(body=WHOLE, status=200, headers=HEADERS, **changes):
    return Heard(status, headers, body, complete=True, seconds=0.1, ended_at=1.0)._replace(**changes)


def stream_of(body):
    events = [b'data: {"choices":[{"delta":{"content":"%b"},"finish_reason":null}]}' % TEXT.encode()]
    events += [b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}', b"data: [DONE]", b""]
    return body._replace(body=b"\n\n".join(events))


def rows(**changes):
    database = sqlite3.connect(":memory:")
    database.row_factory = sqlite3.Row
    call = {"outcome": "ok", "attempts": 1}
    row = {
        "provider": "faulty",
        "outcome": "ok",
        "status_code": 200,
        "input_tokens": USAGE.input_tokens,
        "output_tokens": USAGE.output_tokens,
        "usage_source": "provider",
        "first_token_us": 5,
        **changes,
    }
    made = []
    for values in (call, row):
        names = ", ".join(f"? as {name}" for name in values)
        made.append(database.execute(f"select {names}", list(values.values())).fetchall())
    database.close()
    return made


def line(**changes):
    request = UpstreamRequest("POST", "/", {}, b"{}", UpstreamConnection(0.0))
    return InvoiceLine(request, 200, 0.0, **{"ended_at": 0.5, "ending": "finished", "usage": USAGE, **changes})


def verdict(answer=None, *, cell=CELL, again=None, lines=None, **row):
    calls, attempts = rows(**row)
    again = stream_of(HIT) if again is None else again
    return judge(Played(cell, answer or heard(), again), lines or [line()], calls, attempts)


def test_a_good_cell_has_no_problems():
    assert verdict() == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (heard(complete=False), "framing is broken"),
        (heard(WHOLE[:50]), "cannot read"),
        (heard(WHOLE.replace(b"Ready", b"Steady")), "the text is"),
        (heard(WHOLE.replace(b'"stop"', b"null")), "finish reason"),
        (heard(ERROR, 502), "status 502"),
        (heard(headers={**HEADERS, "x-request-id": "d"}), "x-request-id"),
        (heard(headers={**HEADERS, "content-encoding": "gzip"}), "framing headers"),
        (heard(headers={**HEADERS, "x-penstock-provider": "well-1"}), "x-penstock-provider"),
        (heard(headers={**HEADERS, "x-penstock-attempts": "3"}), "x-penstock-attempts"),
        (heard(headers={**HEADERS, "content-type": "text/html"}), "content-type"),
    ],
)
def test_bad_answers(answer, said):
    assert any(said in problem for problem in verdict(answer)), verdict(answer)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (heard(), "status 200"),
        (heard(ERROR.replace(b'"param":null,', b""), 502, GONE), "shape"),
        (heard(ERROR.replace(b"upstream_error", b"oops"), 502, GONE), "code oops"),
        (heard(ERROR.replace(b'"no"', KEY.encode().join([b'"', b'"'])), 502, GONE), "the message is"),
        (heard(ERROR, 502, {**GONE, "retry-after": "3"}), "out of nowhere"),
        (heard(ERROR, 502, {**GONE, "x-should-retry": "true"}), "x-should-retry"),
    ],
)
def test_bad_errors(answer, said):
    problems = verdict(answer, cell=BROKEN, again=NOT_CACHED)
    assert any(said in problem for problem in problems), problems


def test_bad_caches():
    assert any("not cached" in problem for problem in verdict(again=NOT_CACHED))
    problems = verdict(heard(ERROR, 502, GONE), cell=BROKEN)
    assert any("a failure was cached" in problem for problem in problems)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"output_tokens": 16}, "on the invoice"),
        ({"usage_source": "estimate"}, "on the invoice"),
        ({"outcome": "upstream_error", "status_code": 500, "first_token_us": None}, "without an answer"),
        ({"provider": "well-1"}, "tried"),
    ],
)
def test_bad_records(changes, said):
    problems = verdict(lines=[line(usage=None)] if said == "without an answer" else None, **changes)
    assert any(said in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([line(), line()], "2 lines on the invoice"),
        ([line(ending=None)], "still works"),
        ([line(ending="closed")], "hung up on in time"),
        ([line(ending="cut")], "connections are open"),
        ([line(usage=None)], "upstream said none"),
    ],
)
def test_bad_upstreams(lines, said):
    assert any(said in problem for problem in verdict(lines=lines))
