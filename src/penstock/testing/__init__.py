"""Tools for testing programs that use Penstock, and implementations of its interfaces. Nothing here is for production.

A clock that a test moves (`FakeClock`), a provider that says what a script tells it (`ScriptedProvider`), an HTTP
server that misbehaves to order (`UpstreamServer`), builders of answers, and checks that implementations of the
interfaces in `penstock.abc` keep their promises.
"""

from penstock.testing.answers import answer, chunks
from penstock.testing.clock import FakeClock
from penstock.testing.conformance import check_cache_store, check_completion_store, check_ledger, check_provider
from penstock.testing.provider import Reply, ScriptedProvider
from penstock.testing.upstream import UpstreamServer
from penstock.testing.upstream_script import UpstreamConnection, UpstreamReply, UpstreamRequest, json_reply, sse_reply

__all__ = [
    "FakeClock",
    "Reply",
    "ScriptedProvider",
    "UpstreamConnection",
    "UpstreamReply",
    "UpstreamRequest",
    "UpstreamServer",
    "answer",
    "check_cache_store",
    "check_completion_store",
    "check_ledger",
    "check_provider",
    "chunks",
    "json_reply",
    "sse_reply",
]
