"""Penstock: the gate between an application and its language models.

    from penstock import Client

    with Client() as client:
        print(client.chat("Why is the sky blue?", model="fast"))

Names are loaded when they are first used, so that `import penstock` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.answers import Answer, Chunk, Embeddings
    from penstock.client import AsyncClient
    from penstock.core.errors import (
        BudgetExceeded,
        ConfigError,
        DeadlineExceeded,
        InvalidRequest,
        NotCached,
        PenstockError,
        ProviderError,
        RateLimited,
        Refused,
        StoreError,
    )
    from penstock.core.request import CacheDirectives
    from penstock.core.usage import Usage
    from penstock.gathering import Gathered, gather
    from penstock.sync import Client
    from penstock.wire.partial_json import PartialJson

__version__ = "0.1.0"

_HOMES = {
    "Answer": "answers",
    "AsyncClient": "client",
    "BudgetExceeded": "core.errors",
    "CacheDirectives": "core.request",
    "Chunk": "answers",
    "Client": "sync",
    "ConfigError": "core.errors",
    "DeadlineExceeded": "core.errors",
    "Embeddings": "answers",
    "Gathered": "gathering",
    "InvalidRequest": "core.errors",
    "NotCached": "core.errors",
    "PartialJson": "wire.partial_json",
    "PenstockError": "core.errors",
    "ProviderError": "core.errors",
    "RateLimited": "core.errors",
    "Refused": "core.errors",
    "StoreError": "core.errors",
    "Usage": "core.usage",
    "gather": "gathering",
}

__all__ = [
    "Answer",
    "AsyncClient",
    "BudgetExceeded",
    "CacheDirectives",
    "Chunk",
    "Client",
    "ConfigError",
    "DeadlineExceeded",
    "Embeddings",
    "Gathered",
    "InvalidRequest",
    "NotCached",
    "PartialJson",
    "PenstockError",
    "ProviderError",
    "RateLimited",
    "Refused",
    "StoreError",
    "Usage",
    "gather",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'penstock' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"penstock.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
