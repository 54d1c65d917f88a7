"""What must be true of a cell that was played."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from benchmarks.faults.answers import TEXT
from benchmarks.faults.asking import Heard, Saying, understand
from benchmarks.faults.cells import Cell
from benchmarks.faults.stage import KEY, WELL
from penstock.testing import InvoiceLine
from penstock.testing.faultd import UpstreamReply
from penstock.testing.faultd.faults import whole_body

LATE_S = 0.1
"""A deadline may be missed by this much."""
CLOSED_S = 0.25
"""An upstream that is of no more use is hung up on within this time."""
_ERROR_FIELDS = {"message", "type", "param", "code"}


class Played(NamedTuple):
    """One cell, and what was seen of it.

    Attributes:
        cell: The cell.
        heard: What the client got.
        again: What it got for the same question with ``only-if-cached``.
    """

    cell: Cell
    heard: Heard
    again: Heard


def judge(
    played: Played, lines: Sequence[InvoiceLine], calls: Sequence[sqlite3.Row], rows: Sequence[sqlite3.Row]
) -> list[str]:
    """Return what is wrong with a cell; nothing when all is as it should be.

    Args:
        played: The cell and what the client saw.
        lines: The upstreams' invoice.
        calls: The record's rows of the call, which should be one.
        rows: The record's rows of its attempts.
    """
    cell, heard = played.cell, played.heard
    try:
        said = understand(heard, stream=cell.fault.stream)
        problems = [*_client(cell, heard, said, lines), *_cache(cell, played.again)]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        problems = [f"the client cannot read {heard.body[:200]!r}: {error!r}"]
    return [*problems, *_upstream(cell, heard, lines), *_record(cell, lines, calls, rows), *_count(heard, rows)]


def _client(cell: Cell, heard: Heard, said: Saying, lines: Sequence[InvoiceLine]) -> Iterator[str]:
    expected = cell.expected
    if not heard.complete:
        yield "the answer's framing is broken"
    if heard.status != expected.status:
        yield f"status {heard.status}, not {expected.status}: {heard.body[:200]!r}"
        return
    if heard.headers.get("x-request-id") != cell.id:
        yield f"x-request-id is {heard.headers.get('x-request-id')!r}"
    stale = {"content-encoding", "trailer", "keep-alive", "upgrade"} & heard.headers.keys()
    if stale or {"content-length", "transfer-encoding"} <= heard.headers.keys():
        yield f"framing headers of the upstream's: {sorted(heard.headers)}"
    if expected.codes:
        yield from _error(cell, said, heard)
    else:
        yield from _answer(cell, said)
    if expected.status == 200:
        yield from _streamed(cell, said, heard, lines)
    limit = cell.fault.timeout_s
    if limit is not None and not limit - 0.02 <= heard.seconds <= limit + LATE_S:
        yield f"ended after {heard.seconds:.3f} s, not {limit} s"


def _error(cell: Cell, said: Saying, heard: Heard) -> Iterator[str]:
    expected, error = cell.expected, said.error
    if error is None or set(error) != _ERROR_FIELDS:
        yield f"the error's shape is {error}"
        return
    if error["code"] not in expected.codes:
        yield f"code {error['code']}, not {' or '.join(expected.codes)}: {error['message']}"
    if not error["message"] or KEY in str(error):
        yield f"the message is {error['message']!r}"
    if said.done:
        yield "an answer that failed ends with [DONE]"
    if expected.status != 200:
        yield from _refused(cell, heard)


def _refused(cell: Cell, heard: Heard) -> Iterator[str]:
    expected = cell.expected
    if heard.headers.get("content-type") != "application/json":
        yield f"content-type {heard.headers.get('content-type')}"
    wait = heard.headers.get("retry-after")
    if expected.retry_after is None:
        if wait is not None:
            yield f"Retry-After: {wait} out of nowhere"
        elif expected.status >= 500 and heard.headers.get("x-should-retry") != "false":
            yield "no x-should-retry: false on an error that was repeated here already"
    elif wait is None or not wait.isdigit() or not -1 <= int(wait) - expected.retry_after <= 1:
        yield f"Retry-After: {wait}, not {expected.retry_after}"


def _answer(cell: Cell, said: Saying) -> Iterator[str]:
    text = WELL if cell.answered_by == "well-1" else TEXT
    if said.text != text:
        yield f"the text is {said.text!r}"
    if said.finish != "stop" or not said.done:
        yield f"finish reason {said.finish}, done: {said.done}"


def _streamed(cell: Cell, said: Saying, heard: Heard, lines: Sequence[InvoiceLine]) -> Iterator[str]:
    kind = heard.headers.get("content-type", "").partition(";")[0]
    if kind != ("text/event-stream" if cell.fault.stream else "application/json"):
        yield f"content-type {kind}"
    if heard.headers.get("x-penstock-provider") != cell.answered_by:
        yield f"x-penstock-provider {heard.headers.get('x-penstock-provider')}, not {cell.answered_by}"
    if cell.fault.stream and said.usage:
        yield "usage that the client did not ask for"
    if cell.expected.codes:
        if not TEXT.startswith(said.text):
            yield f"not what the upstream said: {said.text!r}"
        if said.finish is not None and not _finish_was_sent(cell, lines):
            yield f"an invented finish reason {said.finish!r}"


def _finish_was_sent(cell: Cell, lines: Sequence[InvoiceLine]) -> bool:
    reply = cell.fault.reply
    if not isinstance(reply, UpstreamReply):
        return False
    return any(b'"finish_reason":"stop"' in whole_body(reply)[: line.sent_bytes] for line in lines)


def _cache(cell: Cell, again: Heard) -> Iterator[str]:
    if cell.expected.codes:
        if again.status != 504 or b'"not_cached"' not in again.body:
            yield f"a failure was cached: {again.status} {again.body[:200]!r}"
    elif again.status != 200 or "; hit" not in again.headers.get("cache-status", ""):
        yield f"a good answer was not cached: {again.status} {again.headers.get('cache-status')}"
    else:
        yield from _answer(cell, understand(again, stream=not cell.fault.stream))


def _upstream(cell: Cell, heard: Heard, lines: Sequence[InvoiceLine]) -> Iterator[str]:
    for line in lines:
        if line.ending is None:
            yield "an upstream still works for a request that is over"
        elif line.ending == "closed":
            closed = line.request.connection.closed_at
            if closed is None or closed - heard.ended_at > CLOSED_S:
                yield "an upstream of no more use was not hung up on in time"
    mine = sum(line.request.connection.open for line in lines if line.ending != "finished")
    if mine:
        yield f"{mine} connections are open whose answers were never finished"


def _record(
    cell: Cell, lines: Sequence[InvoiceLine], calls: Sequence[sqlite3.Row], rows: Sequence[sqlite3.Row]
) -> Iterator[str]:
    if len(calls) != 1:
        yield f"{len(calls)} rows of one call"
        return
    call = calls[0]
    outcomes = cell.expected.codes or ("ok",)
    if call["outcome"] not in outcomes or call["attempts"] != len(rows):
        yield f"recorded {call['outcome']} and {call['attempts']} attempts, {len(rows)} rows"
    if len(rows) > len(lines):
        rows = _without_unread(rows)
    asked = [row["provider"] for row in rows]
    tries = asked.count(cell.fault.provider)
    order = [row for provider in cell.targets for row in asked if row == provider]
    if asked != order or asked != order[: len(asked)]:
        yield f"tried {asked}"
    if tries not in cell.fault.tries:
        yield f"tried the failing target {tries} times, not {cell.fault.tries}"
    last = cell.answered_by or cell.fault.provider
    if asked and asked[-1] != last:
        yield f"went on from {last} to {asked[-1]}"
    if cell.fault.reply is None:
        rows = [row for row in rows if row["provider"] != cell.fault.provider]
    if len(rows) != len(lines):
        yield f"{len(rows)} rows for {len(lines)} lines on the invoice"
        return
    for row, line in zip(rows, lines, strict=True):
        yield from _row(row, line)


def _count(heard: Heard, rows: Sequence[sqlite3.Row]) -> Iterator[str]:
    if heard.status == 200 and heard.headers.get("x-penstock-attempts") != str(len(rows)):
        yield f"x-penstock-attempts {heard.headers.get('x-penstock-attempts')} for {len(rows)} rows"


def _row(row: sqlite3.Row, line: InvoiceLine) -> Iterator[str]:
    status, outcome = row["status_code"], row["outcome"]
    if status is not None and status != line.status and line.status != 200:
        yield f"status {status} recorded of {line.status}"
    recorded = (row["input_tokens"], row["output_tokens"])
    if line.usage is not None and (outcome == "ok" or row["first_token_us"] is not None):
        if recorded != (line.usage.input_tokens, line.usage.output_tokens) or row["usage_source"] != "provider":
            yield f"{outcome}: {recorded} tokens ({row['usage_source']}) for {line.usage} on the invoice"
    elif outcome == "ok" or row["first_token_us"] is not None:
        if row["usage_source"] not in ("estimate", "calibrated") or not recorded[0]:
            yield f"{outcome}: {recorded} tokens ({row['usage_source']}) though the upstream said none"
    elif outcome != "upstream_timeout" and recorded != (None, None):
        yield f"{outcome}: {recorded} tokens of an attempt without an answer"


def _without_unread(rows: Sequence[sqlite3.Row]) -> Sequence[sqlite3.Row]:
    """Leave out one attempt over a kept connection that another cell's fault had reset.

    The request was in the upstream's kernel when its connection was reset. Whether somebody had read it cannot be told
    on this side, so it is recorded, without tokens, and sent again at once.
    """
    for number, (row, later) in enumerate(pairwise(rows)):
        if row["outcome"] == "upstream_incomplete" and row["provider"] == later["provider"] and not row["cost_pusd"]:
            return [*rows[:number], *rows[number + 1 :]]
    return rows
