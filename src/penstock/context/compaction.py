"""When a conversation is cut, and where: rarely, deeply, and found again from the conversation itself.

Providers bill a prefix they have seen at a fraction, so a prefix is worth keeping as it is. What is cut is therefore
replaced once by a summary that never changes, and what follows is only appended to, until the next cut. No state is
kept: every request there was is recognised by the assistant's message that answered it, and the decisions are taken
again, each from what the messages were then. Equal histories give equal cuts, whoever asks, after any restart.

Whether a cut pays is a question of renting or buying. Each turn pays for the cached prefix what it would not pay for
the shorter one; writing the shorter one costs once. Cutting as soon as what was paid in vain comes to the price of the
cut costs at most twice what it would with knowledge of how long the conversation goes on (Karlin, Manasse, Rudolph &
Sleator 1988), and in a conversation that grows evenly it is the interval of least cost, sqrt(2 * cost * growth / rate).
"""

from __future__ import annotations

from typing import NamedTuple

from penstock.context.terms import Shares, Terms
from penstock.context.units import History

SUMMARY_SHARE = 5
"""A block's summary has a fifth of its tokens at most."""
BLOCKS = 4
"""So many blocks have summaries of their own before they are made into one."""
LEAST_SUMMARY = 24
"""Fewer tokens say nothing: such a block has no summary."""
LEAST_CUT = 1024
"""Tokens a cut must take out, unless what is left would not fit otherwise."""


class Block(NamedTuple):
    """A run of messages that a summary stands for.

    Attributes:
        start: Its first message.
        end: The one after its last.
        tokens: Most tokens of its summary; 0 for none.
        reason: ``budget`` or ``bill``, why it was cut.
    """

    start: int
    end: int
    tokens: int
    reason: str


class Cuts(NamedTuple):
    """What is cut from a request.

    Attributes:
        blocks: What summaries stand for; together they are all messages before the end of the last one.
        ends: Where every cut there was ended, ascending; more than blocks, once these were made into one.
    """

    blocks: list[Block]
    ends: list[int]


def replay(history: History, terms: Terms, overhead: int, note: int = 0) -> Cuts:
    """Return what is cut from the last of the conversation's requests.

    Args:
        history: The conversation.
        terms: On what terms it is cut.
        overhead: Tokens that every request has beside its messages.
        note: Tokens of the words around a summary.
    """
    ledger = _Replay(history, terms, overhead, note)
    for point in history.points:
        ledger.ask(point)
    return Cuts(ledger.blocks, ledger.ends)


class _Replay:
    def __init__(self, history: History, terms: Terms, overhead: int, note: int) -> None:
        self.blocks: list[Block] = []
        self.ends: list[int] = []
        self._history, self._terms, self._overhead, self._note = history, terms, overhead, note
        self._shares: Shares = terms.shares()
        self._rent = 0.0
        self._asked = self._quoted = 0

    def ask(self, point: int) -> None:
        """Decide on the request that had the first `point` messages."""
        reason = ""
        if self._exceeds(point):
            reason = "budget"
        if not reason and self._terms.mode == "aggressive" and self._pays(point):
            reason = "bill"
        after = self._cut(point, reason) if reason else self.blocks
        if after is not self.blocks:
            self.blocks, self._rent = after, 0.0
            self.ends.append(after[-1].end)

    def _exceeds(self, point: int) -> bool:
        most = self._terms.tokens
        if most is None:
            return False
        if self.blocks:
            most -= self._shares.excerpts
        return self._size(self.blocks, point) > most

    def _pays(self, point: int) -> bool:
        turn = self._history.turn_before(point)
        self._asked += 1
        self._quoted += self._shares.excerpts_for(asks=self._history.asks(turn))
        after = self._cut(point, "bill")
        if after is self.blocks:
            return False
        billing = self._terms.billing
        now, then = self._size(self.blocks, turn), self._size(after, turn)
        if now - then < LEAST_CUT:
            return False
        start = self.blocks[-1].end if self.blocks else 0
        fresh = self._history.between(start, after[-1].end) / self._history.between(0, turn)
        saved = billing.kept(now) - billing.kept(then) - fresh * self._quoted / self._asked
        self._rent = max(self._rent + saved, 0.0)
        return saved > 0 and self._rent >= billing.rewriting(then, self._overhead + self._history.fixed[after[0].end])

    def _size(self, blocks: list[Block], end: int) -> int:
        """Tokens of what is sent of the first `end` messages, without excerpts."""
        return self._overhead + sent(self._history, blocks, end) + (self._note if blocks else 0)

    def _cut(self, point: int, reason: str) -> list[Block]:
        """The blocks after a cut now; the same as now where there is nothing to cut."""
        history, shares = self._history, self._shares
        turn = history.turn_before(point)
        start = self.blocks[-1].end if self.blocks else 0
        recent = shares.recent
        if self._terms.tokens is not None:
            last = history.upto[point] - history.upto[turn]
            used = self._overhead + history.fixed[turn] + last + shares.summary + self._note + shares.excerpts
            room = self._terms.tokens - used
            recent = max(min(recent, room), 0)
        end = history.cut_at(history.newest(recent, 0, turn), turn)
        if end is None or end <= start:
            return self.blocks
        tokens = min(history.between(start, end) // SUMMARY_SHARE, shares.summary // BLOCKS)
        blocks = [*self.blocks, Block(start, end, tokens if tokens >= LEAST_SUMMARY else 0, reason)]
        if sum(block.tokens for block in blocks) > shares.summary:
            blocks = [Block(0, end, shares.summary // 2, reason)]
        return blocks


def sent(history: History, blocks: list[Block], end: int) -> int:
    """Tokens of what is left of the first `end` messages, with the summaries of what is not."""
    cut = blocks[-1].end if blocks else 0
    return history.fixed[cut] + sum(block.tokens for block in blocks) + history.upto[end] - history.upto[cut]
