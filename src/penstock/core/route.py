"""Where a request may go: the targets behind a model name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from penstock.core.cascade import Cascade

Strategy = Literal["ordered", "weighted", "balanced"]
SemanticMode = Literal["off", "shadow", "on"]
"""Whether questions are answered by meaning; ``shadow`` decides and learns, and serves nothing."""
ContextMode = Literal["off", "budget", "aggressive"]
"""Whether long conversations are cut: never, when they exceed their budget of tokens, or to what the question needs."""


class ContextTerms(msgspec.Struct, frozen=True):
    """On what terms conversations are cut; all of it decides what is sent, so it is part of every cache key.

    Attributes:
        mode: Whether they are.
        tokens: Most tokens messages and tools may have, estimated; None derives it from the models' windows.
        summary_model: The model that writes summaries of what is left out; None takes sentences from it.
        summary_tokens: Most tokens of all summaries.
        recent_tokens: Tokens of the newest exchanges that a cut leaves.
        excerpt_tokens: Most tokens of earlier messages that are repeated because of the question.

    None takes a share of `tokens`, as `penstock.context.terms.Terms` says.
    """

    mode: ContextMode = "off"
    tokens: int | None = None
    summary_model: str | None = None
    summary_tokens: int | None = None
    recent_tokens: int | None = None
    excerpt_tokens: int | None = None


UNCUT = ContextTerms()
"""Nothing is cut unless a request asks for it."""


class Target(msgspec.Struct, frozen=True):
    """One provider's model.

    Attributes:
        provider: Name of the provider in the configuration.
        model: The provider's own name for the model.
        weight: Share of the traffic among targets of the same `order`; 0 takes none unless the others failed.
        order: Lower ones are tried first.
        timeout_s: Seconds one attempt may take in all; None takes the provider's.
    """

    provider: str
    model: str
    weight: float = 1.0
    order: int = 0
    timeout_s: float | None = None


TEMPLATE_VARIABLES = ("question", "model", "operation", "request_id")
"""What `Template.answer` may name in braces."""


class Template(msgspec.Struct, frozen=True):
    """An answer given without a model, when everything failed.

    Attributes:
        answer: The text; `TEMPLATE_VARIABLES` in braces are replaced.
        operation: The named operation it answers; None for any.
        tag: A tag a request must have; None for any.
    """

    answer: str
    operation: str | None = None
    tag: str | None = None


class Fallbacks(msgspec.Struct, frozen=True):
    """What may be answered with when a model cannot.

    Attributes:
        context_window: Models to ask when the prompt is too long for this one.
        content_policy: Models to ask when its provider's policy refuses.
        errors: Models to ask when all its targets failed.
        templates: Answers for when that failed too; the first that fits is given.
        timeout_s: Seconds each model may take to begin its answer; None for no such limit.
    """

    context_window: tuple[str, ...] = ()
    content_policy: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    templates: tuple[Template, ...] = ()
    timeout_s: float | None = None


class HedgeTerms(msgspec.Struct, frozen=True):
    """On what terms a late request is sent a second time.

    Attributes:
        budget: Tokens of second requests, as a share of the tokens of all requests.
        quantile: Share of the requests whose answers begin before one counts as late.
    """

    budget: float = 0.02
    quantile: float = 0.95


class Route(msgspec.Struct, frozen=True):
    """What a model name stands for, resolved.

    Attributes:
        model: The name the client used.
        targets: Where the request may be sent, as configured; never empty. `penstock.routing.selection` orders them.
        identity: Digest of the targets and of what in their providers' configuration changes answers. Part of every
            cache key, so that an answer of one model is never given as another's.
        cache_ttl_s: Seconds an answer stays fresh; None takes the cache's default, 0 switches caching off.
        timeout_s: Seconds a request may take in all, retries and failover included; None takes the default.
        strategy: ``ordered`` tries targets by `order`, then as listed; ``weighted`` draws among those of the same
            `order` by `weight`; ``balanced`` sends each request where its first token is expected soonest.
        fallbacks: What may be answered with when it fails; None takes the defaults.
        hedge: On what terms late requests are sent a second time; None for never.
        semantic: Whether questions are answered by meaning; None takes the cache's default.
        context: On what terms conversations are cut.
        cascade: Models that are asked one after the other, until one's answer is good enough; None for one model. Their
            routes are in it, and `targets` are those of all of them.
    """

    model: str
    targets: tuple[Target, ...]
    identity: bytes
    cache_ttl_s: float | None = None
    timeout_s: float | None = None
    strategy: Strategy = "ordered"
    fallbacks: Fallbacks | None = None
    hedge: HedgeTerms | None = None
    semantic: SemanticMode | None = None
    context: ContextTerms = UNCUT
    cascade: Cascade | None = None

    @property
    def legs(self) -> tuple[Route, ...]:
        """The routes one request may take, one after the other: those of a cascade's models, or this one."""
        if self.cascade is None:
            return (self,)
        return tuple(stage.route for stage in self.cascade.stages if stage.route is not None)

    def over(self, legs: Sequence[Route]) -> Route:
        """Return this route with other `legs`, as many and in the same order."""
        if self.cascade is None:
            return legs[0]
        rest = iter(legs)
        stages = tuple(
            stage if stage.route is None else msgspec.structs.replace(stage, route=next(rest))
            for stage in self.cascade.stages
        )
        cascade = msgspec.structs.replace(self.cascade, stages=stages)
        targets = tuple(dict.fromkeys(target for leg in legs for target in leg.targets))
        return msgspec.structs.replace(self, cascade=cascade, targets=targets)
