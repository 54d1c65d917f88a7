"""From the model name a client uses to the targets behind it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256

import msgspec

from penstock.core.cascade import Cascade
from penstock.core.errors import InvalidRequest
from penstock.core.route import UNCUT, ContextTerms, Fallbacks, HedgeTerms, Route, SemanticMode, Strategy, Target

_REMEMBERED = 1024
"""Resolved names kept; names come from clients, so the number must be bounded, and"""
_LONGEST = 500
"""their length too, in characters."""


class Rule(msgspec.Struct, frozen=True):
    """What the configuration says of one model name; see `penstock.config.settings.ModelSettings`.

    Attributes:
        name: A literal name or a pattern in which `*` stands for any text.
        targets: Where it leads; a target's model `*` is the name the client used.
        strategy: How the order of the targets is chosen.
        cache_ttl_s: Seconds answers stay fresh; None for the cache's default.
        timeout_s: Total seconds for a request; None for the default.
        fallbacks: What may be answered with when it fails; None for the defaults.
        hedge: On what terms late requests are sent a second time; None for never.
        semantic: Whether questions are answered by meaning; None for the cache's default.
        context: On what terms conversations are cut; None for the table's.
        cascade: Models to ask in place of targets, by the names of its stages; their routes are left open.
    """

    name: str
    targets: tuple[Target, ...]
    strategy: Strategy = "ordered"
    cache_ttl_s: float | None = None
    timeout_s: float | None = None
    fallbacks: Fallbacks | None = None
    hedge: HedgeTerms | None = None
    semantic: SemanticMode | None = None
    context: ContextTerms | None = None
    cascade: Cascade | None = None


class RouteTable:
    """Resolves names: a literal name first, then ``provider/model``, then the most specific pattern."""

    def __init__(self, rules: Sequence[Rule], providers: Mapping[str, bytes], context: ContextTerms = UNCUT) -> None:
        """Take `rules`, and for what they leave open defaults.

        Args:
            rules: What the configuration says of model names.
            providers: Each provider's name, with a digest of what in its configuration changes answers.
            context: On what terms conversations are cut.
        """
        self._context = context
        self._providers = providers
        self._literal = {rule.name: rule for rule in rules if "*" not in rule.name}
        patterns = sorted((rule for rule in rules if "*" in rule.name), key=_specificity)
        self._patterns = [(_compile(rule.name), rule) for rule in patterns]
        self._resolved: dict[str, Route] = {}

    @property
    def names(self) -> list[str]:
        """Literal names, as configured."""
        return list(self._literal)

    @property
    def patterns(self) -> list[str]:
        """Patterns, most specific first."""
        return [rule.name for _, rule in self._patterns]

    def resolve(self, model: str) -> Route:
        """Return the route for `model`.

        Raises:
            InvalidRequest: No rule and no provider fits (404, ``model_not_found``); the message has the known names.
        """
        route = self._resolved.get(model)
        if route is None:
            route = self._route(model, self.rule(model))
            if len(self._resolved) >= _REMEMBERED:
                self._resolved.clear()
            self._resolved[model] = route
        return route

    def rule(self, model: str) -> Rule:
        """Return what the configuration says of `model`; of ``provider/model`` that is nothing but the target.

        Raises:
            InvalidRequest: As `resolve`.
        """
        if not 0 < len(model) <= _LONGEST:
            raise self._unknown(model[:_LONGEST])
        rule = self._literal.get(model)
        if rule is not None:
            return rule
        provider, slash, name = model.partition("/")
        if slash and name and provider in self._providers:
            return Rule(name=model, targets=(Target(provider=provider, model=name),))
        for pattern, rule in self._patterns:
            if pattern.fullmatch(model):
                return rule
        raise self._unknown(model)

    def _route(self, model: str, rule: Rule) -> Route:
        cascade = None if rule.cascade is None else self._resolved_stages(rule.cascade)
        if cascade is None:
            targets = tuple(
                msgspec.structs.replace(target, model=model) if target.model == "*" else target
                for target in rule.targets
            )
            identity = self._identity(targets)
        else:
            routes = [stage.route for stage in cascade.stages if stage.route is not None]
            targets = tuple(dict.fromkeys(target for route in routes for target in route.targets))
            identity = _identity_of(cascade)
        return Route(
            model=model,
            targets=targets,
            identity=identity,
            strategy=rule.strategy,
            cache_ttl_s=rule.cache_ttl_s,
            timeout_s=rule.timeout_s,
            fallbacks=rule.fallbacks,
            hedge=rule.hedge,
            semantic=rule.semantic,
            context=rule.context or self._context,
            cascade=cascade,
        )

    def _identity(self, targets: Sequence[Target]) -> bytes:
        digest = sha256()
        for target in targets:
            for part in (self._providers[target.provider], target.provider.encode(), target.model.encode()):
                digest.update(len(part).to_bytes(4, "big") + part)
        return digest.digest()

    def _resolved_stages(self, cascade: Cascade) -> Cascade:
        stages = tuple(
            stage if stage.filter is not None else msgspec.structs.replace(stage, route=self.resolve(stage.name))
            for stage in cascade.stages
        )
        return msgspec.structs.replace(cascade, stages=stages)

    def _unknown(self, model: str) -> InvalidRequest:
        known = self.names + self.patterns
        near = difflib.get_close_matches(model, known, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        listed = ", ".join(known[:20]) or "none"
        providers = ", ".join(sorted(self._providers))
        return InvalidRequest(
            f"The model '{model[:200]}' does not exist.{hint} Known models: {listed}; "
            f"or address one as provider/model with one of the providers {providers}.",
            code="model_not_found",
            param="model",
            status_code=404,
        )


def _identity_of(cascade: Cascade) -> bytes:
    """Digest what decides the answers of `cascade`: its models, filters and terms; not what it has learnt, or how."""
    stages = [
        (stage.name, stage.filter, None if stage.route is None else stage.route.identity) for stage in cascade.stages
    ]
    terms = (cascade.max_error, cascade.confidence, str(cascade.loss_usd))
    return sha256(msgspec.json.encode(("cascade", stages, terms))).digest()


def _specificity(rule: Rule) -> tuple[int, str]:
    return -len(rule.name.replace("*", "")), rule.name


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)
