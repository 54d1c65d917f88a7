"""Tools for testing programs that use Penstock, and implementations of its interfaces. Nothing here is for production.

A clock that a test moves (`FakeClock`), a provider that says what a script tells it (`ScriptedProvider`), an HTTP
server that misbehaves to order and keeps an invoice (`UpstreamServer`, see `penstock.testing.faultd`), a TCP proxy that
delays, freezes and cuts (`FaultProxy`), builders of answers, and checks that implementations of the interfaces in
`penstock.abc` keep their promises.
"""

from penstock.testing.answers import answer, chunks
from penstock.testing.clock import FakeClock
from penstock.testing.conformance import (
    check_budget_store,
    check_cache_store,
    check_completion_store,
    check_key_store,
    check_ledger,
    check_provider,
)
from penstock.testing.decisions import check_score_store, check_state_store
from penstock.testing.embedders import check_embedder
from penstock.testing.faultd import (
    InvoiceLine,
    UpstreamConnection,
    UpstreamReply,
    UpstreamRequest,
    UpstreamServer,
    faults,
    json_reply,
    sse_reply,
)
from penstock.testing.faultproxy import FaultProxy
from penstock.testing.indexes import check_vector_index
from penstock.testing.provider import Reply, ScriptedProvider

__all__ = [
    "FakeClock",
    "FaultProxy",
    "InvoiceLine",
    "Reply",
    "ScriptedProvider",
    "UpstreamConnection",
    "UpstreamReply",
    "UpstreamRequest",
    "UpstreamServer",
    "answer",
    "check_budget_store",
    "check_cache_store",
    "check_completion_store",
    "check_embedder",
    "check_key_store",
    "check_ledger",
    "check_provider",
    "check_score_store",
    "check_state_store",
    "check_vector_index",
    "chunks",
    "faults",
    "json_reply",
    "sse_reply",
]
