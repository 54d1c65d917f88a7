"""Known questions, and other ways to put them that are answered by meaning."""

from __future__ import annotations

import json
import time
from itertools import product

from benchmarks.gateway.asking import Client
from benchmarks.load import MOST_SPACES, Bodies
from benchmarks.processes import Server, say

_VERBS = (
    "reset", "cancel", "download", "track", "update", "delete", "renew", "find", "share", "export",
    "print", "check", "pause", "merge", "rename", "archive", "replace", "approve", "schedule", "translate",
)  # fmt: skip
_THINGS = (
    "password", "invoice", "address", "order", "refund", "warranty", "coupon", "receipt", "photo", "contract",
    "calendar", "report", "folder", "backup", "ticket", "booking", "licence", "printer", "router", "camera",
    "playlist", "recipe", "signature", "newsletter", "alarm", "budget", "survey", "diary", "garden", "engine",
    "battery", "window", "ladder", "kitchen", "bicycle", "insurance", "passport", "visa", "timetable", "menu",
    "library", "aquarium", "telescope", "violin", "carpet", "heating", "roof", "fence", "lawn", "boiler",
)  # fmt: skip
_PLACES = (
    "team", "office", "company", "school", "family", "account", "shop", "club", "project", "department",
    "band", "village", "hotel", "clinic", "bakery", "farm", "museum", "theatre", "harbour", "workshop",
    "laboratory", "studio", "church", "warehouse", "cinema",
)  # fmt: skip
_KNOWN = "How do I {verb} the {thing} of my {place}?"
_OTHERS = (
    "How can I {verb} the {thing} of my {place}?",
    "How could I {verb} the {thing} of my {place}?",
    "how do you {verb} the {thing} of my {place}",
    "What is the way to {verb} the {thing} of my {place}?",
    "How should I {verb} the {thing} of my {place}?",
    "Hi, how do I {verb} the {thing} of my {place}?",
    "How do I {verb} the {thing} of my {place} please?",
    "How would I {verb} my {place} and its {thing}?",
    "How do I {verb} my {place}'s {thing}?",
    "How to {verb} the {thing} of my {place}?",
)
_EACH = 3
"""Other ways for each known question."""
_LEAST = 0.95
_SETTLE_S = 0.5
"""What is learnt from an answer is learnt after it has gone out."""


def questions() -> tuple[list[str], list[str]]:
    """Return 1,000 known questions, and each in three other ways."""
    known, others = [], []
    for number, (verb, thing) in enumerate(product(_VERBS, _THINGS)):
        names = {"verb": verb, "thing": thing, "place": _PLACES[7 * number % len(_PLACES)]}
        known.append(_KNOWN.format(**names))
        others += [_OTHERS[(number + step) % len(_OTHERS)].format(**names) for step in range(_EACH)]
    return known, others


def body(question: str) -> bytes:
    """Return a request of about 1 KB for the answer to `question`, a tab where there may be more spaces."""
    told = "You answer customers. Be brief. " + "Who is asking has read the manual, and wants the next step only. " * 11
    asked = [{"role": "system", "content": told}, {"role": "user", "content": "QUESTION"}]
    request = json.dumps({"model": "gpt-mock", "messages": asked, "temperature": 0, "max_tokens": 256})
    return request.replace("QUESTION", question.replace(" ", "\t")).encode()


def taught(server: Server) -> Bodies:
    """Ask the known questions, then each of the others once, and return the latter.

    At first every answer by meaning is checked against a fresh one; afterwards a twentieth is. Spaces differ, so that
    nothing is ever asked twice in the same bytes.

    Raises:
        RuntimeError: Too few of the others are answered by meaning.
    """
    known, others = questions()
    client = Client(server)
    for question in known:
        client.ask(body(question).replace(b"\t", b" "))
    time.sleep(_SETTLE_S)
    bodies = [body(question) for question in others]
    spaces = b" " * (MOST_SPACES + 2)
    served = ["Penstock-Semantic; hit" in client.ask(each.replace(b"\t", spaces))[0] for each in bodies]
    client.close()
    say(f"  {sum(served)} of {len(others)} questions are answered by meaning")
    if sum(served) < _LEAST * len(served):
        raise RuntimeError("the semantic cache answers too little to measure it")
    return Bodies(bodies, "spaces")
