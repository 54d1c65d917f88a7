"""All keys in memory, so that knowing one costs a hash and a look-up."""

from __future__ import annotations

from collections.abc import Iterable
from hmac import compare_digest

from penstock.access.principal import Principal
from penstock.access.sealing import Sealer, new_secret
from penstock.core.clock import Clock

PURPOSE = "api keys"
IDS = "ids of api keys"
_INDEXED = 16
_SEEN = 10_000

Sealed = tuple[bytes, Principal]


class KeyRing:
    """Keys of the configuration and of the store.

    They are looked up by half of a keyed hash and compared, in constant time, by all of it: what could be learnt from
    the time it takes is about a hash that nobody outside can compute.

    Attributes:
        guarded: There are keys, also such as are not valid any more, so nobody is let in without one.
        reachable: The store was read lately; otherwise an unknown key may be a new one.
        seen: Header values that had a valid key which does not end. A look-up is quicker than the hash by far, and
            no more is learnt from it: bytes are compared only if their keyed 64-bit hashes are equal.
    """

    def __init__(self, clock: Clock) -> None:
        self.guarded = False
        self.reachable = True
        self.seen: dict[bytes, Principal] = {}
        self._wall = clock.wall
        self._seal = Sealer(new_secret(), PURPOSE).seal
        self._configured: list[tuple[bytes, Principal]] = []
        self._stored: list[Sealed] = []
        self._guarded = False
        self._index: dict[bytes, Sealed] = {}

    def configure(self, keys: Iterable[tuple[str, Principal]]) -> None:
        """Put the keys of a configuration in force instead of those before; each with whom it is for."""
        self._configured = [(key.encode(), principal) for key, principal in keys]
        self._rebuild()

    def store(self, keys: Iterable[Sealed], *, secret: bytes | None = None, guarded: bool = True) -> None:
        """Put the keys of the store in force instead of those before.

        Args:
            keys: The valid ones, by their hashes.
            secret: What the hashes were made with; None is as before.
            guarded: There are keys in the store, valid or not.
        """
        if secret is not None:
            self._seal = Sealer(secret, PURPOSE).seal
        self._stored = list(keys)
        self._guarded = guarded
        self._rebuild()

    def find(self, token: bytes) -> Principal | None:
        """Return whom a key is for; None when it is not known, or over."""
        digest = self._seal(token)
        found = self._index.get(digest[:_INDEXED])
        if found is None or not compare_digest(found[0], digest):
            return None
        principal = found[1]
        if principal.expires_at is not None and principal.expires_at <= self._wall():
            return None
        return principal

    def remember(self, value: bytes, principal: Principal) -> None:
        """Note a header value in `seen`, if it is of a key that does not end."""
        if principal.expires_at is None:
            if len(self.seen) >= _SEEN:
                self.seen.clear()
            self.seen[value] = principal

    def __len__(self) -> int:
        return len(self._index)

    def _rebuild(self) -> None:
        sealed = [*self._stored, *((self._seal(token), principal) for token, principal in self._configured)]
        self._index = {entry[0][:_INDEXED]: entry for entry in sealed}
        self.seen.clear()
        self.guarded = self._guarded or bool(self._configured)
