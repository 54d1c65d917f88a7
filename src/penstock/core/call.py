"""What happened to one call: written by the layers, read by the record and the response headers."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Literal

import msgspec

from penstock.core.budget import Allowance
from penstock.core.quota import Quota
from penstock.core.usage import Usage

CacheState = Literal["", "hit", "miss", "stale", "semantic", "collapsed", "bypass"]
SemanticNote = Literal["", "miss", "shadow", "hit"]
CostSource = Literal["provider", "estimate", "time", "unknown", "none"]

HEDGE_LOST = "hedge_lost"
"""Outcome of a try that was given up, or not used, because another one answered first."""

TEMPLATE = "template"
"""What `Call.degraded` says when no model answered but a template did; and the outcome of such a call."""
CASCADE = "cascade"
"""What `Call.degraded` says when the last model of a cascade failed, so that an earlier one's answer was given."""
CACHED = ("hit", "stale", "semantic")
"""What `Call.cache` says of answers from a cache: fresh, past their freshness, or to a question of the same meaning."""
_ANSWERING = ("ok", "")


class Attempt(msgspec.Struct, omit_defaults=True):
    """One try on one target.

    Attributes:
        provider: Name of the provider in the configuration.
        model: The provider's model.
        started: `Clock.monotonic` at the start.
        duration_s: Seconds until the attempt ended, its stream included.
        first_token_s: Seconds until the first event or the whole answer.
        outcome: ``ok``, ``client_closed``, ``hedge_lost`` (another try answered first) or the code of the error.
        status_code: The upstream's HTTP status, if it gave one.
        usage: Tokens, if known.
        cost_usd: What it cost; None when the price is unknown.
        cost_source: ``provider`` (price × reported usage), ``estimate`` (price × estimated usage), ``time``
            (price of an hour × its share of the machine's time), ``unknown`` (no price), ``none`` (nothing to pay: no
            answer, or a simulated provider).
        hedge: It was made beside another try because that one was late.
        running: Its end is not noted yet; whoever notes it calls `end`.
        ledger_id: Under which number the ledger knows the call it was made for, once that was reserved.
    """

    provider: str
    model: str
    started: float
    duration_s: float = 0.0
    first_token_s: float | None = None
    outcome: str = ""
    status_code: int | None = None
    usage: Usage | None = None
    cost_usd: Decimal | None = None
    cost_source: CostSource = "none"
    hedge: bool = False
    running: bool = False
    ledger_id: int = 0
    _then: list[Callable[[], None]] | None = None

    def end(self) -> None:
        """All is noted."""
        self.running = False
        if self._then is not None:
            waiting, self._then = self._then, None
            for then in waiting:
                then()

    def when_ended(self, then: Callable[[], None]) -> None:
        """Call `then` at the end of a try that is `running`."""
        self._then = [*(self._then or ()), then]


class Footprint(msgspec.Struct, frozen=True, gc=False):
    """What a prompt means for a replica that has to compute it.

    Attributes:
        tokens: Input tokens, estimated.
        blocks: Checksums of its beginnings, each a block longer than the one before.
        block_tokens: Input tokens of one block.
    """

    tokens: int
    blocks: tuple[int, ...]
    block_tokens: float


class Shaping(msgspec.Struct, frozen=True, gc=False):
    """What became of a conversation that was cut.

    Attributes:
        before: Tokens of its messages, estimated.
        after: Tokens of the messages that were sent, estimated.
        left_out: Messages that were left out.
        summarised: How many of these a summary stands for.
        how: ``extractive`` or ``model`` for the kind of the summary; empty without one.
        kept: Messages that were sent as they came.
    """

    before: int
    after: int
    left_out: int = 0
    summarised: int = 0
    how: str = ""
    kept: int = 0


class Call(msgspec.Struct):
    """Notes of one call.

    Attributes:
        id: Request id, unique.
        started: `Clock.monotonic` when Penstock had read the request.
        started_at: Seconds since the epoch at the same moment.
        key: The cache key, once computed.
        asked_bytes: Size of what the key is a digest of, about that of the request's body; 0 when it was not computed.
        attempts: Every try, in order; empty for a hit.
        cache: How a cache took part; empty when none did.
        cache_status: Members of the `Cache-Status` header (RFC 9211), the one nearest the client last.
        semantic: What matching by meaning found: nothing to give (``miss``), an answer kept back because it only looks
            on (``shadow``), or one that was given (``hit``); empty when the question was not looked up.
        semantic_key: The cache key of that answer.
        semantic_audit: With which probability it is checked against a fresh one, or would be if it were given.
        lookup: What matching by meaning found of the question before it was its turn, so that it need not look again.
        at_hand: That answers the call, without a wait.
        age_s: Age of the cached answer in seconds, for `Age`.
        saved_usd: What a hit would have cost.
        degraded: Why the answer is not the best possible one, for `x-penstock-degraded`.
        usage: Tokens of the answer that was served, if known.
        finish_reason: Why the answer ended, if known.
        answer_bytes: Size of the answer as the exact cache would hold it, if known.
        queued_s: Seconds it waited for providers' limits.
        quota: What the tenant may still use, if it has limits.
        estimated: The body whose tokens were estimated last, and how many these are; see `penstock.pricing.estimate`.
        footprint: The prompt as balancing sees it, once measured.
        allowance: What its budgets allowed it, if it has any.
        prompt: Name and version of the prompt it was made from, as ``NAME@VERSION``; empty without one.
        arms: The arm of each experiment it takes part in, by the experiment's name.
        unit: Digest of who or what was assigned to these arms; empty without any.
        shaping: What became of its conversation, if that was cut.
        stage: Name of the stage of a cascade that gave the answer; empty without a cascade.
        verdict: Why it was that stage, for `x-penstock-cascade`.
    """

    id: str
    started: float = msgspec.field(default_factory=time.monotonic)
    started_at: float = msgspec.field(default_factory=time.time)
    key: bytes | None = None
    asked_bytes: int = 0
    attempts: list[Attempt] = msgspec.field(default_factory=list)
    cache: CacheState = ""
    cache_status: list[str] = msgspec.field(default_factory=list)
    semantic: SemanticNote = ""
    semantic_key: bytes | None = None
    semantic_audit: float | None = None
    lookup: object = None
    at_hand: bool = False
    age_s: float | None = None
    saved_usd: Decimal | None = None
    degraded: list[str] = msgspec.field(default_factory=list)
    usage: Usage | None = None
    finish_reason: str | None = None
    answer_bytes: int | None = None
    queued_s: float = 0.0
    quota: Quota | None = None
    estimated: tuple[dict[str, Any], int] | None = None
    footprint: Footprint | None = None
    allowance: Allowance | None = None
    prompt: str = ""
    arms: dict[str, str] | None = None
    unit: str = ""
    shaping: Shaping | None = None
    stage: str = ""
    verdict: str = ""

    @property
    def running(self) -> Attempt | None:
        """The first attempt whose end is not noted yet. One that was given up may take its time to be closed."""
        for attempt in self.attempts:
            if attempt.running:
                return attempt
        return None

    @property
    def served(self) -> Attempt | None:
        """The attempt that made the answer, once it has begun; None for an answer from a cache or a template."""
        if self.cache in CACHED or TEMPLATE in self.degraded:
            return None
        tried = self.attempts
        for each in reversed(tried):
            if each.outcome in _ANSWERING:
                return each
        for each in reversed(tried):  # a stream can have broken off before anybody asks
            if each.first_token_s is not None:
                return each
        return None
