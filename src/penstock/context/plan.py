"""What of a conversation is sent: the whole of it, or its beginning as summaries, what bears on the question, its end.

    system prompts · summaries · recent exchanges word for word │ excerpts that bear on the question · last user turn
    └────────── the same in every request until the next cut ─────────┘

The summaries stand at the head of the first user message that is kept, the excerpts at the head of the last one: no
message is added, so the roles follow each other as they did, and what users and tools said does not gain the authority
of a system prompt. Messages that are kept are otherwise as they were given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from penstock.context.compaction import Block, replay
from penstock.context.retrieval import Memory, covered_turns, excerpts
from penstock.context.summary import Said, summarise
from penstock.context.terms import Terms
from penstock.context.units import Count, History, Message, readable, speaker_of, text_of
from penstock.core.call import Shaping
from penstock.core.errors import InvalidRequest

SUMMARY_NOTE = "[A summary of the earlier conversation, which is left out here]\n{}\n[End of the summary]\n\n"
EXCERPTS_NOTE = "[Excerpts of the earlier conversation, word for word]\n{}\n[End of the excerpts]\n\n"


class Material(msgspec.Struct, frozen=True):
    """A run of messages to be summarised.

    Attributes:
        prompt: Messages that ask a model for the summary.
        tokens: Most tokens of the summary.
        extractive: A summary made of its own sentences, for when no model makes one.
    """

    prompt: list[dict[str, Any]]
    tokens: int
    extractive: str


class Plan(msgspec.Struct, frozen=True):
    """What is sent.

    Attributes:
        messages: In place of the conversation.
        shaping: What became of it.
        breakpoints: Messages, by place, after which the prompt is the same in later requests, ascending.
    """

    messages: list[Any]
    shaping: Shaping
    breakpoints: tuple[int, ...]


class Draft:
    """A conversation that is cut, before its summaries are there.

    Attributes:
        blocks: What is cut.
        summaries: What is to be summarised, in order.
    """

    def __init__(
        self, history: History, blocks: list[Block], terms: Terms, overhead: int, count: Count, memory: Memory
    ) -> None:
        """Made by `draft`."""
        self.blocks = blocks
        self._history, self._terms, self._overhead, self._count, self._memory = history, terms, overhead, count, memory
        self._empty = count({"role": "user", "content": ""})
        self.summaries = tuple(self._material(block) for block in blocks if block.tokens)

    def finish(self, summaries: Sequence[str | None] = ()) -> Plan:
        """Return what is sent.

        Args:
            summaries: In the order of `summaries`, those a model made; the extractive one stands in for None, and for
                those at the end that are missing.
        """
        given = [*summaries, *[None] * (len(self.summaries) - len(summaries))]
        texts = [made or each.extractive for made, each in zip(given, self.summaries, strict=True)]
        summary = "\n\n".join(text.strip() for text in texts if text and text.strip())
        history, cut = self._history, self.blocks[-1].end
        places = [at for at in range(len(history.messages)) if at >= cut or history.stays(at)]
        kept = [history.messages[at] for at in places]
        first, last = places.index(cut), places.index(history.last_turn)
        excerpt = self._excerpts()
        if excerpt:
            kept[last] = preceded(kept[last], EXCERPTS_NOTE.format(excerpt))
        if summary:
            kept[first] = preceded(kept[first], SUMMARY_NOTE.format(summary))
        left_out = len(history.messages) - len(places)
        shaping = Shaping(
            before=history.total,
            after=sum(map(self._count, kept)),
            left_out=left_out,
            summarised=sum(self._members(block) for block in self.blocks if block.tokens),
            how="" if not summary else "model" if any(given) else "extractive",
        )
        return Plan(kept, shaping, ())

    def _excerpts(self) -> str:
        history, terms = self._history, self._terms
        room = terms.shares().excerpts
        if terms.tokens is not None:
            cut = self.blocks[-1].end
            used = self._overhead + history.fixed[cut] + history.total - history.upto[cut]
            room = min(room, terms.tokens - used - sum(block.tokens for block in self.blocks) - 80)
        if room <= 0:
            return ""
        turns = covered_turns(history, self.blocks[-1].end, self._measure)
        return excerpts(turns, text_of(history.messages[history.last_turn]), room)

    def _material(self, block: Block) -> Material:
        said = [
            Said(speaker_of(message), text_of(message))
            for at, message in enumerate(self._history.messages[block.start : block.end], block.start)
            if not self._history.stays(at)
        ]
        return Material(_prompt(said, block.tokens), block.tokens, summarise(said, block.tokens - 40, self._measure))

    def _members(self, block: Block) -> int:
        return sum(not self._history.stays(at) for at in range(block.start, block.end))

    def _measure(self, text: str) -> int:
        return self._count({"role": "user", "content": text}) - self._empty


def draft(
    messages: list[Any], tools_tokens: int, terms: Terms, count: Count, memory: Memory | None = None
) -> Draft | None:
    """Return how a conversation is cut; None when it is sent as it is.

    Args:
        messages: In canonical form, as they came.
        tools_tokens: Tokens of the request beside its messages.
        terms: On what terms it is cut.
        count: Estimates the tokens of a message.
        memory: What was worked out for earlier requests; without it, that is done anew.

    Raises:
        InvalidRequest: `context_too_small`, not even the system prompts and the last user turn fit.
    """
    if terms.mode == "off" or not readable(messages):
        return None
    history = History(messages, count)
    total = tools_tokens + history.total
    fits = terms.tokens is None or total <= terms.tokens
    if fits and terms.mode == "budget":
        return None
    blocks = replay(history, terms, tools_tokens)
    if terms.tokens is not None and not fits:
        _check(history, blocks, terms.tokens, tools_tokens)
    return Draft(history, blocks, terms, tools_tokens, count, memory or Memory()) if blocks else None


def preceded(message: Message, text: str) -> dict[str, Any]:
    """The message with `text` before what it says."""
    content = message.get("content")
    if isinstance(content, list):
        return {**message, "content": [{"type": "text", "text": text.rstrip()}, *content]}
    return {**message, "content": text + content if isinstance(content, str) else text.rstrip()}


def _check(history: History, blocks: list[Block], most: int, overhead: int) -> None:
    cut = blocks[-1].end if blocks else 0
    least = overhead + history.fixed[cut] + history.total - history.upto[cut]
    if least <= most:
        return
    raise InvalidRequest(
        f"the conversation may have {most} tokens, but the system prompt, the tools and the last user turn alone have "
        f"about {least}: allow at least {least} tokens, or shorten them",
        code="context_too_small",
        param="messages",
    )


def _prompt(said: Sequence[Said], tokens: int) -> list[dict[str, Any]]:
    return [
        {"role": "system", "content": f"Summarise the conversation in at most {tokens} tokens."},
        {"role": "user", "content": "\n".join(f"{speaker}: {text}" for speaker, text in said)},
    ]
