"""What users may implement themselves. Every interface has a conformance test in `penstock.testing`."""

from penstock.abc.accounts import Directory, KeyRecord, KeyStore, TeamRecord
from penstock.abc.caches import CacheStore, Embedder, Question, QuestionStore, StoredAnswer, Vector, VectorIndex
from penstock.abc.ledgers import AlertStore, BudgetStore, CompletionStore, Ledger, ScoreStore, StateStore
from penstock.abc.providers import (
    Connected,
    HttpReply,
    HttpRequest,
    Immediate,
    ModelInfo,
    Provider,
    Sending,
    Transport,
    Windowed,
)

__all__ = [
    "AlertStore",
    "BudgetStore",
    "CacheStore",
    "CompletionStore",
    "Connected",
    "Directory",
    "Embedder",
    "HttpReply",
    "HttpRequest",
    "Immediate",
    "KeyRecord",
    "KeyStore",
    "Ledger",
    "ModelInfo",
    "Provider",
    "Question",
    "QuestionStore",
    "ScoreStore",
    "Sending",
    "StateStore",
    "StoredAnswer",
    "TeamRecord",
    "Transport",
    "Vector",
    "VectorIndex",
    "Windowed",
]
