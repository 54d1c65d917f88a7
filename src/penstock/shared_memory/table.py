"""A table of numbers by name, in memory that several processes share."""

from __future__ import annotations

from hashlib import blake2b

from penstock.shared_memory.file import SharedFile

NAME_BYTES = 16
"""Names are digests of so many bytes: two that meet by chance do so once in 10^19 tables."""
VALUE, UNTIL = 2, 3
"""Where the two numbers are, from a name's place on."""
_SLOT, _WAYS = 32, 8
_SET = _SLOT * _WAYS
_SLOT_NUMBERS, _SET_NUMBERS = _SLOT // 8, _SET // 8
_EMPTY = bytes(NAME_BYTES)


def digest(*parts: str) -> bytes:
    """Return the name of what `parts` say together; different lists of parts have different names."""
    text = "\0".join(f"{len(part)}:{part}" for part in parts)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=NAME_BYTES).digest()


class Table(SharedFile):
    """Two numbers by name: a value, and until when it is needed.

    A name has one of eight places, by its first bytes. When others have all of them, the one that is needed least long
    makes room: forgetting is always possible and never an error, so the size is fixed, and a table never full.
    """

    __slots__ = ("_sets",)

    def __init__(self, path: str, slots: int) -> None:
        """Has room for `slots` names of 32 bytes, a multiple of 8; pages that were never used take no memory.

        Raises:
            OSError: The file cannot be made or mapped.
        """
        super().__init__(path, slots * _SLOT)
        self._sets = slots // _WAYS

    def get(self, name: bytes) -> float | None:
        """Return the value of `name`; None when it is not there."""
        at = self.find(name)
        return None if at < 0 else self.numbers[at + VALUE]

    def put(self, name: bytes, value: float, until: float) -> None:
        """Set both, `until` being more than 0; to be called under the lock."""
        place = self.find(name)
        if place >= 0:
            self.numbers[place + UNTIL] = until
            self.numbers[place + VALUE] = value
        else:
            self.add(name, value, until)

    def add(self, name: bytes, value: float, until: float) -> int:
        """As `put`, for a name that is not there; return its place."""
        numbers = self.numbers
        start = int.from_bytes(name[:4], "little") % self._sets * _SET_NUMBERS
        needed = numbers[start + UNTIL : start + _SET_NUMBERS : _SLOT_NUMBERS].tolist()
        place = start + needed.index(min(needed)) * _SLOT_NUMBERS
        there = slice(place * 8, place * 8 + NAME_BYTES)
        # In this order a process that is killed meanwhile leaves an empty place.
        self.memory[there] = _EMPTY
        numbers[place + UNTIL] = until
        numbers[place + VALUE] = value
        self.memory[there] = name
        return place

    def drop(self, name: bytes) -> None:
        """Forget it; to be called under the lock."""
        at = self.find(name)
        if at >= 0:
            self.memory[at * 8 : at * 8 + NAME_BYTES] = _EMPTY
            self.numbers[at + UNTIL] = 0.0

    def has(self, place: int, name: bytes) -> bool:
        """Whether `name` is still at `place`, where it was found."""
        return place >= 0 and self.memory[place * 8 : place * 8 + NAME_BYTES] == name

    def find(self, name: bytes) -> int:
        """Return the place of `name` in `numbers`; negative when it is not there."""
        start = int.from_bytes(name[:4], "little") % self._sets * _SET
        at = self.memory.find(name, start, start + _SET)
        return at // 8 if at >= 0 and not at % _SLOT else -1
