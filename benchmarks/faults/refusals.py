"""Lines 1 to 4: what an upstream refuses, or cannot say at all."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from email.utils import formatdate

from benchmarks.faults.answers import FRAMES, SSE, good
from benchmarks.faults.cells import ANSWERED, KINDS, UNSAID_S, Fault, Kind, Outcome
from penstock.testing import UpstreamReply, faults, json_reply, sse_reply
from penstock.testing.faultd import sse_frames

_LIMITED = "rate_limit_exceeded"
_ERRORS = {
    "a rate limit": ({"message": "slow down", "type": "rate_limit_error", "code": _LIMITED}, 429, _LIMITED),
    "a failure": ({"message": "boom", "type": "server_error", "code": None}, 502, "upstream_error"),
}
_PASSED_ON = {400: "bad_temperature", 404: "model_gone", 422: "unprocessable"}


def refusals() -> Iterator[Fault]:
    """Everything, as JSON and as a stream."""
    for kind in KINDS:
        yield from _limits(kind)
        yield from _statuses(kind)
        yield from _silence(kind)
        yield from _unreachable(kind)
    yield from _errors_in_answers()


def _limits(kind: Kind) -> Iterator[Fault]:
    def limit(name: str, wait_s: int, tries: tuple[int, ...] = (1, 2), headers: dict[str, str] | None = None) -> Fault:
        reply = _refusal(429, "slow_down", headers)
        return Fault(1, name, "before headers", kind, Outcome(429, (_LIMITED,), wait_s), reply, tries=tries)

    yield limit("429, `Retry-After` in seconds", 2, headers={"retry-after": "2"})
    yield limit("429, `Retry-After` longer than the others'", 40, (1,), {"retry-after": "40"})
    yield limit("429, `retry-after-ms`", 2, headers={"retry-after-ms": "1200"})
    yield limit("429, no `Retry-After`", UNSAID_S)
    dated = Outcome(429, (_LIMITED,), 3)
    yield Fault(1, "429, `Retry-After` as a date", "before headers", kind, dated, _dated_refusal)


def _dated_refusal() -> UpstreamReply:
    now = time.time()
    dates = {"date": formatdate(now, usegmt=True), "retry-after": formatdate(now + 3, usegmt=True)}
    return _refusal(429, "slow_down", dates)


def _statuses(kind: Kind) -> Iterator[Fault]:
    for status in (500, 502, 503, 529):
        broken = Outcome(502, ("upstream_error",))
        yield Fault(2, f"{status}", "before headers", kind, broken, _refusal(status), tries=(2,))
    page = Outcome(502, ("upstream_error",))
    yield Fault(2, "502 with a page of HTML", "before headers", kind, page, faults.html(502), tries=(2,))
    for status, code in _PASSED_ON.items():
        reply, outcome = _refusal(status, code), Outcome(status, (code,))
        yield Fault(2, f"{status}", "before headers", kind, outcome, reply, elsewhere=status == 404, tries=(1,))
    for status in (401, 403):
        denied = Outcome(502, ("upstream_auth",))
        yield Fault(2, f"{status}", "before headers", kind, denied, _refusal(status, "no"), tries=(1,))


def _silence(kind: Kind) -> Iterator[Fault]:
    late = Outcome(504, ("upstream_timeout",))
    silent, slow = UpstreamReply(silent=True), faults.slow_head(good(kind), 0.05)
    for name, reply in (("silence", silent), ("a head of 20 bytes a second", slow)):
        yield Fault(3, f"{name}, to the time-out", "before headers", kind, late, reply, "impatient")
        yield Fault(3, f"{name}, to the attempt's end", "before headers", kind, late, reply, "hurried")
        yield Fault(3, f"{name}, to the deadline", "before headers", kind, late, reply, elsewhere=False, timeout_s=0.6)


def _unreachable(kind: Kind) -> Iterator[Fault]:
    def unreachable(name: str, provider: str, *codes: str, status: int = 502) -> Fault:
        return Fault(4, name, "before headers", kind, Outcome(status, codes), None, provider)

    yield unreachable("connection refused", "refused", "upstream_connect")
    yield unreachable("unknown host name", "unknown_name", "upstream_dns")
    yield unreachable("TLS: expired certificate", "expired", "upstream_tls")
    yield unreachable("TLS: another host's certificate", "wrong_host", "upstream_tls")
    yield unreachable("TLS: plaintext", "plaintext", "upstream_tls")
    yield unreachable("TLS: no answer to the handshake", "mute", "upstream_timeout", status=504)
    # Whether the end of the connection or the request is first is not up to the server.
    either = ("upstream_connect", "upstream_incomplete")
    yield unreachable("closed as soon as connected", "hangs_up", *either)
    yield unreachable("reset as soon as connected", "resets", *either)
    secure = good(kind)
    yield Fault(4, "TLS: nothing wrong", "before headers", kind, ANSWERED, secure, "secure", tries=(1,))


def _errors_in_answers() -> Iterator[Fault]:
    for name, (error, status, code) in _ERRORS.items():
        wait_s = UNSAID_S if status == 429 else None
        alone = Outcome(status, (code,), wait_s)
        body = json.dumps({"error": error}).encode()
        title = f"200 with {name} in it"
        yield Fault(1, title, "before the first token", "JSON", alone, json_reply(body))
        yield Fault(1, title, "before the first token", "stream", alone, sse_reply([body]))
        yield Fault(1, f"{title}, as JSON", "before the first token", "stream", alone, json_reply(body))
        later = UpstreamReply(headers=SSE, parts=[*FRAMES[:3], *sse_frames([body])])
        yield Fault(1, title, "in the middle", "stream", Outcome(200, (code,)), later, tries=(1,))


def _refusal(status: int, code: str = "", headers: dict[str, str] | None = None) -> UpstreamReply:
    error = {"message": f"no: {code}", "type": "error", "param": None, "code": code or None}
    return json_reply({"error": error}, status=status, headers=headers)
