"""Summaries: sentences chosen from a text so that few of them carry most of its words, and the prompt for a model's."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from math import log
from typing import NamedTuple

from penstock.context.words import words

Measure = Callable[[str], int]
"""Estimates the tokens of a text."""

LONGEST = 400
"""Characters of a sentence; of a longer one, as in data or code, the beginning stands for it."""
LEAST_WORDS = 2
"""Words with content a sentence needs to say something."""
NUMBERS, NAMES = 1.5, 1.0
"""What a number and a name are worth in words: a summary that loses them cannot be asked for facts."""

_ENDS = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")
_NUMBER = re.compile(r"\d")
_NAME = re.compile(r"(?<=[a-z,;:] )[A-Z][\w-]+")


class Said(NamedTuple):
    """What somebody says: the speaker and the text."""

    speaker: str
    text: str


class Sentence(NamedTuple):
    """A sentence of a conversation.

    Attributes:
        speaker: Who says it.
        text: Cut at `LONGEST` characters.
        terms: Its words with content.
    """

    speaker: str
    text: str
    terms: frozenset[str]


def sentences(said: Sequence[Said]) -> Iterator[Sentence]:
    """Yield the sentences that say something."""
    for speaker, text in said:
        for part in _ENDS.split(text):
            sentence = part.strip()
            if len(sentence) > LONGEST:
                sentence = sentence[:LONGEST].rsplit(None, 1)[0] + " …"
            terms = frozenset(words(sentence))
            if len(terms) >= LEAST_WORDS:
                yield Sentence(speaker, sentence, terms)


def summarise(said: Sequence[Said], tokens: int, measure: Measure) -> str:
    """Return sentences of what was said, in order, that come to `tokens` at most; empty when none fits.

    Each next sentence is the one that adds most per token to the words already there, each weighed by how many
    sentences it is in: the greedy choice for a coverage function (Lin & Bilmes 2011). Equal texts give equal summaries.
    """
    found = list(sentences(said))
    weights = {term: log(1 + count) for term, count in Counter(term for each in found for term in each.terms).items()}
    left, chosen, covered = tokens, [], set[str]()
    heap = [(-_gain(each, weights, covered) / (8 + measure(each.text)), place) for place, each in enumerate(found)]
    heapify(heap)
    speakers: set[str] = set()
    while heap:
        _, place = heappop(heap)
        each = found[place]
        cost = measure(f"{each.speaker}: {each.text}\n")
        if cost > left:
            continue
        value = -_gain(each, weights, covered) / (8 + cost)
        if heap and value > heap[0][0]:
            heappush(heap, (value, place))
            continue
        if value >= 0:
            break
        chosen.append(place)
        covered |= each.terms
        speakers.add(each.speaker)
        left -= cost
    return dialogue(found[place] for place in sorted(chosen))


def dialogue(said: Iterator[Sentence]) -> str:
    """Write sentences as a dialogue; neighbours of one speaker stand on one line."""
    lines: list[list[str]] = []
    last = None
    for speaker, text, _ in said:
        if speaker == last:
            lines[-1].append(text)
        else:
            lines.append([f"{speaker}:", text])
        last = speaker
    return "\n".join(" ".join(line) for line in lines)


def _gain(sentence: Sentence, weights: dict[str, float], covered: set[str]) -> float:
    fresh = sum(weights[term] for term in sentence.terms if term not in covered)
    if not fresh:
        return 0.0
    return fresh + NUMBERS * bool(_NUMBER.search(sentence.text)) + NAMES * bool(_NAME.search(sentence.text))
