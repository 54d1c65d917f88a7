"""Settings of cascades: models behind one name, the cheapest first."""

from __future__ import annotations

import re
from collections.abc import Collection
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from penstock.config.fallbacks import addressed
from penstock.config.problems import Problems, suggestion
from penstock.config.provenance import Node, Path
from penstock.config.section import Section, Template, Usd
from penstock.config.semantic import JudgeSettings
from penstock.core.cascade import Cascade, Filter, FilterRule, Stage

ComparisonKind = Literal["exact", "rule", "answers", "judge"]
_MOST_STAGES = 8


class FilterRuleSettings(Section):
    """Something a question may have in it."""

    words: list[str] = Field([], description="Words or phrases, in any case; one of them is enough.")
    pattern: str | None = Field(None, min_length=1, description="A regular expression that fits anywhere.")
    score: float = Field(1.0, description="What it counts for; negative counts against.")

    @field_validator("words")
    @classmethod
    def _not_empty(cls, value: list[str]) -> list[str]:
        if any(not word.strip() for word in value):
            raise ValueError("expected words that are not empty")
        return value

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"expected a regular expression: {error}") from None
        return value

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if bool(self.words) == (self.pattern is not None):
            raise ValueError("expected either words or a pattern")
        return self


class FilterSettings(Section):
    """A decision about the question without a model: it applies when the scores of the rules that fit add up."""

    name: str = Field("filter", min_length=1, max_length=64, description="What the stage is called in records.")
    rules: list[FilterRuleSettings] = Field(min_length=1, description="What is looked for in the last user message.")
    at_least: float | None = Field(None, description="It applies from this sum of scores on; 1 if nothing is said.")
    below: float | None = Field(None, description="It applies under this sum of scores.")
    answer: Template | None = Field(
        None, min_length=1, description="What is answered then; `{question}`, `{model}`, `{operation}` and "
        "`{request_id}` are replaced."
    )  # fmt: skip
    skip_to: str | None = Field(None, min_length=1, description="Or with which later stage to go on.")

    @model_validator(mode="after")
    def _decides(self) -> Self:
        if (self.answer is None) == (self.skip_to is None):
            raise ValueError("expected either answer or skip_to")
        if self.at_least is not None and self.below is not None:
            raise ValueError("expected either at_least or below")
        return self


class StageSettings(Section):
    """One stage: a model, or a filter. A name alone is a model."""

    model: str | None = Field(None, min_length=1, description="A configured model, or provider/model.")
    filter: FilterSettings | None = Field(None, description="A decision without a model.")

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.model is None) == (self.filter is None):
            raise ValueError("expected either model or filter")
        return self

    @property
    def name(self) -> str:
        """What it is called."""
        return self.filter.name if self.filter is not None else self.model or ""


def _named(value: object) -> object:
    return {"model": value} if isinstance(value, str) else value


def _or_string(schema: dict[str, Any]) -> None:
    schema["items"] = {"anyOf": [schema["items"], {"type": "string"}]}


class CascadeSettings(Section):
    """Cheaper models first: one of their answers is given when it is likely enough as good as the last model's."""

    stages: list[Annotated[StageSettings, BeforeValidator(_named)]] = Field(
        min_length=1,
        max_length=_MOST_STAGES,
        description="Filters and models, the cheapest first; the last is the model the others are measured by.",
        json_schema_extra=_or_string,
    )
    max_error: float = Field(
        0.02, gt=0, lt=0.5, description="Requests whose answer is worse than the last model's ÷ all requests."
    )
    confidence: float = Field(0.95, ge=0.5, lt=1, description="With which probability that is kept.")
    audits: float = Field(
        0.05, ge=0, le=1, description="Share of the requests that are put to all models in the background, to learn "
        "from; they are paid for like others. Without any nothing is learnt but from `penstock cascade train`."
    )  # fmt: skip
    loss_usd: Usd = Field(
        Decimal(0),
        description="What a worse answer costs you, in dollars, to be weighed against what the last model costs; 0 "
        "saves all that `max_error` allows.",
    )
    labels: list[ComparisonKind] = Field(
        ["exact", "rule", "answers"],
        min_length=1,
        description="What says whether an answer is as good as the last model's: the first of these that can. `judge` "
        "asks a model. What none of them can say counts as worse.",
    )
    judge: JudgeSettings | None = Field(None, description="For `judge` in `labels`: the model that is asked.")

    @model_validator(mode="after")
    def _judges_with_a_model(self) -> Self:
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("expected each label once")
        if ("judge" in self.labels) != (self.judge is not None):
            raise ValueError("expected both judge in labels and judge.model, or neither")
        return self

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Self:
        names = [stage.name for stage in self.stages]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"expected each stage once; {twice!r} is there twice")
        if len(self.stages) < 2:
            raise ValueError("expected two stages or more; one model alone is a model with targets")
        if self.stages[-1].model is None:
            raise ValueError("expected a model as the last stage, for what no filter decides")
        for place, stage in enumerate(self.stages):
            skip_to = stage.filter.skip_to if stage.filter is not None else None
            if skip_to is not None and skip_to not in names[place + 1 :]:
                raise ValueError(f"expected skip_to to name a later stage ({', '.join(names[place + 1 :])})")
        return self


def cascade_terms(settings: CascadeSettings) -> Cascade:
    """Turn the settings of a cascade into its terms; the routes of its stages are left open."""
    return Cascade(
        tuple(Stage(each.name, None if each.filter is None else _filter(each.filter)) for each in settings.stages),
        settings.max_error,
        settings.confidence,
        settings.audits,
        settings.loss_usd,
    )


def _filter(settings: FilterSettings) -> Filter:
    rules = tuple(FilterRule(tuple(each.words), each.pattern or "", each.score) for each in settings.rules)
    at_least = 1.0 if settings.at_least is None and settings.below is None else settings.at_least
    return Filter(rules, at_least, settings.below, settings.answer or "", settings.skip_to or "")


def check_cascades(tree: Node, providers: Collection[str], problems: Problems) -> None:
    """Refuse stages and judges that name no model, or a cascade."""
    names = [name for _, model in tree.entries("models") if (name := model.text("name")) is not None]
    known = [name for name in names if "*" not in name]
    cascades = {model.text("name") for _, model in tree.entries("models") if _cascade(model) is not None}
    for index, model in tree.entries("models"):
        if "*" in (model.text("name") or "") and (cascade := _cascade(model)) is not None:
            message = "a cascade needs a name of its own"
            problems.add(message, cascade.origin, ("models", index, "cascade"), "a name without *")
        for name, node, path in (*stage_models(model), *_judge(model)):
            where = ("models", index, *path)
            if name in cascades:
                message = f"{name!r} is a cascade itself"
                problems.add(message, node.origin, where, "a model with targets")
            elif name not in known and not addressed(name, providers):
                message = f"there is no model named {name!r}{suggestion(name, known)}"
                problems.add(message, node.origin, where, "the name of a configured model, or provider/model")


def stage_models(model: Node) -> list[tuple[str, Node, Path]]:
    """Return the names of models in the stages of a model's cascade, where there are any, with their places."""
    cascade = _cascade(model)
    stages = cascade.value.get("stages") if cascade is not None and isinstance(cascade.value, dict) else None
    found: list[tuple[str, Node, Path]] = []
    for place, stage in enumerate(stages.value if stages is not None and isinstance(stages.value, list) else ()):
        path: Path = ("cascade", "stages", place)
        if isinstance(stage.value, dict) and "model" in stage.value:
            stage, path = stage.value["model"], (*path, "model")
        if isinstance(stage.value, str):
            found.append((stage.value, stage, path))
    return found


def _judge(model: Node) -> list[tuple[str, Node, Path]]:
    cascade = _cascade(model)
    judge = cascade.value.get("judge") if cascade is not None and isinstance(cascade.value, dict) else None
    name = judge.value.get("model") if judge is not None and isinstance(judge.value, dict) else None
    return [(name.value, name, ("cascade", "judge", "model"))] if name and isinstance(name.value, str) else []


def _cascade(model: Node) -> Node | None:
    node = model.value.get("cascade") if isinstance(model.value, dict) else None
    return None if node is None or node.value is None else node
