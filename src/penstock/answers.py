"""What the library's faces return: answers as objects, with the provider's JSON behind them."""

from __future__ import annotations

from decimal import Decimal
from functools import cached_property
from typing import Any

import msgspec

from penstock.core.call import CACHED, Call, CostSource
from penstock.core.events import Event
from penstock.core.usage import Usage

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class _Answered:
    """What every answer knows about its making."""

    def __init__(self, body: bytes, call: Call) -> None:
        self.body = body
        self.call = call

    @cached_property
    def json(self) -> dict[str, Any]:
        """The answer as the provider gave it, in OpenAI's form."""
        return _decode(self.body)

    @property
    def id(self) -> str:
        """The request's id in Penstock's records."""
        return self.call.id

    @property
    def cached(self) -> bool:
        """It came from a cache; nothing was paid for it."""
        return self.call.cache in CACHED

    @property
    def degraded(self) -> tuple[str, ...]:
        """Why it is not the best possible answer, as in `x-penstock-degraded`; empty when nothing went wrong."""
        return tuple(self.call.degraded)

    @property
    def usage(self) -> Usage | None:
        """Token counts, if known; of a cached answer those of the call that made it."""
        return self.call.usage

    @property
    def provider(self) -> str | None:
        """Who answered; None for a cached or joined answer, or a template."""
        served = self.call.served
        return None if served is None else served.provider

    @property
    def cost_usd(self) -> Decimal | None:
        """What this call cost, all attempts together; None when a price is not known."""
        total = Decimal(0)
        for attempt in self.call.attempts:
            if attempt.cost_source == "unknown":
                return None
            total += attempt.cost_usd or Decimal(0)
        return total

    @property
    def cost_source(self) -> CostSource:
        """How the cost is known, as `Attempt.cost_source` has it; of several attempts, the least certain."""
        sources = {attempt.cost_source for attempt in self.call.attempts}
        order: tuple[CostSource, ...] = ("unknown", "estimate", "time", "provider")
        return next((source for source in order if source in sources), "none")


class Answer(_Answered):
    """A chat model's answer."""

    @property
    def message(self) -> dict[str, Any]:
        """The first choice's message."""
        message: dict[str, Any] = self.json["choices"][0]["message"]
        return message

    @property
    def text(self) -> str:
        """The first choice's text; empty when it only calls tools."""
        return self.message.get("content") or ""

    @property
    def reasoning(self) -> str:
        """The first choice's reasoning, where the provider shows it."""
        return self.message.get("reasoning_content") or self.message.get("reasoning") or ""

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """The first choice's tool calls."""
        return self.message.get("tool_calls") or []

    @property
    def finish_reason(self) -> str | None:
        """Why the first choice ended."""
        reason: str | None = self.json["choices"][0].get("finish_reason")
        return reason

    def __str__(self) -> str:
        return self.text


class Embeddings(_Answered):
    """Vectors, in the order of the texts."""

    @property
    def vectors(self) -> list[list[float]]:
        """One vector a text; only for ``encoding_format: float``, the default."""
        return [item["embedding"] for item in sorted(self.json["data"], key=lambda item: item["index"])]


class Chunk:
    """A piece of a streamed answer."""

    __slots__ = ("event",)

    def __init__(self, event: Event) -> None:
        self.event = event

    @property
    def json(self) -> dict[str, Any]:
        """The piece in OpenAI's form."""
        return _decode(self.event.data)

    @property
    def text(self) -> str:
        """The first choice's new text; empty for pieces without any."""
        choices = self.json.get("choices") or [{}]
        return (choices[0].get("delta") or {}).get("content") or ""

    @property
    def finish_reason(self) -> str | None:
        """Why the answer ended, in the piece that ends it."""
        return self.event.finish_reason

    @property
    def usage(self) -> Usage | None:
        """Token counts, in the piece that carries them."""
        return self.event.usage

    def __str__(self) -> str:
        return self.text
