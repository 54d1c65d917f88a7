"""Anthropic's Messages API (version 2023-06-01), to and from the canonical form.

Canonical to Anthropic: `encode_request`. Anthropic to canonical: `decode_answer`, `StreamDecoder`, `decode_models`,
`parse_error`.
"""

from penstock.wire.anthropic_messages.answer import decode_answer, decode_models, parse_error
from penstock.wire.anthropic_messages.request import encode_request
from penstock.wire.anthropic_messages.stream import StreamDecoder

VERSION = "2023-06-01"

__all__ = ["VERSION", "StreamDecoder", "decode_answer", "decode_models", "encode_request", "parse_error"]
