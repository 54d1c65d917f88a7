"""A hundred signals as they come in: few different ones, most of them seen before, some of them noise."""

from __future__ import annotations

import random

DIFFERENT = (
    "Hiring our first marketing manager in Berlin, seed round closed last month.",
    "Need a growth marketer who has scaled B2B SaaS from 1 to 10 million.",
    "Looking for a replacement for our current performance agency.",
    "We raised 12 million and are building the go-to-market team now.",
    "Our rebrand launches in the autumn and we have nobody for PR.",
    "Does anybody know a good agency for industrial clients?",
    "Head of Demand Generation wanted, remote, start immediately.",
    "We move from founder-led sales to inbound and need help with content.",
    "Expanding to France: who can run paid search in French?",
    "Marketing intern position open at a small bakery chain.",
    "Our cost per lead doubled since spring and our agency has no answer.",
    "Looking for freelance copywriters for a product launch in March.",
    "We are opening three new clinics and want local search done properly.",
    "The board wants a marketing plan by the end of the quarter.",
    "CMO left last week; interim wanted.",
    "Our webshop lost half of its organic traffic after the relaunch.",
    "Series B announced: hiring across marketing and sales.",
    "What do you all think of the new analytics tool?",
    "Great weather at the conference in Lisbon, see you next year!",
    "You receive this newsletter because you signed up. Unsubscribe here.",
    "Out of office until Monday, in urgent cases please call.",
    "You have won the lottery, reply with your bank details.",
)
SIGNALS = 100
_SEED = 4
_SHARES = tuple(1 / (place + 1) ** 0.7 for place in range(len(DIFFERENT)))
"""How often each is seen: a few very often, many seldom."""


def hundred() -> list[str]:
    """Return the signals, each of `DIFFERENT` at least once, in an order of chance that is always the same."""
    source = random.Random(_SEED)
    again = source.choices(DIFFERENT, weights=_SHARES, k=SIGNALS - len(DIFFERENT))
    found = [*DIFFERENT, *again]
    source.shuffle(found)
    return found
