"""Settings of matching by meaning."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from penstock.config.section import Section, Usd
from penstock.core.route import SemanticMode

LabelKind = Literal["exact", "rule", "answers", "judge"]

_ONLY_FOR_ONNX = ("path", "threads", "max_tokens")


class EmbedderSettings(Section):
    """What turns a question into a vector."""

    kind: Literal["lexical", "onnx", "provider"] = Field(
        "lexical",
        description="`lexical` compares spelling and needs nothing; `onnx` runs a model here, with the extra "
        "`semantic` installed; `provider` asks an embeddings model.",
    )
    path: str | None = Field(
        None, min_length=1, description="For `onnx`: a directory with `model.onnx` and `tokenizer.json`."
    )
    model: str | None = Field(
        None,
        min_length=1,
        description="For `onnx` without `path`: a model to download from the Hugging Face hub, once, e.g. "
        "`Xenova/all-MiniLM-L6-v2`. For `provider`: the embeddings model, as clients would call it.",
    )
    threads: int = Field(1, ge=1, description="For `onnx`: processors it may keep busy.")
    max_tokens: int = Field(256, ge=1, description="For `onnx`: what a question has beyond this is not read.")

    @model_validator(mode="after")
    def _says_which(self) -> Self:
        if self.kind == "onnx" and (self.path is None) == (self.model is None):
            raise ValueError("expected either path or model for an embedder of kind onnx")
        if self.kind == "provider" and self.model is None:
            raise ValueError("expected model for an embedder of kind provider")
        if self.kind == "lexical" and self.model is not None:
            raise ValueError("expected no model for an embedder of kind lexical; it needs none")
        for name in _ONLY_FOR_ONNX:
            if self.kind != "onnx" and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"expected {name} with an embedder of kind onnx only, not {self.kind}")
        return self


class JudgeSettings(Section):
    """A model that says whether an answer to one question also answers another."""

    model: str = Field(min_length=1, description="The model that is asked, as clients would call it.")
    per_minute: int = Field(30, ge=1, description="Questions beyond this in any minute are left unjudged.")
    usd_per_day: Usd | None = Field(
        None, description="When it has cost this much since midnight UTC, it is not asked until the next; by default "
        "no limit."
    )  # fmt: skip


class SemanticCacheSettings(Section):
    """Answers to questions that were asked before in other words."""

    mode: SemanticMode = Field(
        "off",
        description="`shadow` decides, and has its decisions checked, but serves nothing; `on` also serves.",
    )
    max_error: float = Field(0.01, gt=0, lt=0.5, description="Wrong answers ÷ answers served by meaning.")
    audit: float = Field(
        0.05, gt=0, le=1, description="Share of the answers served by meaning that are checked against a fresh one."
    )
    embedder: EmbedderSettings = Field(EmbedderSettings(), description="What turns a question into a vector.")
    labels: list[LabelKind] = Field(
        ["exact", "rule", "answers"],
        min_length=1,
        description="What says whether two answers are the same: the first of these that can. `judge` asks a model.",
    )
    judge: JudgeSettings | None = Field(None, description="For `judge` in `labels`: the model that is asked.")
    max_questions: int = Field(100_000, ge=1, description="The least valuable questions beyond this are dropped.")
    max_question_chars: int = Field(2000, ge=1, description="Longer questions are not matched.")
    first_turn_only: bool = Field(
        False,
        description="Match only questions with no conversation before them. Otherwise the conversation must be the "
        "same word for word.",
    )

    @model_validator(mode="after")
    def _judges_with_a_model(self) -> Self:
        twice = next((name for name in self.labels if self.labels.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"expected each label once; {twice} is there twice")
        if ("judge" in self.labels) != (self.judge is not None):
            raise ValueError("expected both judge in labels and judge.model, or neither")
        return self
