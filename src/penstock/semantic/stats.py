"""What matching by meaning has done since the start."""

from __future__ import annotations

import msgspec


class SemanticStats(msgspec.Struct):
    """Counts since the start, but for `questions` and `partitions`.

    Attributes:
        asked: Questions looked up.
        proposed: Of these, those for which an answer was at hand.
        vetoed: Of these, those that a rule forbade.
        served: Answers given.
        shadow: Answers that would have been given, in mode ``shadow``.
        failed: Questions that could not be embedded.
        audits: Served answers that were asked again to be checked.
        audits_failed: Of these, those that came to nothing.
        right: Proposed answers, served or not, that were found right.
        wrong: Proposed answers, served or not, that were found wrong.
        wrong_served: Served answers that were found wrong.
        unlabelled: Comparisons that could not say.
        alarms: How often serving was stopped because the error had risen.
        questions: Questions in memory.
        partitions: Partitions in memory.
    """

    asked: int = 0
    proposed: int = 0
    vetoed: int = 0
    served: int = 0
    shadow: int = 0
    failed: int = 0
    audits: int = 0
    audits_failed: int = 0
    right: int = 0
    wrong: int = 0
    wrong_served: int = 0
    unlabelled: int = 0
    alarms: int = 0
    questions: int = 0
    partitions: int = 0
