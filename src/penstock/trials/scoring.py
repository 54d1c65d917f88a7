"""Taking in what applications say of answers."""

from __future__ import annotations

import math
import re

from penstock.abc import ScoreStore
from penstock.core.errors import InvalidRequest
from penstock.core.experiment import SCORE_NAME, Score

LONGEST_ID = 200
"""Characters of a request's id."""
MOST = 1e12
"""The largest value, of either sign."""
_NAME = re.compile(SCORE_NAME)


async def post(store: ScoreStore, score: Score) -> Score:
    """Keep a score; one that was posted before is kept already.

    The first value of a name stays, because what was counted once may not change any more.

    Raises:
        InvalidRequest: A part of it cannot be used (400), or another value was posted before (409).
        StoreError: It could not be written.
    """
    if not 0 < len(score.request_id) <= LONGEST_ID:
        raise InvalidRequest(f"request_id must be the x-request-id of an answer, of at most {LONGEST_ID} characters.",
                             param="request_id", code="invalid_value")  # fmt: skip
    if not _NAME.fullmatch(score.name):
        raise InvalidRequest("name must be 1 to 64 letters, digits, `_`, `.` and `-`, the first a letter or digit.",
                             param="name", code="invalid_value")  # fmt: skip
    if not math.isfinite(score.value) or abs(score.value) > MOST:
        raise InvalidRequest(f"value must be a number from -{MOST:g} to {MOST:g}.", param="value", code="invalid_value")
    kept = await store.put(score)
    if kept.value != score.value:
        raise InvalidRequest(
            f"The score {score.name} of this request is {kept.value:g} already; the first one counts.",
            param="value", code="score_exists", status_code=409,
        )  # fmt: skip
    return kept
