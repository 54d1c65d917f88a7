"""Where a kind's idea of OpenAI's API differs from OpenAI's."""

from __future__ import annotations

from typing import NamedTuple


class Profile(NamedTuple):
    """The quirks of one kind.

    Attributes:
        key_header: The header that carries the key; in `authorization` it follows ``Bearer``.
        stream_options: It takes ``stream_options``; without them it reports usage anyway.
        omit: Request fields it does not get.
        marks: It takes ``cache_control`` on parts of messages (`penstock.wire.prompt_caching`).
        prompt_cache_key: It takes ``prompt_cache_key``, which brings requests with the same beginning together.
    """

    key_header: str = "authorization"
    stream_options: bool = True
    omit: tuple[str, ...] = ()
    marks: bool = False
    prompt_cache_key: bool = False


# OpenAI refuses `metadata` without `store`, which Penstock keeps to itself: it stores the completion.
_STORED_HERE = ("metadata",)

PROFILES: dict[str, Profile] = {
    "openai": Profile(omit=_STORED_HERE, prompt_cache_key=True),
    "azure": Profile(key_header="api-key", omit=_STORED_HERE),
    "mistral": Profile(stream_options=False),
    "openrouter": Profile(marks=True),
}
"""By kind; the others take all that OpenAI takes."""

DEFAULT = Profile()
