"""What would be sent of a conversation, why, and what that does to the bill."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from math import inf
from typing import Any

import msgspec

from penstock.context.memory import Memory
from penstock.context.plan import Span, draft, stable_points
from penstock.context.terms import Terms
from penstock.context.units import Count, History, readable
from penstock.core.errors import InvalidRequest


class Turn(msgspec.Struct, frozen=True):
    """What a turn costs, in input tokens at their full price.

    Attributes:
        whole: With the whole conversation, of which the provider has cached what the turn before sent.
        sent: With what would be sent, likewise.
        anew: With a prompt of that size made anew, of which nothing is cached.
    """

    whole: float
    sent: float
    anew: float

    @property
    def saved(self) -> float:
        """What would be sent costs so much less than the whole; negative when it costs more."""
        return self.whole - self.sent


class Explanation(msgspec.Struct, frozen=True):
    """What would be sent of a conversation.

    Attributes:
        messages: These.
        before: Tokens of the conversation, with what else is in the request.
        after: Tokens of what would be sent, likewise.
        spans: What becomes of the messages, in order.
        summary: What stands for those that are left out; empty for nothing.
        excerpts: What is repeated of those that are left out; empty for nothing.
        cuts: After how many messages the conversation was cut, now or at an earlier request.
        breakpoints: After which of `messages` the prompt is the same in the requests to come.
        now: What this turn costs.
        later: What the next such turn costs, its own question not counted.
        turns_to_pay: After how many turns a cut now has paid for itself, infinite for never; None when nothing is cut.
    """

    messages: list[Any]
    before: int
    after: int
    spans: tuple[Span, ...]
    summary: str
    excerpts: str
    cuts: tuple[int, ...]
    breakpoints: tuple[int, ...]
    now: Turn
    later: Turn
    turns_to_pay: float | None = None


def explain(
    messages: list[Any], tools_tokens: int, terms: Terms, count: Count, memory: Memory | None = None
) -> Explanation:
    """Say what would be sent of a conversation; the arguments are those of `plan.draft`.

    Raises:
        InvalidRequest: `invalid_messages`, they cannot be read; `context_too_small`, not even the system prompts and
            the last user turn fit.
    """
    if not readable(messages) or not messages:
        raise InvalidRequest(
            "messages must be a list of objects with a role", code="invalid_messages", param="messages"
        )
    memory = memory or Memory()
    history, billing = History(messages, count), terms.billing
    whole = tools_tokens + history.total
    earlier = history.points[-2] if len(history.points) > 1 else 0
    paid = billing.cost(whole, tools_tokens + history.upto[earlier] if earlier else 0)
    made = draft(messages, tools_tokens, terms, count, memory)
    if made is None:
        span = Span(0, len(messages), "kept", history.total, _why_whole(whole, terms))
        same = Turn(paid, paid, float(whole))
        soon = Turn(billing.kept(whole), billing.kept(whole), float(whole))
        return Explanation(messages, whole, whole, (span,), "", "", (), stable_points(messages), same, soon)
    plan = made.finish()
    after = tools_tokens + plan.shaping.after
    prefix = after - plan.once
    known = 0
    if earlier:
        before = _prefix(messages[:earlier], tools_tokens, terms, count, memory)
        known = tools_tokens + sum(map(count, _common(before, plan.messages[: plan.prefix])))
    asked = history.total - history.upto[history.last_turn]
    now = Turn(paid, billing.cost(prefix, known, plan.once), float(after))
    later = Turn(billing.kept(whole - asked), billing.kept(prefix) + max(plan.once - asked, 0), float(after - asked))
    head = tools_tokens + history.fixed[made.cuts.blocks[0].end]
    turns = billing.rewriting(prefix, head) / later.saved if later.saved > 0 else inf
    return Explanation(
        plan.messages, whole, after, plan.spans, plan.summary, plan.excerpts, tuple(made.cuts.ends), plan.breakpoints,
        now, later, turns,
    )  # fmt: skip


def _prefix(messages: list[Any], tools_tokens: int, terms: Terms, count: Count, memory: Memory) -> list[Any]:
    """What an earlier request sent that later ones may repeat."""
    try:
        made = draft(messages, tools_tokens, terms, count, memory)
    except InvalidRequest:
        return []
    if made is None:
        return messages
    plan = made.finish()
    return plan.messages[: plan.prefix]


def _common(one: Sequence[Any], other: Sequence[Any]) -> list[Any]:
    return [first for first, second in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))]


def _why_whole(tokens: int, terms: Terms) -> str:
    if terms.mode == "off":
        return "nothing is cut in mode off"
    if terms.mode == "budget":
        return "it fits" if terms.tokens is not None else "there is no budget of tokens"
    shares = terms.shares()
    if tokens <= shares.recent:
        return f"it is no longer than the {shares.recent} tokens that a cut leaves"
    return "no cut has paid for itself so far, as the provider bills what it has cached"
