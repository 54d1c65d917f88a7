"""The one request type all layers and providers see."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from penstock.core.call import Call
from penstock.core.clock import TIMER_SLACK_S
from penstock.core.route import UNCUT, ContextMode, ContextTerms, Route, SemanticMode, Target

Operation = Literal["chat", "completions", "embeddings"]
Priority = Literal["high", "normal", "low"]


class CacheDirectives(msgspec.Struct, frozen=True):
    """What the client says about caching: `Cache-Control` (RFC 9111 5.2.1, RFC 5861 4), LiteLLM's `cache` field.

    Attributes:
        no_cache: Do not answer from the cache; the new answer may be stored.
        no_store: Neither answer from the cache nor store.
        only_if_cached: Answer from the cache or not at all.
        max_age: Accept no entry older than this, seconds.
        stale_if_error: Accept an entry this many seconds past its freshness when the upstream fails.
        ttl: Keep the new answer fresh for this long, seconds (LiteLLM's `ttl`).
        namespace: A partition of the cache inside the tenant (LiteLLM's `namespace`).
    """

    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    max_age: float | None = None
    stale_if_error: float | None = None
    ttl: float | None = None
    namespace: str = ""


NO_DIRECTIVES = CacheDirectives()


class PromptReference(msgspec.Struct, frozen=True):
    """A prompt the client asks for by name, in place of messages or before them.

    Attributes:
        id: Its name.
        version: A version or a label; None takes the label ``production``, or else the newest version.
        variables: Values of the variables it declares.
    """

    id: str
    version: str | None = None
    variables: dict[str, Any] = {}


class Written(msgspec.Struct, frozen=True):
    """A request as JSON, so that it need not be written anew where nothing but the model's name changes.

    Attributes:
        payload: What it says beside `model` and `stream`; it holds for no other `Request.payload`.
        model: The model's name in it.
        stream: It has ``"stream":true``.
        body: The JSON, without white space.
    """

    payload: dict[str, Any]
    model: str
    stream: bool
    body: bytes


class Prefix(msgspec.Struct, frozen=True):
    """What of a prompt will be sent again, for providers that cache beginnings of prompts and want to be told.

    Attributes:
        points: Numbers of messages after which such a beginning ends, ascending; instructions and tools are one always.
        key: A digest that requests with the same beginning have in common.
    """

    points: tuple[int, ...]
    key: str


class Request(msgspec.Struct, frozen=True):
    """One operation to perform; layers pass on changed copies (`msgspec.structs.replace`), never change it.

    Attributes:
        operation: What is asked: chat, completions (legacy text) or embeddings.
        model: The model name as the client wrote it.
        payload: The body in canonical form (OpenAI's, for the operation), unknown fields included, without `model`,
            `stream`, `stream_options` and Penstock's own fields. Treat as immutable.
        stream: The client wants a stream.
        include_usage: The client wants the usage chunk in the stream (`stream_options.include_usage`).
        stream_options: The client's other stream options, passed on.
        dialect: The wire dialect the client spoke, e.g. ``openai_chat``.
        tenant: Who it is for, a team of an organisation. Nothing is shared between tenants.
        key_id: Which of the tenant's API keys asked; empty without one.
        tags: Labels for the record, from `x-penstock-tags`.
        metadata: Key-value pairs for the record, from `x-penstock-metadata`.
        cache: The client's caching directives.
        timeout_s: Total seconds the client allows, from `x-penstock-timeout`.
        deadline: When the total time is over, on `Clock.monotonic`; set by the deadline layer.
        begin_by: When the answer must have begun, on `Clock.monotonic`; set by the fallback layer, which asks elsewhere
            then.
        fallback: Whether another model, or a template, may answer instead; from `x-penstock-fallback`.
        priority: Its place among the tenant's own requests that wait, from `x-penstock-priority`.
        semantic: Whether it is answered by meaning; from `x-penstock-semantic`, None as the route says.
        context: Whether its conversation is cut; from `x-penstock-context`, None as the route says.
        context_tokens: Most tokens its messages and tools may have when they are sent, from
            `x-penstock-context-tokens`; None as the route says.
        prefix: What of its prompt will be sent again; None when providers are not told.
        prompt: The prompt it names; the pipeline has put what it says into the payload before the first layer.
        unit: Who or what experiments assign to an arm, from `x-penstock-unit`; empty takes the body's ``user``.
        route: Where it may go; set by the pipeline before the first layer.
        target: Where this attempt goes; set by failover, so absent in the layers outside it.
        hedge: Made beside another try because that one is late.
        call: The mutable notes of this call, shared by all copies.
        written: The client's request as JSON, unless there was more in it than its payload says.
    """

    operation: Operation
    model: str
    payload: dict[str, Any]
    call: Call
    stream: bool = False
    include_usage: bool = False
    stream_options: dict[str, Any] | None = None
    dialect: str = "openai_chat"
    tenant: str = "default"
    key_id: str = ""
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] | None = None
    cache: CacheDirectives = NO_DIRECTIVES
    timeout_s: float | None = None
    deadline: float | None = None
    begin_by: float | None = None
    fallback: bool = True
    priority: Priority = "normal"
    semantic: SemanticMode | None = None
    context: ContextMode | None = None
    context_tokens: int | None = None
    prefix: Prefix | None = None
    prompt: PromptReference | None = None
    unit: str = ""
    route: Route | None = None
    target: Target | None = None
    hedge: bool = False
    written: Written | None = None

    def context_terms(self) -> ContextTerms | None:
        """On what terms its conversation is cut: what it says itself, then what its route says; None when it is not.

        A number of tokens alone asks for ``budget`` where nothing is cut otherwise.
        """
        terms = UNCUT if self.route is None else self.route.context
        mode, tokens = self.context, self.context_tokens
        if mode is None:
            mode = "budget" if tokens is not None and terms.mode == "off" else terms.mode
        if mode == "off" or self.operation != "chat":
            return None
        if mode == terms.mode and tokens is None:
            return terms
        return msgspec.structs.replace(terms, mode=mode, tokens=terms.tokens if tokens is None else tokens)

    def late(self, now: float) -> bool:
        """Whether an answer that has not begun at `now`, on `Clock.monotonic`, is too late."""
        soon = now + TIMER_SLACK_S
        return (self.deadline is not None and soon >= self.deadline) or (
            self.begin_by is not None and soon >= self.begin_by
        )
