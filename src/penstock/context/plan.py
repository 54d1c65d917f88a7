"""What of a conversation is sent: the whole of it, or its beginning as summaries, what bears on the question, its end.

    system prompts · summaries · recent exchanges word for word │ excerpts that bear on the question · last user turn
    └────────── the same in every request until the next cut ─────────┘

The summaries stand at the head of the first user message that is kept, the excerpts at the head of the last user turn:
no message is added, so the roles follow each other as they did, and what users and tools said does not gain the
authority of a system prompt. Messages are otherwise as they came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from penstock.context.compaction import Cuts, replay, sent
from penstock.context.material import Material
from penstock.context.memory import Memory
from penstock.context.retrieval import Passage, question_of, quoted
from penstock.context.summary import trimmed
from penstock.context.terms import Terms
from penstock.context.units import Count, History, Message, readable
from penstock.core.call import Shaping
from penstock.core.errors import InvalidRequest

SUMMARY_NOTE = "[Summary of the earlier conversation, which is not repeated here]\n{}\n[End of the summary]\n\n"
EXCERPTS_NOTE = "[Excerpts of the earlier conversation, word for word]\n{}\n[End of the excerpts]\n\n"
LOOK_BACK = 12
"""Messages after which a mark is set once more; some have several blocks."""
_HALVINGS = 6
_INSTRUCTIONS = ("system", "developer")

Fate = Literal["kept", "summarised", "left out"]


class Span(msgspec.Struct, frozen=True):
    """What becomes of a run of messages; system and developer messages among them stay, whatever it is.

    Attributes:
        start: Place of the first.
        end: Place of the one after the last.
        fate: ``kept``, ``summarised`` or ``left out`` (no summary stands for them).
        tokens: What they have; of those that are not kept, without the system and developer messages.
        reason: Why.
        quoted: Which of them are repeated in excerpts, in part or whole.
    """

    start: int
    end: int
    fate: Fate
    tokens: int
    reason: str
    quoted: tuple[int, ...] = ()


class Plan(msgspec.Struct, frozen=True):
    """What is sent.

    Attributes:
        messages: In place of the conversation.
        shaping: What became of it.
        breakpoints: Messages, by place in `messages`, after which the prompt is the same in the requests to come,
            ascending.
        spans: What became of each message, in order.
        prefix: How many of `messages` come before the last user turn.
        once: Tokens of the others, which no later request repeats at the same place.
        summary: What stands for the messages that are left out; empty for nothing.
        excerpts: What is repeated of them; empty for nothing.
    """

    messages: list[Any]
    shaping: Shaping
    breakpoints: tuple[int, ...]
    spans: tuple[Span, ...]
    prefix: int
    once: int
    summary: str = ""
    excerpts: str = ""


class Draft:
    """A conversation that is cut, before its summaries are there.

    Attributes:
        cuts: What is cut.
        summaries: What is to be summarised, in order.
    """

    def __init__(self, history: History, cuts: Cuts, terms: Terms, overhead: int, count: Count, memory: Memory) -> None:
        """Made by `draft`."""
        self.cuts = cuts
        self._history, self._terms, self._overhead, self._count, self._memory = history, terms, overhead, count, memory
        self._empty = count({"role": "user", "content": ""})
        self.summaries = tuple(Material(history, block, self._measure, memory) for block in cuts.blocks if block.tokens)

    def finish(self, summaries: Sequence[str | None] = ()) -> Plan:
        """Return what is sent.

        Args:
            summaries: In the order of `summaries`, those a model made; where one is None or missing, sentences of the
                conversation itself stand in. Too long ones are cut to their first sentences.
        """
        given = [*summaries, *[None] * (len(self.summaries) - len(summaries))]
        summary = "\n".join(each.text(made) for made, each in zip(given, self.summaries, strict=True))
        plain = self._build("", [])
        if self._terms.tokens is not None:
            note = self._measure(SUMMARY_NOTE)
            summary = trimmed(summary, self._terms.tokens - self._size(plain) - note, self._measure)
        room = self._room()
        found = self._found(room)
        messages = self._build(summary, found)
        while found and not self._fits(messages):
            room //= 2
            found = self._found(room)
            messages = self._build(summary, found)
        if summary and not self._fits(messages):
            summary, messages = "", plain
        how = "" if not summary else "model" if any(given) else "extractive"
        return msgspec.structs.replace(self._plan(messages, found, how), summary=summary, excerpts=quoted(found))

    def _plan(self, messages: list[Any], found: list[Passage], how: str) -> Plan:
        history, blocks = self._history, self.cuts.blocks
        cut = blocks[-1].end
        spans = []
        for block in blocks:
            quotes = tuple(sorted({each.message for each in found if block.start <= each.message < block.end}))
            summarised = bool(how and block.tokens)
            reason = "the budget of tokens was exceeded" if block.reason == "budget" else "the bill is lower without"
            spans.append(
                Span(block.start, block.end, "summarised" if summarised else "left out",
                     history.between(block.start, block.end), reason, quotes)
            )  # fmt: skip
        spans.append(Span(cut, len(history.messages), "kept", history.total - history.upto[cut], "recent"))
        members = [sum(not history.stays(at) for at in range(span.start, span.end)) for span in spans[:-1]]
        last = len(messages) - (len(history.messages) - history.last_turn)
        came = set(map(id, history.messages))
        shaping = Shaping(
            before=history.total,
            after=sum(map(self._count, messages)),
            left_out=sum(members),
            summarised=sum(size for size, span in zip(members, spans, strict=False) if span.fate == "summarised"),
            how=how,
            kept=sum(id(message) in came for message in messages),
        )
        once = sum(map(self._count, messages[last:]))
        return Plan(messages, shaping, _breakpoints(messages, last, cut=bool(found)), tuple(spans), last, once)

    def _build(self, summary: str, found: Sequence[Passage]) -> list[Any]:
        """The messages with a summary and excerpts."""
        history, cut, last = self._history, self.cuts.blocks[-1].end, self._history.last_turn
        built = []
        for at, message in enumerate(history.messages):
            if at < cut and not history.stays(at):
                continue
            text = SUMMARY_NOTE.format(summary) if at == cut and summary else ""
            if at == last and found:
                text += EXCERPTS_NOTE.format(quoted(found))
            built.append(_preceded(message, text) if text else message)
        return built

    def _found(self, room: int) -> list[Passage]:
        room -= self._measure(EXCERPTS_NOTE)
        if room <= 0:
            return []
        history, cut = self._history, self.cuts.blocks[-1].end
        ends = [*self.cuts.ends, history.turn_before(history.last_turn), history.last_turn]
        library = self._memory.library(history, sorted(set(ends)), self._measure)
        return [each for each in library.find(question_of(history), room) if each.message < cut]

    def _room(self) -> int:
        """Tokens for excerpts: the same in all requests of a turn, as long as its tool calls leave so much."""
        history, most = self._history, self._terms.tokens
        room = self._terms.shares().excerpts_for(asks=history.asks(history.last_turn))
        if most is None:
            return room
        most -= self._overhead + self._measure(SUMMARY_NOTE)
        room = min(room, most - sent(history, self.cuts.blocks, history.last_turn + 1))
        for _ in range(_HALVINGS):
            if room <= most - sent(history, self.cuts.blocks, len(history.messages)):
                return room
            room //= 2
        return 0

    def _fits(self, messages: Sequence[Message]) -> bool:
        return self._terms.tokens is None or self._size(messages) <= self._terms.tokens

    def _size(self, messages: Sequence[Message]) -> int:
        return self._overhead + sum(map(self._count, messages))

    def _measure(self, text: str) -> int:
        """Tokens of a text in a message."""
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
    fits = terms.tokens is None or tools_tokens + history.total <= terms.tokens
    if fits and terms.mode == "budget":
        return None
    note = count({"role": "user", "content": SUMMARY_NOTE})
    cuts = replay(history, terms, tools_tokens, note)
    if terms.tokens is not None and not fits:
        _check(history, cuts, terms.tokens, tools_tokens)
    return Draft(history, cuts, terms, tools_tokens, count, memory or Memory()) if cuts.blocks else None


def stable_points(messages: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    """Return after which messages the prompt is the same in the requests to come, for one that is sent as it is."""
    last = max((at for at, message in enumerate(messages) if message.get("role") == "user"), default=0)
    return _breakpoints(messages, last, cut=False)


def _breakpoints(messages: Sequence[Mapping[str, Any]], last: int, *, cut: bool) -> tuple[int, ...]:
    """After the system prompts, before the last user turn, and at the end where that is not `cut` for the question.

    Anthropic looks for what it has cached in the 20 blocks before a mark only. Where more came since the request
    before, as a transcript or many results of tools, there is one where that ended.
    """
    head = next((at for at, each in enumerate(messages) if each.get("role") not in _INSTRUCTIONS), 0)
    points = {head - 1, last - 1}
    if not cut or len(messages) > last + 1:
        points.add(len(messages) - 1)
    answers = (at for at in range(max(points), 0, -1) if messages[at].get("role") == "assistant")
    before = next(answers, 0) - 1
    if before >= head and not any(0 <= point - before < LOOK_BACK for point in points):
        points.add(before)
    return tuple(sorted(point for point in points if point >= 0))


def _preceded(message: Message, text: str) -> dict[str, Any]:
    """The message with `text` before what it says."""
    content = message.get("content")
    if isinstance(content, list):
        return {**message, "content": [{"type": "text", "text": text.rstrip()}, *content]}
    return {**message, "content": text + content if isinstance(content, str) else text.rstrip()}


def _check(history: History, cuts: Cuts, most: int, overhead: int) -> None:
    cut = cuts.blocks[-1].end if cuts.blocks else 0
    least = overhead + history.fixed[cut] + history.total - history.upto[cut]
    if least <= most:
        return
    raise InvalidRequest(
        f"the conversation may have {most} tokens, but what is never left out, the system prompts, the tools and the "
        f"last user turn, has about {least}: allow {least} tokens or more, or shorten it",
        code="context_too_small",
        param="messages",
    )
