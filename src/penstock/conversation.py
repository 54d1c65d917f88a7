"""A conversation that is kept whole and sent cut: for programs that hold it themselves, with or without a client."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, Self

import msgspec

from penstock.context.billing import NO_CACHE, billing_of
from penstock.context.explaining import Explanation, explain
from penstock.context.memory import Memory
from penstock.context.plan import draft
from penstock.context.terms import Terms
from penstock.context.units import Count, readable
from penstock.core.errors import InvalidRequest
from penstock.core.route import ContextMode
from penstock.pricing.estimate import estimate_message

_FORM = "penstock.conversation/1"


class Conversation:
    """Messages of a conversation, and which of them are sent.

        conversation = Conversation(tokens=8000)
        conversation.add("system", "You are brief.")
        answer = client.chat(conversation.ask("Why is the sky blue?"), model="fast")
        conversation.add("assistant", answer.text)

    Nothing is asked of any model or server: what is left out is summarised by its own sentences. For summaries that a
    model writes, send the whole conversation and let the configuration's `context` section cut it.

    Attributes:
        messages: All of them.
    """

    def __init__(
        self,
        messages: Iterable[Mapping[str, Any]] = (),
        *,
        tokens: int | None = None,
        mode: ContextMode = "budget",
        provider: str | None = None,
        terms: Terms | None = None,
        count: Count = estimate_message,
    ) -> None:
        """Begin with `messages`, in OpenAI's form.

        Args:
            messages: The first messages.
            tokens: Most tokens that are sent; None for any number.
            mode: ``budget`` cuts what exceeds `tokens`, ``aggressive`` also when the bill is lower then, ``off``
                nothing.
            provider: The kind of provider, as in the configuration, whose terms of billing cached prompts apply; by
                default nothing is cached.
            terms: All of this and more, in place of `tokens`, `mode` and `provider`.
            count: Estimates the tokens of a message.

        Raises:
            InvalidRequest: `invalid_messages`, a message is no object with a role.
        """
        self.messages: list[dict[str, Any]] = []
        self._count, self._memory = count, Memory()
        self._terms = terms or Terms(mode, tokens, billing_of(provider) if provider else NO_CACHE)
        for message in messages:
            self._append(dict(message))

    def __len__(self) -> int:
        return len(self.messages)

    def add(self, role: str, content: object = None, **fields: object) -> Self:
        """Append a message.

        Args:
            role: Who says it: system, developer, user, assistant or tool.
            content: Text, or a list of typed parts; None for calls of tools without a word.
            fields: Other fields of the message: `name`, `tool_calls`, `tool_call_id`.

        Raises:
            InvalidRequest: `invalid_messages`, `content` is neither text nor a list, or `role` is no text.
        """
        self._append({"role": role, "content": content, **fields})
        return self

    def ask(self, question: str, budget: int | None = None) -> list[dict[str, Any]]:
        """Append what the user asks, and return what is sent: see `context`."""
        made = self.context(question, budget)
        self.add("user", question)
        return made

    def context(self, question: str | None = None, budget: int | None = None) -> list[dict[str, Any]]:
        """Return the messages to send, cut if they must be; the conversation stays as it is.

        The system messages, the newest exchanges and the question are in it, the rest as a summary with its key points
        and, word for word, what bears on the question. From one question to the next its beginning changes only when
        more has to be cut, so that providers find it in their caches.

        Args:
            question: What the user asks now; None if it is the last message already.
            budget: Most tokens to send, for this time; None takes that of the conversation.

        Raises:
            InvalidRequest: `context_too_small`, not even the system messages and the question fit.
        """
        messages = self._with(question)
        made = draft(messages, 0, self._for(budget), self._count, self._memory)
        return copy.deepcopy(messages if made is None else made.finish().messages)

    def explain(self, question: str | None = None, budget: int | None = None) -> Explanation:
        """Say what `context` returns, why, and what it does to the bill.

        Raises:
            InvalidRequest: As for `context`; or there is no message.
        """
        return explain(self._with(question), 0, self._for(budget), self._count, self._memory)

    def dump(self) -> bytes:
        """Return the conversation and its settings as JSON, for `load`."""
        return msgspec.json.encode({"form": _FORM, "terms": self._terms, "messages": self.messages})

    @classmethod
    def load(cls, data: bytes | str, *, count: Count = estimate_message) -> Self:
        """Read what `dump` wrote; it goes on as if it had never been away.

        Raises:
            InvalidRequest: `invalid_conversation`, it is something else.
        """
        try:
            read = msgspec.json.decode(data, type=_Dumped)
        except msgspec.DecodeError as error:
            raise InvalidRequest(f"this is no dumped conversation: {error}", code="invalid_conversation") from None
        if read.form != _FORM:
            raise InvalidRequest(
                f"this conversation is of the form {read.form[:100]!r}, and only {_FORM!r} can be read",
                code="invalid_conversation",
                param="form",
            )
        return cls(read.messages, terms=read.terms, count=count)

    def _with(self, question: str | None) -> list[dict[str, Any]]:
        return self.messages if question is None else [*self.messages, {"role": "user", "content": question}]

    def _for(self, budget: int | None) -> Terms:
        return self._terms if budget is None else msgspec.structs.replace(self._terms, tokens=budget)

    def _append(self, message: dict[str, Any]) -> None:
        if not readable([message]) or not isinstance(message.get("content"), (str, list, type(None))):
            raise InvalidRequest(
                "a message needs a role, and content that is text, a list of parts or nothing",
                code="invalid_messages",
                param="messages",
            )
        self.messages.append(message)


class _Dumped(msgspec.Struct):
    form: str
    terms: Terms
    messages: list[dict[str, Any]]
