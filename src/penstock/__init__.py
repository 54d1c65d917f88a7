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
    from penstock.classifying.classifier import Classifier
    from penstock.classifying.model_stage import ModelStage
    from penstock.classifying.results import Classification, Gate, Opinion
    from penstock.classifying.rules import Rules
    from penstock.client import AsyncClient
    from penstock.conversation import Conversation
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
    from penstock.prompt_library import PromptLibrary
    from penstock.sync import Client
    from penstock.wire.partial_json import PartialJson

__version__ = "0.1.0"

_HOMES = {
    "Answer": "answers",
    "AsyncClient": "client",
    "BudgetExceeded": "core.errors",
    "CacheDirectives": "core.request",
    "Chunk": "answers",
    "Classification": "classifying.results",
    "Classifier": "classifying.classifier",
    "Client": "sync",
    "ConfigError": "core.errors",
    "Conversation": "conversation",
    "DeadlineExceeded": "core.errors",
    "Embeddings": "answers",
    "Gate": "classifying.results",
    "Gathered": "gathering",
    "InvalidRequest": "core.errors",
    "ModelStage": "classifying.model_stage",
    "NotCached": "core.errors",
    "Opinion": "classifying.results",
    "PartialJson": "wire.partial_json",
    "PenstockError": "core.errors",
    "PromptLibrary": "prompt_library",
    "ProviderError": "core.errors",
    "RateLimited": "core.errors",
    "Refused": "core.errors",
    "Rules": "classifying.rules",
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
    "Classification",
    "Classifier",
    "Client",
    "ConfigError",
    "Conversation",
    "DeadlineExceeded",
    "Embeddings",
    "Gate",
    "Gathered",
    "InvalidRequest",
    "ModelStage",
    "NotCached",
    "Opinion",
    "PartialJson",
    "PenstockError",
    "PromptLibrary",
    "ProviderError",
    "RateLimited",
    "Refused",
    "Rules",
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
