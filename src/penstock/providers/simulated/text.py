"""What the simulated model says: readable plain sentences that follow from the prompt alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

CHARS_PER_TOKEN = 4
SHORTEST_TOKENS, LONGEST_TOKENS = 24, 104
"""Of what follows the first sentence."""
_ECHO_WORDS, _ECHO_CHARS = 8, 60
_READ_CHARS = 400
"""How much of a prompt is looked at for its words."""

_MIXED = re.compile(r"[\x00-\x7f]{1,4}|[^\x00-\x7f]")
_WORD = re.compile(r"[^\W\d_]{4,20}")
_COMMON = frozenset((
    "about", "after", "also", "because", "been", "before", "between", "both", "could", "does", "each", "explain",
    "from", "give", "have", "here", "into", "just", "like", "list", "make", "many", "more", "most", "much", "must",
    "once", "only", "other", "over", "please", "provide", "same", "should", "since", "some", "such", "tell", "than",
    "that", "their", "them", "then", "there", "these", "they", "this", "those", "through", "under", "using", "very",
    "want", "well", "were", "what", "when", "where", "which", "while", "whose", "will", "with", "without", "would",
    "write", "your",
))  # fmt: skip

_OPENERS = (
    'A simulated answer to "{}".',
    'You asked: "{}". This answer is simulated.',
    'About "{}", says a simulated model:',
    'This is what a simulated model says to "{}".',
)
_WITH_WORD = 12
"""How many sentences, the first ones, have a place for a word."""
_SENTENCES = (
    "The first thing to look at is {}, because the rest follows from it.",
    "Most people who work with {} begin with a small example.",
    "It helps to write down what is known about {} and what is only a guess.",
    "A good next step is to compare {} with something familiar.",
    "There are three parts to it, and {} is the part that takes longest.",
    "In practice {} matters more than it seems on paper.",
    "When {} changes, check the earlier results again.",
    "Keep {} simple until there is a reason not to.",
    "Two views of {} are common, and both have good arguments.",
    "The usual mistake is to decide on {} too early.",
    "With {} settled, the remaining choices become easier.",
    "A short list of questions about {} is better than a long one.",
    "Take one step at a time and measure after each.",
    "Small changes are easier to understand than large ones.",
    "Ask someone who has done it before and note what surprised them.",
    "The numbers are worth a second look before they are used.",
    "Leave some room for what cannot be known in advance.",
    "If the answer is needed soon, a rough one is often enough.",
    "Good notes save time later, also for those who come after.",
    "What works in one place may need care in another.",
    "The order of the steps matters less than doing all of them.",
    "Begin with the part that is most likely to fail.",
    "Old habits are strong, so plan for a slow start.",
    "A plain description is usually the best test of an idea.",
    "Costs and benefits should be counted in the same unit.",
    "Once it works, make it clear, and only then make it fast.",
    "Some details can wait, but dates and names should be right.",
    "It is fair to stop when the result is good enough.",
    "Both sides gain when the rules are known beforehand.",
    "Look for the simplest case in which it goes wrong.",
    "The same question asked again gets the same answer here.",
    "In short, be clear about the goal and patient on the way.",
)


def tokens(text: str) -> list[str]:
    """Cut `text` into the simulated model's tokens: four ASCII characters, or one other character, each."""
    if text.isascii():
        return [text[start : start + CHARS_PER_TOKEN] for start in range(0, len(text), CHARS_PER_TOKEN)]
    return _MIXED.findall(text)


def question_of(payload: Mapping[str, Any]) -> str:
    """The text of the last user message, of the last message if there is none, or of `prompt`."""
    messages = payload.get("messages")
    if not isinstance(messages, list):
        prompt = payload.get("prompt")
        return prompt if isinstance(prompt, str) else ""
    known = [message for message in messages if isinstance(message, dict)]
    asked = [message for message in known if message.get("role") == "user"] or known
    content = asked[-1].get("content") if asked else None
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [part.get("text") for part in content if isinstance(part, dict)]
    return " ".join(text for text in parts if isinstance(text, str))


def keywords(question: str) -> Sequence[str]:
    """Up to eight telling words of `question`, in its order; never empty."""
    found = dict.fromkeys(word for word in _WORD.findall(question[:_READ_CHARS]) if word.lower() not in _COMMON)
    return list(found)[:8] or ["this question"]


def compose(question: str, seed: bytes, limit: int | None) -> str:
    """Write an answer that repeats the question's first words and is about its key words.

    It ends with a sentence, so it stays within `limit` tokens wherever at least its first sentence does; a caller cuts
    what is longer.
    """
    draw = sha256(seed).digest()
    words = keywords(question)
    parts = [_OPENERS[draw[1] % len(_OPENERS)].format(_echo(question))]
    used = _cost(parts[0])
    room = used + CHARS_PER_TOKEN * (SHORTEST_TOKENS + draw[0] % (LONGEST_TOKENS - SHORTEST_TOKENS + 1))
    if limit is not None:
        room = min(room, limit * CHARS_PER_TOKEN)
    # An odd step through a table of 32 visits every sentence before the first comes again. The first is about a word.
    place, step = draw[2] % _WITH_WORD, draw[3] | 1
    for turn in range(len(_SENTENCES)):
        sentence = _SENTENCES[(place + turn * step) % len(_SENTENCES)].format(words[(draw[4] + turn) % len(words)])
        used += _cost(sentence) + 1
        if used > room:
            break
        parts.append(sentence)
    return " ".join(parts)


def _echo(question: str) -> str:
    text = " ".join(question[:_READ_CHARS].split(None, _ECHO_WORDS)[:_ECHO_WORDS])[:_ECHO_CHARS]
    return text.replace('"', "'").rstrip(" .,:;!?…") or "nothing"


def _cost(text: str) -> int:
    """Characters of tokens at most: a character outside ASCII is a token of its own."""
    return len(text) if text.isascii() else CHARS_PER_TOKEN * len(text)
