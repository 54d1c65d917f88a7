"""Settings of experiments."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from penstock.config.section import Seconds, Section, or_boolean, terms
from penstock.core.experiment import (
    LEDGER,
    SCORE,
    SCORE_NAME,
    SHARES,
    Arm,
    Audience,
    Bandit,
    Change,
    Experiment,
    Guard,
    Metric,
    overlapping,
)
from penstock.core.route import ContextMode, SemanticMode

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
_RESERVED = ("model", "messages", "input", "prompt", "stream", "stream_options", "user", "safety_identifier", "cache")


class PromptChangeSettings(Section):
    """Another prompt, or another version of it."""

    id: str | None = Field(None, min_length=1, description="Its name; by default the one that is asked for.")
    version: str | int | None = Field(None, description="A version or a label; by default as without the experiment.")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.id is None and self.version is None:
            raise ValueError("expected an id, a version, or both")
        return self


class ChangeSettings(Section):
    """What an arm sets; what it does not name stays as the request has it."""

    model: str | None = Field(None, min_length=1, description="The model that is asked; may be a cascade.")
    prompt: PromptChangeSettings | None = Field(None, description="The prompt that is rendered.")
    parameters: dict[str, Any] = Field({}, description="Fields of the body, such as `temperature`; `null` removes one.")
    cache_ttl_s: float | None = Field(None, ge=0, description="How long answers stay fresh; 0 keeps them out.")
    semantic: SemanticMode | None = Field(None, description="Whether questions are answered by meaning.")
    context: ContextMode | None = Field(None, description="Whether long conversations are cut.")
    context_tokens: int | None = Field(None, ge=1, description="Most tokens of their messages.")

    @model_validator(mode="after")
    def _parameters_only(self) -> Self:
        for name in _RESERVED:
            if name in self.parameters:
                raise ValueError(f"expected parameters without {name}, which is no parameter of the model")
        return self


class ArmSettings(Section):
    """One of the ways that are compared."""

    name: str = Field(pattern=_NAME, max_length=64, description="What reports call it.")
    weight: float = Field(1.0, gt=0, description="Its share of the units, relative to the other arms'.")
    set: ChangeSettings = Field(ChangeSettings(), description="What it changes; nothing, for how it is now.")


class AudienceSettings(Section):
    """Whose requests take part; all that is said must fit, `*` stands for any text."""

    models: list[str] = Field([], description="Model names as clients write them; by default all.")
    prompts: list[str] = Field([], description="Prompts asked for by name; by default all requests, with or without.")
    tenants: list[str] = Field([], description="Tenants; by default all.")
    tags: list[str] = Field([], description="Tags of which a request has one; by default any or none.")


class MetricSettings(Section):
    """What is measured: of each unit, the mean of its calls."""

    metric: str = Field(
        min_length=1, max_length=64 + len(SCORE), description=f"`{'`, `'.join(LEDGER)}`, or `{SCORE}NAME`."
    )
    direction: Literal["lower", "higher"] | None = Field(
        None, description="Which way is better; by default lower, for scores and `cache_hit` higher."
    )
    bounds: tuple[float, float] | None = Field(
        None,
        description="The least and the most value; what is outside counts as the nearest. By default 0 and 1 for "
        "shares, none for the rest.",
    )

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        if self.metric not in LEDGER and not re.fullmatch(re.escape(SCORE) + SCORE_NAME, self.metric):
            raise ValueError(f"expected one of {', '.join(LEDGER)}, or {SCORE}NAME for a score")
        if self.bounds is not None and self.bounds[0] >= self.bounds[1]:
            raise ValueError(f"expected the lower of the bounds first, not {list(self.bounds)}")
        return self


class GuardSettings(MetricSettings):
    """What may not become worse."""

    worse_by: float = Field(0.0, ge=0, description="How much worse an arm's mean may be, in the metric's own unit.")


class StopSettings(Section):
    """When it ends by itself."""

    units: int = Field(10_000, ge=100, le=1_000_000, description="After so many units there is no winner.")
    days: float = Field(28.0, gt=0, le=365, description="Nor after so many days; calls must be kept for as long.")
    alpha: float = Field(
        0.05,
        gt=0,
        le=0.2,
        description="Probability of finding a difference where there is none; as much again for all guards.",
    )
    harm: bool = Field(True, description="Stop when an arm is worse than the first, or breaks a guard.")
    then: Literal["control", "winner"] = Field(
        "control", description="At the end with a winner: `winner` gives it to everybody, `control` changes nothing."
    )


class BanditSettings(Section):
    """Traffic goes to arms that do better while it is not certain yet; the configured weights are for the beginning."""

    policy: Literal["thompson", "ucb"] = Field(
        "thompson", description="`thompson` follows the probability of being best, `ucb` the arm that may be best."
    )
    floor: float = Field(0.1, ge=0.01, le=0.5, description="The least share of an arm.")
    every_s: Seconds = Field(3600.0, description="Time between changes of the shares.")


class ExperimentSettings(Section):
    """Ways of answering that are compared, on traffic as it comes."""

    name: str = Field(pattern=_NAME, max_length=64, description="What reports call it.")
    who: AudienceSettings = Field(AudienceSettings(), description="Whose requests take part.")
    share: float = Field(1.0, gt=0, le=1, description="Share of their units that takes part.")
    layer: str = Field("", max_length=64, description="Experiments of the same layer share no unit.")
    arms: list[ArmSettings] = Field(
        min_length=2, max_length=16, description="The first is what others are compared with."
    )
    primary: MetricSettings = Field(description="What decides.")
    metrics: list[MetricSettings] = Field([], description="What is reported beside.")
    guards: list[GuardSettings] = Field([], description="What may not become worse.")
    window_s: Seconds = Field(
        3600.0, description="From a unit's first call, how long its calls and their scores are counted."
    )
    stop: StopSettings = Field(StopSettings(), description="When it ends.")
    bandit: Annotated[BanditSettings | None, BeforeValidator(terms)] = Field(
        None,
        description="Let shares follow success; `true` for the defaults, by default they are fixed.",
        json_schema_extra=or_boolean,
    )

    @model_validator(mode="after")
    def _can_be_run(self) -> Self:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError("expected each arm's name once")
        if all(arm.set == ChangeSettings() for arm in self.arms):
            raise ValueError("expected an arm that sets something")
        for arm in self.arms:
            prompt = arm.set.prompt
            if prompt is not None and prompt.id is None and not self.who.prompts:
                raise ValueError(
                    f"expected set.prompt.id in the arm {arm.name}, or who.prompts: which prompt is meant?"
                )
        if self.bandit is not None and self.bandit.floor * len(names) > 1:
            raise ValueError(f"expected bandit.floor at most 1/{len(names)}, for {len(names)} arms")
        return self


def fit_together(settings: Sequence[ExperimentSettings]) -> None:
    """Refuse experiments that cannot run beside each other.

    Raises:
        ValueError: Two have the same name, or set the same field for the same requests, or a layer is overfull.
    """
    names = [each.name for each in settings]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"expected each experiment's name once; {twice} is there twice")
    for layer in {each.layer for each in settings if each.layer}:
        taken = sum(each.share for each in settings if each.layer == layer)
        if taken > 1 + 1e-9:
            raise ValueError(f"expected shares of the layer {layer} of at most 1 together, not {taken:g}")
    found = overlapping(compared(settings))
    if found is not None:
        raise ValueError(f"expected {found[0]} and {found[1]} in the same layer, since both set {found[2]}")


def compared(settings: Sequence[ExperimentSettings]) -> tuple[Experiment, ...]:
    """Return the experiments that the settings ask for."""
    return tuple(_experiment(each) for each in settings)


def _experiment(each: ExperimentSettings) -> Experiment:
    stop, bandit, who = each.stop, each.bandit, each.who
    return Experiment(
        name=each.name,
        arms=tuple(Arm(arm.name, arm.weight, _change(arm.set)) for arm in each.arms),
        primary=_metric(each.primary),
        audience=Audience(tuple(who.models), tuple(who.prompts), tuple(who.tenants), tuple(who.tags)),
        share=each.share,
        layer=each.layer,
        metrics=tuple(_metric(metric) for metric in each.metrics),
        guards=tuple(Guard(_metric(guard), guard.worse_by) for guard in each.guards),
        window_s=each.window_s,
        most_units=stop.units,
        most_days=stop.days,
        alpha=stop.alpha,
        harm=stop.harm,
        then=stop.then,
        bandit=None if bandit is None else Bandit(bandit.policy, bandit.floor, bandit.every_s),
    )


def _change(what: ChangeSettings) -> Change:
    prompt = what.prompt
    version = None if prompt is None or prompt.version is None else str(prompt.version)
    return Change(
        what.model, None if prompt is None else prompt.id, version, what.parameters, what.cache_ttl_s, what.semantic,
        what.context, what.context_tokens,
    )  # fmt: skip


def _metric(settings: MetricSettings) -> Metric:
    bounds = settings.bounds or ((0.0, 1.0) if settings.metric in SHARES else None)
    return Metric(settings.metric, settings.direction or LEDGER.get(settings.metric, "higher"), bounds)
