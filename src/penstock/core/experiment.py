"""What is compared with what, who takes part, and what came of each call that did."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from typing import Any, Literal

import msgspec

from penstock.core.call import CACHED, TEMPLATE
from penstock.core.request import Request
from penstock.core.route import ContextMode, SemanticMode

Direction = Literal["lower", "higher"]
Policy = Literal["thompson", "ucb"]
SCORE = "score."
"""How the names of metrics begin that applications post."""
SCORE_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
"""What scores may be called: what follows it."""

LEDGER: dict[str, Direction] = {
    "cost_usd": "lower",
    "duration_s": "lower",
    "first_token_s": "lower",
    "error": "lower",
    "degraded": "lower",
    "input_tokens": "lower",
    "output_tokens": "lower",
    "cache_hit": "higher",
}
"""Metrics that every call has, and which way is better."""
SHARES = ("error", "degraded", "cache_hit")
"""Those that are 0 or 1."""


class Change(msgspec.Struct, frozen=True):
    """What an arm sets in a request; None leaves what the request says.

    Attributes:
        model: The model name that is asked for.
        prompt_id: The prompt.
        prompt_version: Its version or label.
        parameters: Fields of the body; one that is None is taken out.
        cache_ttl_s: Seconds its answers stay fresh; 0 keeps them out of the cache.
        semantic: Whether questions are answered by meaning.
        context: Whether conversations are cut.
        context_tokens: Most tokens of their messages.
    """

    model: str | None = None
    prompt_id: str | None = None
    prompt_version: str | None = None
    parameters: dict[str, Any] = {}
    cache_ttl_s: float | None = None
    semantic: SemanticMode | None = None
    context: ContextMode | None = None
    context_tokens: int | None = None

    @property
    def fields(self) -> frozenset[str]:
        """What it sets."""
        said = {name.partition("_")[0] if name.startswith("prompt") else name
                for name, value in msgspec.structs.asdict(self).items() if value is not None}  # fmt: skip
        return frozenset(said - {"parameters"} | {f"parameters.{name}" for name in self.parameters})

    @property
    def caches(self) -> bool:
        """It changes how answers are cached, so its answers need a part of the cache to themselves."""
        return self.cache_ttl_s is not None or self.semantic is not None


class Arm(msgspec.Struct, frozen=True):
    """One of the ways that are compared; the first of an experiment is its control.

    Attributes:
        name: Its name.
        weight: Its share of the units, relative to the other arms'.
        change: What it sets.
    """

    name: str
    weight: float = 1.0
    change: Change = Change()


class Audience(msgspec.Struct, frozen=True, dict=True):
    """Whose requests take part; all that is said must fit, and ``*`` stands for any text.

    Attributes:
        models: Model names as clients write them; empty for all.
        prompts: Prompts that are asked for by name; empty for all requests, with a prompt or without.
        tenants: Tenants; empty for all.
        tags: Labels of which a request has at least one; empty for all.
    """

    models: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    def fits(self, request: Request) -> bool:
        """Whether `request` takes part."""
        models, prompts, tenants, tags = self._patterns
        return (
            (models is None or models.fullmatch(request.model) is not None)
            and (tenants is None or tenants.fullmatch(request.tenant) is not None)
            and (prompts is None or (request.prompt is not None and prompts.fullmatch(request.prompt.id) is not None))
            and (tags is None or any(tags.fullmatch(tag) for tag in request.tags))
        )

    def meets(self, other: Audience) -> bool:
        """Whether a request could take part in both; False only when that is plain from the names."""
        pairs = ((self.models, other.models), (self.prompts, other.prompts), (self.tenants, other.tenants))
        return all(
            not mine or not theirs or any("*" in name for name in (*mine, *theirs)) or set(mine) & set(theirs)
            for mine, theirs in pairs
        )

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str] | None, ...]:
        return tuple(_pattern(names) for names in (self.models, self.prompts, self.tenants, self.tags))


class Metric(msgspec.Struct, frozen=True):
    """What is measured of each unit: the mean of its calls' values.

    Attributes:
        name: One of `LEDGER`, or ``score.NAME`` for what the application posts as NAME.
        direction: Which way is better.
        bounds: The least and the most value; what lies outside counts as the nearest of the two. With bounds, what is
            inferred holds for any number of units; None infers from the range seen so far.
    """

    name: str
    direction: Direction
    bounds: tuple[float, float] | None = None


class Guard(msgspec.Struct, frozen=True):
    """What may not become worse.

    Attributes:
        metric: What is watched.
        worse_by: By how much an arm's mean may be worse than the control's, in the metric's own unit.
    """

    metric: Metric
    worse_by: float = 0.0


class Bandit(msgspec.Struct, frozen=True):
    """How traffic goes to arms that do better, while it is not certain yet.

    Attributes:
        policy: ``thompson`` gives each arm the probability that it is the best one; ``ucb`` (upper confidence bound)
            gives all that is above the floors to the arm that may be the best.
        floor: The least share of an arm.
        every_s: Seconds between changes of the shares.
    """

    policy: Policy = "thompson"
    floor: float = 0.1
    every_s: float = 3600.0


class Experiment(msgspec.Struct, frozen=True):
    """A comparison of arms.

    Attributes:
        name: Its name.
        arms: The control, then the others.
        primary: What decides.
        audience: Whose requests take part.
        share: Share of their units that does.
        layer: Experiments of the same layer have no unit in common; empty for a layer of its own.
        metrics: What is reported beside.
        guards: What may not become worse.
        window_s: Seconds from a unit's first call in which its calls, and scores of these, are counted.
        most_units: Units after which it ends without a winner.
        most_days: Days after which it does; None for no such limit.
        alpha: Probability that an arm is found better or worse while none differs from the control; and as much again
            that a guard is found broken which is not.
        harm: An arm that is worse than the control, or breaks a guard, ends the experiment.
        then: Who gets the winner at the end: nobody (``control``) or everybody it is for (``winner``).
        bandit: How shares follow success; None for fixed shares.
    """

    name: str
    arms: tuple[Arm, ...]
    primary: Metric
    audience: Audience = Audience()
    share: float = 1.0
    layer: str = ""
    metrics: tuple[Metric, ...] = ()
    guards: tuple[Guard, ...] = ()
    window_s: float = 3600.0
    most_units: int = 10_000
    most_days: float | None = None
    alpha: float = 0.05
    harm: bool = True
    then: Literal["control", "winner"] = "control"
    bandit: Bandit | None = None

    @property
    def weights(self) -> dict[str, float]:
        """The configured shares of the arms, of 1."""
        total = sum(arm.weight for arm in self.arms)
        return {arm.name: arm.weight / total for arm in self.arms}

    @property
    def measured(self) -> tuple[Metric, ...]:
        """All metrics, the primary one first, each once."""
        known = {metric.name: metric for metric in (*(guard.metric for guard in self.guards), *self.metrics)}
        known.pop(self.primary.name, None)
        return (self.primary, *known.values())

    @property
    def identity(self) -> str:
        """Changes when what is compared does, so that earlier calls say nothing about it any more."""
        arms = [(arm.name, msgspec.to_builtins(arm.change)) for arm in self.arms]
        what = (self.name, arms, self.primary.name, self.primary.bounds, self.window_s, self.bandit is not None)
        return blake2b(msgspec.json.encode(what, order="deterministic"), digest_size=8).hexdigest()


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """A call that took part in an experiment.

    Attributes:
        id: Its number in the ledger; grows with time.
        at: When it began, seconds since the epoch.
        unit: Digest of who or what was assigned.
        arms: The arm of each experiment.
        values: Metrics of `LEDGER` by name; what is not known is left out.
        scores: What was posted about it: value and time of the post, by name.
    """

    id: int
    at: float
    unit: str
    arms: Mapping[str, str]
    values: Mapping[str, float]
    scores: Mapping[str, tuple[float, float]] = {}


class Score(msgspec.Struct, frozen=True):
    """How good an answer was, as an application says.

    Attributes:
        tenant: Whose it is.
        request_id: The call's `x-request-id`.
        name: What was judged.
        value: How good; any finite number.
        at: When it was posted, seconds since the epoch.
    """

    tenant: str
    request_id: str
    name: str
    value: float
    at: float


def values_of(
    *, outcome: str, cache: str, cost_usd: float | None, duration_s: float, first_token_s: float | None,
    input_tokens: int | None, output_tokens: int | None,
) -> dict[str, float]:  # fmt: skip
    """Return a call's metrics.

    An answer from a template is an error, and degraded; one that is past its freshness is degraded. A call the client
    broke off is no error.
    """
    known: Sequence[tuple[str, float | None]] = (
        ("cost_usd", cost_usd),
        ("duration_s", duration_s),
        ("first_token_s", first_token_s),
        ("error", float(outcome not in ("ok", "client_closed"))),
        ("degraded", float(outcome == TEMPLATE or cache == "stale")),
        ("input_tokens", input_tokens),
        ("output_tokens", output_tokens),
        ("cache_hit", float(cache in CACHED)),
    )
    return {name: float(value) for name, value in known if value is not None}


def overlapping(experiments: Sequence[Experiment]) -> tuple[str, str, str] | None:
    """Return two experiments that could set the same field of one request, and the field; None without such."""
    for position, one in enumerate(experiments):
        for other in experiments[:position]:
            if (one.layer and one.layer == other.layer) or not one.audience.meets(other.audience):
                continue
            mine, theirs = (frozenset().union(*(arm.change.fields for arm in each.arms)) for each in (one, other))
            if mine & theirs:
                return other.name, one.name, sorted(mine & theirs)[0]
    return None


def _pattern(names: Sequence[str]) -> re.Pattern[str] | None:
    if not names:
        return None
    return re.compile("|".join(".*".join(map(re.escape, name.split("*"))) for name in names), re.DOTALL)
