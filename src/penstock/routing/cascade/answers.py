"""What can be seen of a cheap answer that tells right ones from wrong ones."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from math import exp, log1p

import msgspec

from penstock.routing.cascade.arithmetic import Equation, equations, numbers
from penstock.routing.cascade.forms import Form

FEATURES = (
    "length", "relative_length", "sentences", "hedges", "corrections", "refusal", "question", "repetition",
    "marked", "many_finals", "has_final", "final_digits", "final_fraction", "final_negative", "final_given",
    "after_final", "no_equations", "equations", "wrong", "wrong_share", "fractions", "negatives",
    "final_computed", "unused", "unused_share", "unknown", "repeated_equations", "largest_operands",
    "logprob_mean", "logprob_least", "logprob_known", "agreement", "agreement_known",
)  # fmt: skip
"""Names of what `features` returns, in order."""

_LONGEST = 20_000
_HEDGES = re.compile(
    r"\b(?:not sure|unsure|uncertain|unclear|might|maybe|perhaps|possibly|probably|assum\w+|approximately|roughly"
    r"|seems?|i think|i believe|likely|cannot determine|not enough information|difficult to)\b",
    re.IGNORECASE,
)
_CORRECTIONS = re.compile(
    r"\b(?:however|but wait|wait|actually|correction|mistake|incorrect|let me|re-?check|on second thought|instead"
    r"|apologi[sz]e|sorry)\b",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"\A\W*(?:i(?:'|’)?m sorry|sorry|i apologi[sz]e|i (?:can(?:not|'t|’t)|am unable|won(?:'|’)t)"
    r"|as an ai|unfortunately)",
    re.IGNORECASE,
)
_FINAL = re.compile(
    r"(?:####|\\boxed\{|\b(?:final )?answer(?: is|:)|\b(?:therefore|in total|altogether)\b[^.\n]{0,200}?)",
    re.IGNORECASE,
)
_MARK = re.compile(r"####|\\boxed\{|\banswer(?: is|:)", re.IGNORECASE)
_USUAL = frozenset({0.0, 1.0, 2.0, 7.0, 10.0, 12.0, 24.0, 30.0, 60.0, 100.0, 365.0, 52.0, 0.5})
"""Numbers an answer may bring in by itself."""


class Answer(msgspec.Struct, frozen=True):
    """A cheap answer, and what is known of it.

    Attributes:
        text: What it says.
        finish_reason: Why it ended, as the provider says it.
        logprobs: Natural logarithms of the probabilities of its tokens, where the provider gives them.
        others: Further answers of the cheap model to the same prompt, where there are any.
        form: What it must look like.
    """

    text: str
    finish_reason: str | None = None
    logprobs: Sequence[float] | None = None
    others: Sequence[str] = ()
    form: Form = Form()

    def fault(self) -> str | None:
        """Return why it may not be served whatever its quality, without anything of its text; None if it may."""
        if not self.text.strip():
            return "the cheap answer is empty"
        if self.finish_reason == "length":
            return "the cheap answer is cut off"
        if self.finish_reason == "content_filter":
            return "the cheap answer was filtered"
        return self.form.fault(self.text)


def features(prompt: str, answer: Answer) -> tuple[float, ...]:
    """Return what `FEATURES` names. Of very long texts only the first and last 20,000 characters count."""
    text, asked = _shortened(answer.text), _shortened(prompt)
    given = numbers(asked)
    sums = equations(text)
    return (
        *_wording(asked, text),
        *_final(text, given),
        *_arithmetic(text, given, sums),
        *_confidence(answer),
    )


def final_number(text: str) -> float | None:
    """Return the number an answer ends with: after its mark ("####", "answer is") if there is one, else the last."""
    marks = list(_MARK.finditer(text))
    if marks:
        after = numbers(text[marks[-1].end() :][:200])
        if after:
            return after[0]
    every = numbers(text[-1000:])
    return every[-1] if every else None


def _shortened(text: str) -> str:
    return text if len(text) <= 2 * _LONGEST else text[:_LONGEST] + "\n" + text[-_LONGEST:]


def _wording(asked: str, text: str) -> tuple[float, ...]:
    words = text.casefold().split()
    fours = Counter(zip(words, words[1:], words[2:], words[3:], strict=False))
    repeated = sum(count - 1 for count in fours.values())
    return (
        log1p(len(text)),
        log1p(len(text)) - log1p(len(asked)),
        log1p(text.count("\n") + text.count(". ")),
        min(3.0, float(len(_HEDGES.findall(text)))),
        min(3.0, float(len(_CORRECTIONS.findall(text)))),
        float(bool(_REFUSAL.match(text))),
        float(text.rstrip().endswith("?")),
        repeated / (len(words) + 1.0),
    )


def _final(text: str, given: Sequence[float]) -> tuple[float, ...]:
    final = final_number(text)
    marks = list(_MARK.finditer(text))
    after = text[marks[-1].end() :].strip() if marks else ""
    if final is None:
        return (float(bool(marks)), max(0.0, len(marks) - 1.0), 0.0, 0.0, 0.0, 0.0, 0.0, float(len(after.split()) > 3))
    return (
        float(bool(marks)),
        min(3.0, max(0.0, len(marks) - 1.0)),
        1.0,
        log1p(abs(final)),
        float(final != int(final)) if abs(final) < 1e15 else 0.0,
        float(final < 0),
        float(final in given),
        float(len(after.split()) > 3),
    )


def _arithmetic(text: str, given: Sequence[float], sums: Sequence[Equation]) -> tuple[float, ...]:
    wrong = sum(not each.right for each in sums)
    operands = [operand for each in sums for operand in each.operands]
    used = {*operands, *numbers(text)}
    unused = sum(number not in used for number in set(given))
    known = {*given, *_USUAL}
    unknown = 0
    for each in sums:
        unknown += sum(operand not in known for operand in each.operands)
        known.add(each.value)
    final = final_number(text)
    return (
        float(not sums),
        log1p(len(sums)),
        min(3.0, float(wrong)),
        wrong / (len(sums) or 1),
        min(3.0, float(sum(each.value != int(each.value) for each in sums if abs(each.value) < 1e15))),
        min(3.0, float(sum(each.value < 0 for each in sums))),
        float(bool(sums) and final is not None and final in [each.value for each in sums[-3:]]),
        min(4.0, float(unused)),
        unused / (len(set(given)) or 1),
        min(4.0, float(unknown)),
        float(len(sums) - len(set(sums))),
        float(max((len(each.operands) for each in sums), default=0)),
    )


def _confidence(answer: Answer) -> tuple[float, ...]:
    logprobs = answer.logprobs
    sure = (exp(sum(logprobs) / len(logprobs)), exp(max(-30.0, min(logprobs))), 1.0) if logprobs else (0.0, 0.0, 0.0)
    if not answer.others:
        return (*sure, 0.0, 0.0)
    said = _said(answer.text)
    return (*sure, sum(_said(other) == said for other in answer.others) / len(answer.others), 1.0)


def _said(text: str) -> object:
    final = final_number(_shortened(text))
    return " ".join(text.casefold().split()) if final is None else final
