"""How long prompts take: learned from the times to the first token, nothing configured.

The *shape* is learned from all replicas of a name together: seconds for a prompt are

    fixed + uncached tokens × (each + by context × tokens before + by company × answers being written)

since attention makes tokens dearer the more come before them, and a server that writes answers has less left for
prompts. What is learned of one replica is a single number, its *slowness* against that shape. So a new replica is
judged like the others after a few requests, and one that was not heard of for a while like an average one.
"""

from __future__ import annotations

import math

_FORGET = 0.998
"""What one more observation leaves of the weight of all before it: about 500 count."""
_CERTAINTY = 2.0
"""How many observations the starting values are worth."""
_SOLVE_EVERY = 16
"""Observations between two solutions, once there are as many."""
_MOST = 8.0
"""An observation counts as at most this many times what was expected, so that one hang does not spoil the shape."""
_START = (0.05, 2e-4, 2e-4 / 60_000, 2e-4 / 20)
"""5,000 tokens per second, half as many after 60,000 tokens of context or beside 20 answers."""
_START_WRITTEN = (200.0, 4.0)
"""Tokens of an answer and the seconds they took: 50 per second."""
_FORGET_WRITTEN = 0.98
_TERMS = range(4)


class Pace:
    """The shape: a regression on relative errors, pulled towards `_START` until there is evidence."""

    __slots__ = ("_seen", "_sums", "_written", "_written_s", "terms")

    def __init__(self) -> None:
        self.terms = _START
        self._written, self._written_s = _START_WRITTEN
        self._sums = (0.0,) * 14
        self._seen = 0

    def seconds(self, tokens: float, context: float, company: int) -> float:
        """Seconds an average replica takes for `tokens` after `context` others, beside `company` answers."""
        fixed, each, by_context, by_company = self.terms
        return fixed + tokens * (each + by_context * (context + tokens / 2) + by_company * company)

    def observe(self, seconds: float, tokens: float, context: float, company: int) -> None:
        """It took `seconds`, already divided by the replica's slowness."""
        expected = self.seconds(tokens, context, company)
        told = min(seconds / expected, _MOST)
        a = _START[0] / expected
        b = _START[1] / expected * tokens
        c = _START[2] / expected * tokens * (context + tokens / 2)
        d = _START[3] / expected * tokens * company
        aa, ab, ac, ad, bb, bc, bd, cc, cd, dd, at, bt, ct, dt = self._sums
        keep = _FORGET
        self._sums = (
            aa * keep + a * a, ab * keep + a * b, ac * keep + a * c, ad * keep + a * d,
            bb * keep + b * b, bc * keep + b * c, bd * keep + b * d,
            cc * keep + c * c, cd * keep + c * d,
            dd * keep + d * d,
            at * keep + a * told, bt * keep + b * told, ct * keep + c * told, dt * keep + d * told,
        )  # fmt: skip
        self._seen += 1
        if self._seen < _SOLVE_EVERY or self._seen % _SOLVE_EVERY == 0:
            self._solve()

    @property
    def token_s(self) -> float:
        """Seconds for each token of an answer."""
        return self._written_s / self._written

    def answered(self, tokens: int, seconds: float) -> None:
        """An average replica wrote an answer of `tokens` in `seconds` after its first one."""
        self._written = self._written * _FORGET_WRITTEN + tokens
        self._written_s = self._written_s * _FORGET_WRITTEN + seconds

    def _solve(self) -> None:
        """Ridge regression around 1 (each term as a multiple of its start), by elimination; no term below 0."""
        aa, ab, ac, ad, bb, bc, bd, cc, cd, dd, *right = self._sums
        rows = [[aa, ab, ac, ad], [ab, bb, bc, bd], [ac, bc, cc, cd], [ad, bd, cd, dd]]
        for row in _TERMS:
            rows[row][row] += _CERTAINTY
            rows[row].append(right[row] + _CERTAINTY)
        for pivot in _TERMS:  # the matrix is positive definite, so there is no need to search for pivots
            head = rows[pivot]
            for other in range(pivot + 1, 4):
                share = rows[other][pivot] / head[pivot]
                rows[other] = [have - share * minus for have, minus in zip(rows[other], head, strict=True)]
        found = [0.0] * 4
        for row in reversed(_TERMS):
            known = sum(rows[row][column] * found[column] for column in range(row + 1, 4))
            found[row] = (rows[row][4] - known) / rows[row][row]
        found = [max(value, 0.01) * start for value, start in zip(found, _START, strict=True)]
        self.terms = (found[0], found[1], found[2], found[3])


class Slowness:
    """One replica's seconds ÷ the shape's: sums that fade with observations and time, with the shape as a prior."""

    __slots__ = ("_at", "_expected", "_factor", "_fresh_until", "_took")

    FADE = 0.98
    """What one more observation leaves of the weight of those before it: about 50 count."""
    LIFE_S = 300.0
    """Seconds after which evidence counts 1/e of what it did."""
    PRIOR_S = 0.2
    """Seconds of expected work the prior is worth."""

    def __init__(self, now: float) -> None:
        self._took = 0.0
        self._expected = 0.0
        self._at = now
        self._factor = 1.0
        self._fresh_until = now

    def value(self, now: float) -> float:
        """The factor: above 1 for a slow replica. Worked out once a second, for it is asked for all the time."""
        if now >= self._fresh_until:
            weight = math.exp((self._at - now) / self.LIFE_S)
            self._factor = (self._took * weight + self.PRIOR_S) / (self._expected * weight + self.PRIOR_S)
            self._fresh_until = now + 1.0
        return self._factor

    def observe(self, now: float, took: float, expected: float) -> None:
        """It took `took` seconds where the shape says `expected`."""
        keep = self.FADE * math.exp((self._at - now) / self.LIFE_S)
        limit = _MOST * expected * self.value(now)
        self._took = self._took * keep + (took if took < limit else limit)
        self._expected = self._expected * keep + expected
        self._at = self._fresh_until = now
