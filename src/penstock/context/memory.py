"""What was worked out for earlier requests of a conversation, found again by what the messages say."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import blake2b

from penstock.context.compaction import Block
from penstock.context.retrieval import Library
from penstock.context.summary import Measure
from penstock.context.units import History, speaker_of, text_of

Key = tuple[bytes, int]

MOST_TOKENS = 500_000
"""Tokens of the conversations whose indexes are kept: about 60 MB."""
MOST_INDEXED = 300_000
"""Tokens of one conversation, its newest ones, that are looked through: an index takes a second for as many."""
MOST_TEXTS = 2048
"""Summaries and key points that are kept: a few megabytes."""


class Memory:
    """Summaries and indexes of parts of conversations that were cut.

    Everything in it can be worked out again; with it, a turn of a long conversation takes a tenth of the time.

    Args:
        most_tokens: Of the conversations whose indexes are kept; those unused for longest go first.

    Attributes:
        tokens: Of those that are kept.
    """

    def __init__(self, most_tokens: int = MOST_TOKENS) -> None:
        self._most = most_tokens
        self.tokens = 0
        self._libraries: OrderedDict[bytes, Library] = OrderedDict()
        self._texts: OrderedDict[tuple[bytes, int, str], str] = OrderedDict()

    def library(self, history: History, ends: Sequence[int], measure: Measure) -> Library:
        """Return the messages before the last of `ends`, to be looked through; system messages are not among them.

        Args:
            history: The conversation.
            ends: The others are where what earlier requests looked through may have ended, ascending.
            measure: Estimates tokens; the same for all requests.
        """
        keys = _digests(history, ends)
        library, done = Library(), 0
        for key, end in zip(reversed(keys), reversed(ends), strict=True):
            known = self._libraries.pop(key, None)
            if known is not None:
                library, done = known, end
                self.tokens -= library.tokens
                break
        start = history.newest(MOST_INDEXED, done, ends[-1])
        library.add(history, (at for at in range(start, ends[-1]) if not history.stays(at)), measure)
        self._libraries[keys[-1]] = library
        self.tokens += library.tokens
        while self.tokens > self._most and len(self._libraries) > 1:
            self.tokens -= self._libraries.popitem(last=False)[1].tokens
        return library

    def key(self, history: History, block: Block) -> Key:
        """What a block of messages is known by."""
        return _digests(history, [block.end], block.start)[0], block.tokens

    def made(self, block: Key, what: str, make: Callable[[], str]) -> str:
        """Return a text about a block of messages, made by `make` if it is not known."""
        key = *block, what
        known = self._texts.get(key)
        if known is None:
            known = self._texts[key] = make()
            if len(self._texts) > MOST_TEXTS:
                self._texts.popitem(last=False)
        else:
            self._texts.move_to_end(key)
        return known


def _digests(history: History, ends: Sequence[int], start: int = 0) -> list[bytes]:
    """The digest of what is said in the messages from `start` up to each of `ends`, ascending."""
    found, digest = [], blake2b(digest_size=16)
    for end in ends:
        for at in range(start, end):
            message = history.messages[at]
            speaker, text = speaker_of(message), text_of(message)
            said = f"{message['role']} {len(speaker)} {len(text)} {speaker}{text}"
            digest.update(said.encode("utf-8", "surrogatepass"))
        found.append(digest.copy().digest())
        start = end
    return found
