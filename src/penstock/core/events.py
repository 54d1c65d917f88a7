"""The canonical pieces of a streamed answer.

Penstock's canonical form of a chat answer is the one of OpenAI's chat completions: a whole answer is a
``chat.completion`` object, a piece of a stream a ``chat.completion.chunk``. Other dialects are translated to and from
it in `penstock.wire`, so a provider and a client that both speak it exchange the very same JSON.
"""

from __future__ import annotations

import msgspec

from penstock.core.usage import Usage


class Event(msgspec.Struct, frozen=True, gc=False):
    """One chunk of a streamed answer.

    Attributes:
        data: The chunk as JSON, one line, in the canonical form.
        finish_reason: Why a choice ended, if this chunk ends one.
        usage: Token counts, if this chunk carries them.
        bare_usage: The chunk has no choices: it exists only to carry usage (OpenAI's ``include_usage`` chunk).
        has_output: The chunk carries text, reasoning, a tool call or another visible part.
        has_text: Whether the first choice says something visible, in a chunk that has no other choice, no refusal, no
            call of a tool and no error; None for any other chunk, and when nobody has looked.
    """

    data: bytes
    finish_reason: str | None = None
    usage: Usage | None = None
    bare_usage: bool = False
    has_output: bool = True
    has_text: bool | None = None


Batch = list[Event]
"""Chunks that became known at once, e.g. with one network read; never empty."""
