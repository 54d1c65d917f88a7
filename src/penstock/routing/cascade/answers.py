"""What can be seen of a cheap answer that tells right ones from wrong ones."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from math import exp, log1p

import msgspec

from penstock.routing.cascade.arithmetic import Equation, equations, numbers
from penstock.routing.cascade.forms import Form
from penstock.routing.cascade.prompts import shortened

FEATURES = (
    "length", "relative_length", "length_per_step", "hedges", "corrections", "approximate", "given_that", "totals",
    "refusal", "question", "repetition", "brackets", "new_words", "question_words",
    "marked", "many_finals", "final_digits", "final_relative", "final_fraction", "final_given", "after_final",
    "final_computed", "final_not_last",
    "equations", "wrong", "any_wrong", "last_wrong", "fractions", "negatives", "sums", "differences", "products",
    "quotients", "most_operands", "unused", "unused_words", "unknown", "usual", "overused", "dangling", "repeated",
    "steps_per_number", "no_product", "no_quotient", "no_difference", "no_sum", "no_money",
    "logprob_mean", "logprob_least", "logprob_known", "agreement", "agreement_known",
)  # fmt: skip
"""Names of what `features` returns, in order."""

_HEDGES = re.compile(
    r"\b(?:not sure|unsure|uncertain|unclear|might|maybe|perhaps|possibly|probably|assum\w+|seems?|i think|i believe"
    r"|likely|cannot determine|not enough information|difficult to)\b"
)
_CORRECTIONS = re.compile(
    r"\b(?:however|wait|actually|correction|mistake|incorrect|let me|re-?check|on second thought|instead|apologi[sz]e"
    r"|sorry)\b"
)
_APPROXIMATE = re.compile(r"\b(?:approximately|roughly|about|round\w*|nearest)\b")
_GIVEN_THAT = re.compile(r"\b(?:since|because|assuming|given that)\b")
_TOTALS = re.compile(r"\b(?:in total|altogether)\b")
_REFUSAL = re.compile(
    r"\W*(?:i(?:'|’)?m sorry|sorry|i apologi[sz]e|i (?:can(?:not|'t|’t)|am unable|won(?:'|’)t)|as an ai|unfortunately)"
)
_MARK = re.compile(r"####|\\boxed\{|\banswer(?: is|:)", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]{3,}")
_USUAL = frozenset({0.0, 0.5, 1.0, 2.0, 7.0, 10.0, 12.0, 24.0, 30.0, 52.0, 60.0, 100.0, 365.0})
"""Numbers that an answer may bring in by itself."""

_NUMBER_WORDS = {
    "two": 2.0, "three": 3.0, "four": 4.0, "five": 5.0, "six": 6.0, "seven": 7.0, "eight": 8.0, "nine": 9.0,
    "ten": 10.0, "eleven": 11.0, "twelve": 12.0, "fifteen": 15.0, "twenty": 20.0, "thirty": 30.0, "forty": 40.0,
    "fifty": 50.0, "hundred": 100.0, "dozen": 12.0, "twice": 2.0, "double": 2.0, "thrice": 3.0, "triple": 3.0,
    "half": 2.0, "third": 3.0, "quarter": 4.0,
}  # fmt: skip
_CUES = (
    (re.compile(r"\b(?:twice|double|times|triple)\b"), "*"),
    (re.compile(r"\b(?:half|third|quarter)\b"), "*/"),
    (re.compile(r"\b(?:fewer|less|younger|shorter|cheaper|discount|left|remain\w*|lost|ate|gave|spent)\b"), "-"),
    (re.compile(r"\b(?:more|total|altogether|both)\b"), "+"),
)
_MONEY = re.compile(r"[$€£]|\bdollars?\b")


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
    text, asked = shortened(answer.text), shortened(prompt)
    found = equations(text)
    return (
        *_wording(asked.casefold(), text.casefold(), len(found)),
        *_final(text, numbers(asked), found),
        *_arithmetic(asked.casefold(), text, found),
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


def _wording(asked: str, text: str, steps: int) -> tuple[float, ...]:
    words = text.split()
    fours = Counter(zip(words, words[1:], words[2:], words[3:], strict=False))
    said, given = set(_WORD.findall(text)), set(_WORD.findall(asked))
    question = set(_WORD.findall(re.split(r"[.!]\s", asked.strip())[-1]))
    return (
        log1p(len(text)),
        log1p(len(text)) - log1p(len(asked)),
        log1p(len(text)) - log1p(steps),
        min(3.0, float(len(_HEDGES.findall(text)))),
        min(3.0, float(len(_CORRECTIONS.findall(text)))),
        float(_APPROXIMATE.search(text) is not None),
        min(3.0, float(len(_GIVEN_THAT.findall(text)))),
        float(_TOTALS.search(text) is not None),
        float(_REFUSAL.match(text) is not None),
        float(text.rstrip().endswith("?")),
        sum(count - 1 for count in fours.values()) / (len(words) + 1.0),
        min(5.0, float(text.count("("))),
        len(said - given) / (len(said) or 1),
        len(question & said) / (len(question) or 1),
    )


def _final(text: str, given: Sequence[float], found: Sequence[Equation]) -> tuple[float, ...]:
    marks = list(_MARK.finditer(text))
    after = text[marks[-1].end() :].split() if marks else []
    final = final_number(text)
    start = (float(bool(marks)), min(3.0, max(0.0, len(marks) - 1.0)))
    if final is None:
        return (*start, 0.0, 0.0, 0.0, 0.0, float(len(after) > 3), 0.0, 0.0)
    return (
        *start,
        log1p(abs(final)),
        log1p(abs(final)) - log1p(max(given, default=0.0)),
        float(_is_fraction(final)),
        float(final in given),
        float(len(after) > 3),
        float(final in [each.value for each in found[-3:]]),
        float(bool(found) and found[-1].value != final),
    )


def _arithmetic(asked: str, text: str, found: Sequence[Equation]) -> tuple[float, ...]:
    given = Counter(numbers(asked))
    spelled = {_NUMBER_WORDS[word] for word in _WORD.findall(asked) if word in _NUMBER_WORDS}
    said = set(numbers(text))
    signs = "".join(each.signs for each in found)
    wrong = [not each.right for each in found]
    return (
        log1p(len(found)),
        min(3.0, float(sum(wrong))),
        float(any(wrong)),
        float(wrong[-1:] == [True]),
        min(3.0, float(sum(_is_fraction(each.value) for each in found))),
        min(3.0, float(sum(each.value < 0 for each in found))),
        *(min(5.0, float(signs.count(sign))) for sign in "+-*/"),
        float(max((min(8, len(each.operands)) for each in found), default=0)),
        min(3.0, float(sum(number not in said and number / 100.0 not in said for number in given))),
        min(3.0, float(sum(number not in said and 1.0 / number not in said for number in spelled))),
        *_flow(given, spelled, found),
        float(len(found) - len(set(found))),
        max(-6.0, min(6.0, float(len(found) - len(given) - len(spelled)))),
        *(float(cue.search(asked) is not None and not set(wanted) & set(signs)) for cue, wanted in _CUES),
        float("how much" in asked and bool(_MONEY.search(asked)) and not _MONEY.search(text.rstrip()[-200:])),
    )


def _flow(given: Counter[float], spelled: set[float], found: Sequence[Equation]) -> tuple[float, ...]:
    """Count numbers from nowhere, usual ones, ones used more often than given, and results that nothing is made of."""
    shares = {share for number in given for share in (number / 100.0, 1.0 - number / 100.0, 1.0 + number / 100.0)}
    uses: Counter[float] = Counter()
    results: Counter[float] = Counter()
    unknown = usual = 0
    for each in found:
        for operand in each.operands:
            if operand in given or operand in results:
                uses[operand] += 1
            elif operand not in spelled and operand not in shares:
                usual += operand in _USUAL
                unknown += operand not in _USUAL
        results[each.value] += 1
    over = sum(max(0, count - given[number] - results[number]) for number, count in uses.items())
    dangling = sum(not uses[each.value] for each in found[:-1])
    return (min(4.0, float(unknown)), min(4.0, float(usual)), min(4.0, float(over)), min(4.0, float(dangling)))


def _is_fraction(number: float) -> bool:
    return abs(number) < 1e15 and abs(number - round(number)) > 1e-9


def _confidence(answer: Answer) -> tuple[float, ...]:
    logprobs = answer.logprobs
    sure = (exp(sum(logprobs) / len(logprobs)), exp(max(-30.0, min(logprobs))), 1.0) if logprobs else (0.0, 0.0, 0.0)
    if not answer.others:
        return (*sure, 0.0, 0.0)
    said = _said(answer.text)
    return (*sure, sum(_said(other) == said for other in answer.others) / len(answer.others), 1.0)


def _said(text: str) -> object:
    final = final_number(shortened(text))
    return " ".join(text.casefold().split()) if final is None else final
