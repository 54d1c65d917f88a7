"""What is left of the requests and tokens a minute somebody may use."""

from __future__ import annotations

import msgspec


class Quota(msgspec.Struct, frozen=True):
    """Limits a minute, as ``x-ratelimit-…`` headers say them; None where there is no limit or nothing is known.

    Attributes:
        requests_limit: Requests a minute.
        requests_remaining: Requests that may be made now.
        requests_reset_s: Seconds until all of them may be made again.
        tokens_limit: Tokens a minute.
        tokens_remaining: Tokens that may be used now.
        tokens_reset_s: Seconds until all of them may be used again.
    """

    requests_limit: int | None = None
    requests_remaining: int | None = None
    requests_reset_s: float | None = None
    tokens_limit: int | None = None
    tokens_remaining: int | None = None
    tokens_reset_s: float | None = None
