"""What is to be summarised, and the summary that its own sentences make."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from penstock.context.compaction import Block
from penstock.context.insights import key_points
from penstock.context.memory import Memory
from penstock.context.summary import Measure, Said, Sentence, prompt, sentences, summarise, trimmed
from penstock.context.units import History, speaker_of, text_of

MOST_READ = 100_000
"""Tokens of a block, its newest ones, that a summary is made of: reading takes a second for four times as many."""
_PEOPLE = "user"


class Material:
    """A run of messages that a summary will stand for.

    Attributes:
        block: Which.
        tokens: Most tokens of the summary a model may write.
    """

    def __init__(self, history: History, block: Block, measure: Measure, memory: Memory) -> None:
        self.block = block
        self._history, self._measure, self._memory = history, measure, memory
        self._key = memory.key(history, block)
        self._points = memory.made(self._key, "points", self._key_points)
        self.tokens = block.tokens - measure(self._points + "\n")

    @property
    def prompt(self) -> list[dict[str, Any]]:
        """Messages that ask a model for the summary."""
        return prompt(self._said(), self.tokens, self._measure)

    @property
    def extractive(self) -> str:
        """A summary made of the messages' own sentences, for when no model makes one."""
        return self._memory.made(self._key, "extractive", self._summarise)

    def text(self, summary: str | None) -> str:
        """The key points, and after them `summary`; without one the extractive one."""
        written = trimmed(summary, self.tokens, self._measure) if summary else ""
        return "\n".join(part for part in (self._points, written or self.extractive) if part)

    def _key_points(self) -> str:
        return key_points(self._sentences, self.block.tokens // 2, self._measure)

    def _summarise(self) -> str:
        return summarise(self._sentences, self.tokens, self._measure, self._points)

    @cached_property
    def _sentences(self) -> list[Sentence]:
        return list(sentences(self._said()))

    def _said(self) -> list[Said]:
        history, block = self._history, self.block
        return [
            Said(
                speaker_of(history.messages[at]), text_of(history.messages[at]), history.messages[at]["role"] == _PEOPLE
            )
            for at in range(history.newest(MOST_READ, block.start, block.end), block.end)
            if not history.stays(at)
        ]
