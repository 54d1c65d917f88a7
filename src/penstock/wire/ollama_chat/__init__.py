"""Ollama's native API, to and from the canonical form.

Canonical to Ollama: `encode_request` (``/api/chat``), `encode_completion` (``/api/generate``), `encode_embeddings`
(``/api/embed``). Ollama to canonical: `decode_answer` and `StreamDecoder` (chat and generate), `decode_embeddings`,
`decode_models` (``/api/tags``), `decode_window` (``/api/show``), `decode_loaded` (``/api/ps``), `parse_error`.
"""

from penstock.wire.ollama_chat.answer import decode_answer, decode_embeddings, decode_models, parse_error
from penstock.wire.ollama_chat.request import encode_completion, encode_embeddings, encode_request
from penstock.wire.ollama_chat.stream import StreamDecoder
from penstock.wire.ollama_chat.window import decode_loaded, decode_window

__all__ = [
    "StreamDecoder",
    "decode_answer",
    "decode_embeddings",
    "decode_loaded",
    "decode_models",
    "decode_window",
    "encode_completion",
    "encode_embeddings",
    "encode_request",
    "parse_error",
]
