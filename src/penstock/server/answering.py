"""The answers of the hot routes as bytes: what their heads say, and what follows."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from functools import lru_cache, partial
from http import HTTPStatus
from urllib.parse import quote

from penstock.core.budget import Allowance
from penstock.core.call import Attempt, Call
from penstock.core.errors import PenstockError
from penstock.core.events import Batch
from penstock.core.money import to_usd
from penstock.core.request import Request
from penstock.core.response import Response
from penstock.server.errors import INTERNAL, body_of, quota_lines, render, status_of
from penstock.server.hot import Client
from penstock.server.http import Headers
from penstock.server.lifecycle import shutting_down
from penstock.wire.openai_chat import DONE, error_frame, frame

JSON = (b"content-type", b"application/json")
SSE: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
_TIMES = b"x-penstock-overhead-ms: %.3f\r\nserver-timing: penstock;dur=%.3f, upstream;dur=%.3f\r\n"
_FROM_MEMORY = b"x-penstock-attempts: 0\r\nx-penstock-cost-usd: 0\r\n"
_PICO = 10**12


def _block(fields: Headers) -> bytes:
    return b"".join([b"%b: %b\r\n" % field for field in fields])


_JSON_LINES = _block([JSON])
_SSE_LINES = _block([*SSE, (b"transfer-encoding", b"chunked")])


class _Beginning:
    """The status line of a good answer, and the fields that every response has: a second long they stay the same."""

    __slots__ = ("_fields", "_lines")

    def __init__(self) -> None:
        self._fields: Headers = []
        self._lines = b""

    def lines(self, fields: Headers) -> bytes:
        """Return both."""
        if fields is not self._fields:
            self._fields, self._lines = fields, b"HTTP/1.1 200 OK\r\n" + _block(fields)
        return self._lines


_beginning = _Beginning().lines


def respond(request: Request, response: Response, default: Headers) -> bytes:
    """Return a whole HTTP/1.1 response with an answer that is in memory."""
    if request.stream:
        body = frame(response.all_events(), include_usage=request.include_usage) + DONE
        end = b"\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        return b"".join((_beginning(default), _SSE_LINES, _lines(request.call, whole=False), end))
    body = response.body or b""
    end = b"content-length: %d\r\n\r\n" % len(body)
    return b"".join((_beginning(default), _JSON_LINES, _lines(request.call, whole=True), end, body))


def refuse(request: Request, error: PenstockError, default: Headers) -> bytes:
    """Return a whole HTTP/1.1 response with an error."""
    status, fields, body = render(error)
    fields += [*default, (b"x-request-id", request.call.id.encode()), (b"content-length", b"%d" % len(body))]
    phrase = HTTPStatus(status).phrase.encode()
    return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (status, phrase, _block(fields), body)


def answered(request: Request, response: Response | None, error: BaseException | None, default: Headers) -> bytes:
    """Return a whole HTTP/1.1 response for what became of a request."""
    return refuse(request, _told(error), default) if response is None else respond(request, response, default)


class StreamReply:
    """A client of a stream; see `penstock.stream_lane.Listener`."""

    __slots__ = ("_begun", "_client", "_request")

    def __init__(self, request: Request, client: Client) -> None:
        self._request = request
        self._client = client
        self._begun = False

    @property
    def behind(self) -> int:
        """Bytes that wait to be sent."""
        return self._client.behind

    def say(self, batch: Batch) -> bool:
        """Send events, after the head if they are the first."""
        data = frame(batch, include_usage=self._request.include_usage)
        chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        if self._begun:
            return self._client.say(chunk)
        self._begun = True
        head = (_beginning(self._client.default), _SSE_LINES, _lines(self._request.call, whole=False))
        return self._client.say(b"".join((*head, b"\r\n", chunk)))

    def end(self, error: BaseException | None) -> None:
        """Send the end, or the error in its place."""
        if not self._begun and error is not None:
            self._client.reply(partial(answered, self._request, None, error))
            return
        last = DONE
        if error is not None:
            told = _told(error)
            last = error_frame(body_of(told, status_of(told)))
        chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last)
        self._client.reply(lambda _: chunk)


def describe(call: Call, *, whole: bool) -> Headers:
    """Return the header fields that say what happened; the cost only when it is final."""
    lines = _lines(call, whole=whole).split(b"\r\n")
    return [(name, value) for name, _, value in (line.partition(b": ") for line in lines[:-1])]


def _lines(call: Call, *, whole: bool) -> bytes:
    """As `describe`, as lines of a head."""
    attempts, status = call.attempts, call.cache_status
    lines = b"x-request-id: %b\r\n%b" % (
        call.id.encode(), _tried(call, attempts, whole=whole) if attempts else _FROM_MEMORY
    )  # fmt: skip
    if status:
        lines += b"cache-status: %b\r\n" % (status[0] if len(status) == 1 else ", ".join(status)).encode()
    if call.age_s is not None:
        lines += b"age: %d\r\n" % call.age_s
    if call.degraded or call.shaping is not None or call.stage or call.arms or call.prompt:
        lines += _block(_noted(call))
    if call.quota is not None:
        lines += quota_lines(call.quota)
    if call.allowance is not None:
        lines += _left(call.allowance)
    upstream_s = _upstream_s(attempts) if attempts else 0.0
    own_ms = (time.monotonic() - call.started - upstream_s) * 1000
    own_ms = own_ms if own_ms > 0.0 else 0.0
    if not attempts:
        return lines + b"x-penstock-overhead-ms: %.3f\r\n" % own_ms
    return lines + _TIMES % (own_ms, own_ms, upstream_s * 1000)


def _tried(call: Call, attempts: list[Attempt], *, whole: bool) -> bytes:
    """Return the lines that say who answered, after how many tries, and at what cost if that is final."""
    served = call.served
    lines = b"x-penstock-attempts: %d\r\n" % len(attempts)
    if served is not None:
        lines += _served(served.provider, served.model)
    if len(attempts) > 1 and any(attempt.hedge for attempt in attempts):
        won = served is not None and served.hedge
        lines += b"x-penstock-hedge: won\r\n" if won else b"x-penstock-hedge: lost\r\n"
    if whole:
        cost = cost_of(call)
        lines += b"x-penstock-cost-usd: %b\r\n" % ("unknown" if cost is None else f"{cost:f}").encode()
    return lines


@lru_cache(maxsize=1024)
def _served(provider: str, model: str) -> bytes:
    return b"x-penstock-provider: %b\r\nx-penstock-model: %b\r\n" % (provider.encode(), _visible(model))


def _noted(call: Call) -> Headers:
    """Return the fields that say why an answer is not the best one, and what was sent to whom in place of what."""
    fields: Headers = []
    if call.prompt:
        fields.append((b"x-penstock-prompt", call.prompt.encode()))
    if call.arms:
        fields.append((b"x-penstock-arms", ", ".join(f"{name}={arm}" for name, arm in call.arms.items()).encode()))
    if call.stage:
        fields.append((b"x-penstock-cascade", b'stage="%b", %b' % (_visible(call.stage), call.verdict.encode())))
    if call.degraded:
        fields.append((b"x-penstock-degraded", ", ".join(call.degraded).encode()))
    shaping = call.shaping
    if shaping is not None:  # a dictionary of RFC 9651
        said = b"kept=%d, left-out=%d, summarised=%d, tokens-before=%d, tokens-after=%d" % (
            shaping.kept, shaping.left_out, shaping.summarised, shaping.before, shaping.after,
        )  # fmt: skip
        fields.append((b"x-penstock-context", said + (b", summary=" + shaping.how.encode() if shaping.how else b"")))
    return fields


def _left(allowance: Allowance) -> bytes:
    """Return the lines that say what budgets left when the request was sent."""
    lines = b"" if allowance.capped is None else b"x-penstock-budget: capped; max_tokens=%d\r\n" % allowance.capped
    if allowance.remaining_pusd is not None:
        lines += b"x-penstock-budget-remaining-usd: %b\r\n" % _usd(allowance.remaining_pusd)
    if allowance.remaining_tokens is not None:
        lines += b"x-penstock-budget-remaining-tokens: %d\r\n" % allowance.remaining_tokens
    return lines


def _usd(picodollars: int) -> bytes:
    """Write an amount without zeros at the end."""
    if picodollars < 0:
        return f"{to_usd(picodollars).normalize():f}".encode()
    whole, rest = divmod(picodollars, _PICO)
    return b"%d.%b" % (whole, (b"%012d" % rest).rstrip(b"0")) if rest else b"%d" % whole


def _upstream_s(attempts: list[Attempt]) -> float:
    """Return how long any of the attempts, in the order of their starts, was under way; those of a hedge overlap."""
    if len(attempts) == 1:
        return attempts[0].duration_s or attempts[0].first_token_s or 0.0
    total = end = 0.0
    for attempt in attempts:
        ended = attempt.started + (attempt.duration_s or attempt.first_token_s or 0.0)
        if ended > end:
            total += ended - max(attempt.started, end)
            end = ended
    return total


def _visible(name: str) -> bytes:
    """A name for a header: clients choose model names, so anything but printable ASCII is percent-encoded."""
    if name.isascii() and name.isprintable():
        return name.encode()
    return quote(name, safe=" /:").encode()


def cost_of(call: Call) -> Decimal | None:
    """Return what all attempts of a call cost together; None when a price is unknown."""
    if len(call.attempts) == 1 and call.attempts[0].cost_usd is not None:
        return call.attempts[0].cost_usd
    total = Decimal(0)
    for attempt in call.attempts:
        if attempt.cost_usd is None:
            if attempt.cost_source == "unknown":
                return None
            continue
        total += attempt.cost_usd
    return total


def _told(error: BaseException | None) -> PenstockError:
    """Return what a client hears of `error`."""
    if isinstance(error, asyncio.CancelledError):
        return shutting_down()
    return error if isinstance(error, PenstockError) else INTERNAL
