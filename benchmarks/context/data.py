"""Meetings with questions, and which of their turns answer these (QMSum)."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import NamedTuple

from penstock.context.selection import Turn


class Query(NamedTuple):
    """A question, its answer, and the places of the turns that answer it."""

    text: str
    answer: str
    gold: frozenset[int]


class Meeting(NamedTuple):
    """A meeting of a kind (product, academic, committee): its turns, each with the tokens of ``speaker: text``."""

    name: str
    kind: str
    turns: list[Turn]
    queries: list[Query]

    @property
    def tokens(self) -> int:
        return sum(turn.tokens for turn in self.turns)

    @property
    def fitted(self) -> bool:
        """Whether weights are fitted on it; else it is reported on."""
        return zlib.crc32(self.name.encode()) % 2 == 0


def tokens_of(text: str) -> int:
    """Four characters to a token, rounded up."""
    return -(-len(text) // 4)


def read_meetings(data: Path) -> list[Meeting]:
    """Read all meetings."""
    meetings = []
    with gzip.open(data / "meetings/qmsum/qmsum.jsonl.gz") as file:
        for line in file:
            row = json.loads(line)
            turns = [Turn(speaker, text, tokens_of(f"{speaker}: {text}")) for speaker, text in row["turns"]]
            queries = []
            for query in row["specific_queries"]:
                spans = [(int(first), int(last)) for first, last in query["relevant_text_span"]]
                gold = frozenset(place for first, last in spans for place in range(first, last + 1))
                queries.append(Query(query["query"], query["answer"], gold & frozenset(range(len(turns)))))
            meetings.append(
                Meeting(row["meeting_id"], row["domain"], turns, [query for query in queries if query.gold])
            )
    return meetings
