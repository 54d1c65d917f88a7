"""How questions are put: one in several spellings, others near to it; and what judges and embedders say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from penstock.embedders.lexical import LexicalEmbedder
from penstock.pricing.estimate import estimate_message

SPELLINGS = ("{}", "{}?", " {} .", "{} !", "please {}")
"""Put so, a question is the same one."""
NEAR = ("not {}", "only {}", "{} in 2024")
"""Put so, it is another one."""
_TOPICS = ("harbours", "gardens", "railways", "libraries")
EARLIER = tuple(
    {"role": role, "content": f"About {topic} {said}. " * 4}
    for topic in _TOPICS
    for role, said in (("user", "I want to know what is new"), ("assistant", "little has changed since the spring"))
)
"""A conversation before a question; some 200 tokens."""
DIMENSIONS = 64

_POLITE = "please"
_COMPARED = re.compile(r"BEGIN (?:EARLIER|LATER) QUESTION \w+\n(.*?)\nEND ", re.DOTALL)
_NOTE = re.compile(r".*\[End of the (?:summary|excerpts)\]\n\n", re.DOTALL)
_words = re.compile(r"\w+").findall
_encode = msgspec.json.Encoder().encode
_lexical = LexicalEmbedder()


def meant(question: str) -> str:
    """Return the same for all spellings of `question`."""
    return " ".join(word for word in _words(question.lower()) if word != _POLITE)


def question_of(payload: Mapping[str, Any]) -> str:
    """Return what is asked: the last message of a chat, without what stands before it of what was cut.

    Of a judge it is its task, which says whom it is to compare, and of who writes summaries all of it.
    """
    messages = payload.get("messages")
    if messages is None:
        return "\n".join(payload["input"])
    asked = str(messages[-1]["content"])
    if _COMPARED.match(asked):
        return str(messages[0]["content"])
    return str(payload) if messages[0]["role"] == "system" else _NOTE.sub("", asked)


def size_of(payload: Mapping[str, Any]) -> int:
    """Return the estimated tokens of a request's messages."""
    return sum(map(estimate_message, payload.get("messages") or ()))


def verdict(payload: Mapping[str, Any]) -> str:
    """Return what a judge that is never wrong says last; nothing when it is not asked for a verdict."""
    compared = _COMPARED.findall(str(payload["messages"][-1]["content"]))
    if not compared:
        return ""
    earlier, later = map(meant, compared)
    return "\nSAME" if earlier == later else "\nDIFFERENT"


def vectors(texts: Sequence[str], serial: int) -> bytes:
    """Return an answer with a vector of each text's spelling."""
    data = []
    for index, text in enumerate(texts):
        vector = [0.0] * DIMENSIONS
        for key, weight in _lexical.embed_one(text).items():
            vector[key % DIMENSIONS] += weight if key & DIMENSIONS else -weight
        data.append({"object": "embedding", "index": index, "embedding": vector})
    return _encode({"object": "list", "model": f"|{serial}|", "data": data})
