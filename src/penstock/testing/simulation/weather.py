"""How often what goes wrong with a provider."""

from __future__ import annotations

from random import Random

import msgspec


class Weather(msgspec.Struct, frozen=True):
    """How often what goes wrong, as shares of the requests.

    Attributes:
        fails: An error before the first event.
        hangs: No answer, ever.
        breaks: A stream that ends with an error.
        stalls: A stream that stops in the middle and never goes on.
        odd: An answer that must not be cached: cut off, filtered, empty, calling a tool.
        refuses: A refusal for the length of the prompt or for its content.
        slow: What begins late, pauses between events, or takes time to be closed.
        cold: No connection is at hand, so that a request has to wait for one.
        lost: The connection at hand is closed before the request was read.
    """

    fails: float = 0.0
    hangs: float = 0.0
    breaks: float = 0.0
    stalls: float = 0.0
    odd: float = 0.0
    refuses: float = 0.0
    slow: float = 0.0
    cold: float = 0.0
    lost: float = 0.0


FAIR = Weather()


def stormy(random: Random) -> Weather:
    """Draw weather with no limit to what goes wrong."""
    share = random.choice((0.0, 0.1, 0.3, 0.7, 1.0))
    return Weather(
        fails=share * random.random(),
        hangs=random.choice((0.0, 0.0, 0.1, 0.3)),
        breaks=share * random.random(),
        stalls=random.choice((0.0, 0.0, 0.1, 0.3)),
        odd=random.choice((0.0, 0.2)),
        refuses=random.choice((0.0, 0.0, 0.3)),
        slow=random.choice((0.0, 0.3, 0.8)),
        cold=random.choice((0.0, 0.3)),
        lost=random.choice((0.0, 0.0, 0.3)),
    )
