"""faultd, an upstream that misbehaves to order: a raw HTTP/1.1 server, scripted per request, that keeps an invoice.

    async with UpstreamServer(faults.stalled(sse_reply(chunks("Hello.")), after=200)) as server:
        ...  # ask the program under test, which asks server.origin
        line = server.invoice[0]
        assert line.ending == "closed"  # the program hung up on the stall
        assert line.usage is None  # and was not told what it cost

`UpstreamReply` says what becomes of one request: its framing, its pauses, and where it breaks off. The functions in
`faults` make such replies of good ones: compressed, corrupt, dripping, mislabelled, malformed, endless.
"""

from penstock.testing.faultd import faults
from penstock.testing.faultd.invoice import InvoiceLine
from penstock.testing.faultd.script import (
    UpstreamConnection,
    UpstreamReply,
    UpstreamRequest,
    json_reply,
    sse_frames,
    sse_reply,
)
from penstock.testing.faultd.server import UpstreamServer

__all__ = [
    "InvoiceLine",
    "UpstreamConnection",
    "UpstreamReply",
    "UpstreamRequest",
    "UpstreamServer",
    "faults",
    "json_reply",
    "sse_frames",
    "sse_reply",
]
