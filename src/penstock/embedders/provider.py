"""Embeds texts by asking an embeddings model through the pipeline, on the tenant's account."""

from __future__ import annotations

import struct
from base64 import b64decode
from collections.abc import Sequence
from itertools import count
from math import fsum, isfinite, sqrt

import msgspec

from penstock.core.call import Call
from penstock.core.clock import Clock, SystemClock
from penstock.core.errors import ProviderError
from penstock.core.handler import Handler
from penstock.core.request import CacheDirectives, Request

AT_ONCE = 256
"""Texts in one call; providers take 96 to 2,048, and only questions read back after a restart come in such numbers."""

PATIENCE_S, PATIENCE_WITH_MANY_S = 2.0, 30.0
"""How long a call may take: somebody waits for the vector of one text, and is answered without it when it is late."""
_MACHINE = SystemClock()
_numbers = count(1)


class _Item(msgspec.Struct):
    embedding: list[float] | str
    index: int | None = None


class _Answer(msgspec.Struct):
    data: list[_Item]


_decode = msgspec.json.Decoder(_Answer).decode


class ProviderEmbedder:
    """Asks a model for dense vectors. A repeated text is answered by the exact cache and costs nothing."""

    def __init__(self, model: str, ask: Handler, clock: Clock = _MACHINE) -> None:
        """Take the name of an embeddings model, as clients would call it, what answers requests, and a clock."""
        self.name = f"provider:{model}"
        self.dimensions = -1
        self._model = model
        self._ask = ask
        self._clock = clock

    async def embed(self, texts: Sequence[str], behalf: Request | None = None) -> Sequence[bytes]:
        """Return the vector of each text, empty for one without content.

        Raises:
            PenstockError: As the pipeline; `ProviderError` with ``upstream_invalid`` for an answer that has no
                vectors, or others than before.
        """
        vectors = [b""] * len(texts)
        wanted = [place for place, text in enumerate(texts) if text.strip()]
        for start in range(0, len(wanted), AT_ONCE):
            places = wanted[start : start + AT_ONCE]
            # Half of a surrogate pair cannot be sent.
            some = [texts[place].encode("utf-8", "replace").decode("utf-8") for place in places]
            found = await self._vectors(some, behalf)
            for place, vector in zip(places, found, strict=True):
                vectors[place] = vector
        return vectors

    async def aclose(self) -> None:
        """Nothing to free: the model is the pipeline's."""

    async def _vectors(self, texts: list[str], behalf: Request | None) -> list[bytes]:
        response = await self._ask(self._request(texts, behalf))
        try:
            body = await response.read()
        finally:
            await response.aclose()
        try:
            items = _decode(body).data
            places = [place if item.index is None else item.index for place, item in enumerate(items)]
            if sorted(places) != list(range(len(texts))):
                raise ValueError(f"{len(items)} vectors for {len(texts)} texts")
            ordered = sorted(zip(places, items, strict=True), key=lambda pair: pair[0])
            vectors = [self._pack(item.embedding) for _, item in ordered]
        except (ValueError, struct.error, msgspec.MsgspecError) as error:
            raise ProviderError(f"{self._model} gave no usable vectors: {error}", code="upstream_invalid") from error
        return vectors

    def _pack(self, given: list[float] | str) -> bytes:
        numbers = given if isinstance(given, list) else _unpack(b64decode(given, validate=True))
        length = sqrt(fsum(number * number for number in numbers))
        if not length or not isfinite(length):
            raise ValueError("a vector of no length")
        if self.dimensions < 0:
            self.dimensions = len(numbers)
        if len(numbers) != self.dimensions:
            raise ValueError(f"a vector of {len(numbers)} numbers, where there were {self.dimensions} before")
        return struct.pack(f"<{len(numbers)}f", *(number / length for number in numbers))

    def _request(self, texts: list[str], behalf: Request | None) -> Request:
        payload = {"input": texts}
        name = f"embedding-{next(_numbers)}" if behalf is None else f"{behalf.call.id}-embedding"
        call = Call(name, started=self._clock.monotonic(), started_at=self._clock.wall())
        if behalf is None:
            return Request("embeddings", self._model, payload, call, semantic="off")
        asked, patience = behalf.cache, PATIENCE_S if len(texts) == 1 else PATIENCE_WITH_MANY_S
        return msgspec.structs.replace(
            behalf,
            operation="embeddings",
            model=self._model,
            payload=payload,
            call=call,
            stream=False,
            include_usage=False,
            stream_options=None,
            dialect="openai_chat",
            metadata={**(behalf.metadata or {}), "operation": "penstock-embedding"},
            # How old an answer may be is said of the answer, not of the vector of its question.
            cache=CacheDirectives(
                no_store=asked.no_store, only_if_cached=asked.only_if_cached, namespace=asked.namespace
            ),
            timeout_s=patience if behalf.timeout_s is None else min(behalf.timeout_s, patience),
            deadline=None,
            begin_by=None,
            fallback=False,
            semantic="off",
            route=None,
            target=None,
            hedge=False,
        )


def _unpack(data: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(data) // 4}f", data)
