"""Key points of a conversation, found by rule: decisions, preferences, facts its user stated, questions left open.

A summary in a model's words, or in few sentences, loses exactly these; they are kept as they were said.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from penstock.context.summary import Measure, Sentence

Kind = Literal["decision", "preference", "fact", "open question"]

_DECISION = re.compile(
    r"\blet'?s (?:go with|use|take|do|stick|keep|pick|choose|settle)\b|"
    r"\b(?:we|i)(?:'ve| have)? (?:decided|agreed|chosen|chose|settled|picked|opted)\b|"
    r"\b(?:we|i)(?:'ll| will|'re going to| are going to|'m going to| am going to) (?:go with|use|take|stick|pick)\b|"
    r"\b(?:agreed|decided) (?:to|on|that|against)\b|\b(?:decision (?:is|was)|it(?:'s| is) settled|the plan is)\b",
    re.IGNORECASE,
)
_PREFERENCE = re.compile(
    r"\bi(?:'d| would) (?:rather|prefer|like|love|hate)\b|"
    r"\bi (?:really )?(?:prefer|like|love|hate|dislike|want|need)\b|"
    r"\bi (?:do not|don'?t|never|always|can'?t|cannot) "
    r"(?:like|want|eat|drink|use|need|take|work|fly|drive|stand|have)\b|"
    r"\bi(?:'m| am) (?:allergic|vegan|vegetarian|intolerant|not (?:a fan|comfortable))\b|"
    r"^(?:please,? )?(?:always|never|avoid|make sure|remember|keep)\b|"
    r"\bplease (?:do not|don'?t|only|use|write|answer)\b|"
    r"\bmy (?:favou?rite|preference|budget|goal|limit)\b",
    re.IGNORECASE,
)
_FACT = re.compile(
    r"\d|\b(?:my|our) (?:name|wife|husband|partner|son|daughter|boss|team|company|address|birthday|email|phone|job)\b|"
    r"\bi(?:'m| am) (?:an? |from |in |based )|\b(?:i|we) (?:live|work|moved|study|own|have)\b",
    re.IGNORECASE,
)
_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][a-z]+\b(?!:| \w+:)")
_LATER = re.compile(
    r"\b(?:todo|to be (?:decided|confirmed|done)|open question|still (?:need|have|open)|remind me|"
    r"not yet (?:clear|known|decided)|follow up|come back to)\b",
    re.IGNORECASE,
)
_WORTH: dict[Kind, float] = {"decision": 4.0, "preference": 3.0, "open question": 2.0, "fact": 1.0}
_LONGEST = 240
_LEAST_WORDS, _LEAST_OF_NAMED = 2, 5


class Insight(NamedTuple):
    """A key point.

    Attributes:
        kind: What it is.
        place: Which sentence of the conversation.
        text: As it was said.
    """

    kind: Kind
    place: int
    text: str


def insights(said: Sequence[Sentence]) -> list[Insight]:
    """Return the key points among the sentences of a conversation, in order.

    Facts and preferences are those of people: what an assistant or a tool says is kept only where it is a decision. A
    question is open when nobody said anything after it.
    """
    found = []
    for place, sentence in enumerate(said):
        if len(sentence.text) > _LONGEST or len(sentence.terms) < _LEAST_WORDS:
            continue
        kind = _kind(sentence, last=place == len(said) - 1)
        if kind is not None:
            found.append(Insight(kind, place, sentence.text))
    return found


def key_points(said: Sequence[Sentence], tokens: int, measure: Measure) -> str:
    """Return the key points as a list, `tokens` at most; of the less important kinds what there is room for."""
    chosen, left, seen = [], tokens, set[str]()
    for insight in sorted(insights(said), key=lambda each: (-_worth(each), -each.place)):
        cost = measure(f"- {insight.kind}: {insight.text}\n")
        plain = insight.text.casefold()
        if cost <= left and plain not in seen:
            seen.add(plain)
            chosen.append(insight)
            left -= cost
    return "\n".join(f"- {each.kind}: {each.text}" for each in sorted(chosen, key=lambda each: each.place))


def _worth(insight: Insight) -> float:
    """Short points are worth more than long ones of their kind."""
    return _WORTH[insight.kind] - len(insight.text) / _LONGEST


def _kind(sentence: Sentence, *, last: bool) -> Kind | None:
    text, person = sentence.text, sentence.person
    if text.endswith("?"):
        return "open question" if last and person else None
    if _DECISION.search(text):
        return "decision"
    if _LATER.search(text):
        return "open question"
    if not person:
        return None
    if _PREFERENCE.search(text):
        return "preference"
    named = len(sentence.terms) >= _LEAST_OF_NAMED and _NAME.search(text)
    return "fact" if named or _FACT.search(text) else None
