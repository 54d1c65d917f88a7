"""Which leads are about the same thing: cosine of their vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lead_engine.database import Database, Lead
from lead_engine.penstock_config import EMBEDDER
from penstock import AsyncClient

_AT_ONCE = 64
"""Texts in one call of the embedding model."""


async def vectors(client: AsyncClient, texts: Sequence[str]) -> list[list[float]]:
    """Return a vector of each text."""
    found: list[list[float]] = []
    for start in range(0, len(texts), _AT_ONCE):
        found += (await client.embeddings(texts[start : start + _AT_ONCE], model=EMBEDDER)).vectors
    return found


async def similar(database: Database, lead: Lead, *, threshold: float, limit: int) -> list[tuple[Lead, float]]:
    """Return other leads whose vector is near, the nearest first, with the cosine."""
    if lead.embedding is None:
        return []
    others = [each for each in await database.embedded() if each.id != lead.id]
    near = [(each, _cosine(lead.embedding, each.embedding or [])) for each in others]
    found = sorted((pair for pair in near if pair[1] >= threshold), key=lambda pair: -pair[1])
    return found[:limit]


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    if len(one) != len(other):
        return -1.0  # another model made it
    norms = math.hypot(*one) * math.hypot(*other)
    return math.fsum(a * b for a, b in zip(one, other, strict=True)) / norms if norms else 0.0
