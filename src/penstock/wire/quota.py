"""What upstreams say is left of their limits."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.core.quota import Quota

_FIELDS = (
    ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests",
     "x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens"),
    ("anthropic-ratelimit-requests-limit", "anthropic-ratelimit-requests-remaining",
     "anthropic-ratelimit-tokens-limit", "anthropic-ratelimit-tokens-remaining"),
)  # fmt: skip
"""OpenAI's names, which many servers share, and Anthropic's."""


def read_quota(headers: Mapping[str, str]) -> Quota | None:
    """Read the limits in an answer's headers, whose names are in lower case; None when it has none.

    When they are reset is not read: Penstock knows how its own count of them fills.
    """
    for names in _FIELDS:
        limit, remaining, tokens_limit, tokens = (_count(headers.get(name)) for name in names)
        if remaining is not None or tokens is not None:
            return Quota(
                requests_limit=limit,
                requests_remaining=remaining,
                tokens_limit=tokens_limit,
                tokens_remaining=tokens,
            )
    return None


def _count(text: str | None) -> int | None:
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else None
