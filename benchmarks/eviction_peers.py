"""Other ways to choose what leaves a full cache, written from their papers.

All are bounded by total size; an object larger than the cache passes by. None but ours and GDSF knows costs.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple, Protocol

from penstock.caching.eviction import GreedyDual, Slot


class Access(NamedTuple):
    """One request of a trace: what for, what it takes to keep, and what it costs to get."""

    key: int
    size: int
    cost: int


class Policy(Protocol):
    """A cache that is looked up and, when that fails, filled."""

    def access(self, key: int, size: int, cost: int) -> bool:
        """Say whether `key` was there; it is afterwards, if the policy wants it."""


class Ours:
    """`penstock.caching.eviction`, as the exact cache uses it."""

    def __init__(self, capacity: int, expected: int) -> None:
        self._capacity = capacity
        self._room = GreedyDual(1 << 60, capacity)
        self._slots: dict[bytes, Slot] = {}

    def access(self, key: int, size: int, cost: int) -> bool:
        """See `Policy`."""
        name = key.to_bytes(8)
        slot = self._slots.get(name)
        if slot is not None:
            slot.touch()
            return True
        if size <= self._capacity:
            for gone in self._room.make_room(size):
                del self._slots[gone]
            self._slots[name] = self._room.add(name, size, cost)
        return False


class Lru:
    """Least recently used."""

    def __init__(self, capacity: int, expected: int) -> None:
        self._capacity = capacity
        self._used = 0
        self._sizes: OrderedDict[int, int] = OrderedDict()

    def access(self, key: int, size: int, cost: int) -> bool:
        """See `Policy`."""
        if key in self._sizes:
            self._sizes.move_to_end(key)
            return True
        if size <= self._capacity:
            while self._used + size > self._capacity:
                self._used -= self._sizes.popitem(last=False)[1]
            self._sizes[key] = size
            self._used += size
        return False


class _Node:
    __slots__ = ("key", "newer", "older", "size", "visited")

    def __init__(self, key: int, size: int) -> None:
        self.key = key
        self.size = size
        self.visited = False
        self.newer: _Node = self
        self.older: _Node = self


class PlainSieve:
    """Zhang et al., "SIEVE is Simpler than LRU", NSDI 2024, algorithm 1."""

    def __init__(self, capacity: int, expected: int) -> None:
        self._capacity = capacity
        self._used = 0
        self._nodes: dict[int, _Node] = {}
        self._end = _Node(-1, 0)
        self._hand = self._end

    def access(self, key: int, size: int, cost: int) -> bool:
        """See `Policy`."""
        node = self._nodes.get(key)
        if node is not None:
            node.visited = True
            return True
        if size > self._capacity:
            return False
        while self._used + size > self._capacity:
            self._evict()
        node = self._nodes[key] = _Node(key, size)
        end, newest = self._end, self._end.older
        node.older, node.newer = newest, end
        newest.newer = end.older = node
        self._used += size
        return False

    def _evict(self) -> None:
        hand = self._hand
        while hand is self._end or hand.visited:
            hand.visited = False
            hand = hand.newer
        self._hand = hand.newer
        hand.older.newer, hand.newer.older = hand.newer, hand.older
        self._used -= hand.size
        del self._nodes[hand.key]


class S3Fifo:
    """Yang et al., "FIFO Queues are All You Need for Cache Eviction", SOSP 2023, algorithm 1."""

    def __init__(self, capacity: int, expected: int) -> None:
        self._capacity = capacity
        self._probation = capacity // 10
        self._small: deque[int] = deque()
        self._main: deque[int] = deque()
        self._ghost: OrderedDict[int, int] = OrderedDict()
        self._small_used = self._main_used = self._ghost_used = 0
        self._known: dict[int, list[int]] = {}
        """Size and frequency."""

    def access(self, key: int, size: int, cost: int) -> bool:
        """See `Policy`."""
        known = self._known.get(key)
        if known is not None:
            known[1] = min(known[1] + 1, 3)
            return True
        if size > self._capacity:
            return False
        while self._small_used + self._main_used + size > self._capacity:
            if self._small and (self._small_used >= self._probation or not self._main):
                self._evict_small()
            else:
                self._evict_main()
        self._known[key] = [size, 0]
        if key in self._ghost:
            self._ghost_used -= self._ghost.pop(key)
            self._main.append(key)
            self._main_used += size
        else:
            self._small.append(key)
            self._small_used += size
        return False

    def _evict_small(self) -> None:
        key = self._small.popleft()
        size, used = self._known[key]
        self._small_used -= size
        if used > 1:
            self._known[key][1] = 0
            self._main.append(key)
            self._main_used += size
            return
        del self._known[key]
        self._ghost[key] = size
        self._ghost_used += size
        while self._ghost_used > self._capacity - self._probation:
            self._ghost_used -= self._ghost.popitem(last=False)[1]

    def _evict_main(self) -> None:
        while True:
            key = self._main.popleft()
            known = self._known[key]
            if not known[1]:
                break
            known[1] -= 1
            self._main.append(key)
        self._main_used -= known[0]
        del self._known[key]


class WTinyLfu:
    """Einziger, Friedman, Manes, "TinyLFU", ACM TOS 2017: a window of 1 %, a segmented LRU (20 : 80), admission by use.

    The counts are exact, not sketched, which favours it; they are halved every ten times the number of entries. What
    leaves the window replaces as many victims as it needs the room of if it was asked for more often than each.
    """

    def __init__(self, capacity: int, expected: int) -> None:
        self._window_max = max(capacity // 100, 1)
        self._main_max = capacity - self._window_max
        self._protected_max = self._main_max * 8 // 10
        self._window: OrderedDict[int, int] = OrderedDict()
        self._probation: OrderedDict[int, int] = OrderedDict()
        self._protected: OrderedDict[int, int] = OrderedDict()
        self._window_used = self._probation_used = self._protected_used = 0
        self._counts: dict[int, int] = {}
        self._left = self._sample = 10 * max(expected, 1)

    def access(self, key: int, size: int, cost: int) -> bool:
        """See `Policy`."""
        self._count(key)
        if key in self._window:
            self._window.move_to_end(key)
            return True
        if key in self._protected:
            self._protected.move_to_end(key)
            return True
        if key in self._probation:
            self._promote(key)
            return True
        if size <= self._main_max:
            self._window[key] = size
            self._window_used += size
            while self._window_used > self._window_max:
                candidate, its_size = self._window.popitem(last=False)
                self._window_used -= its_size
                self._admit(candidate, its_size)
        return False

    def _count(self, key: int) -> None:
        counts = self._counts
        counts[key] = min(counts.get(key, 0) + 1, 15)
        self._left -= 1
        if not self._left:
            self._counts = {each: used >> 1 for each, used in counts.items() if used > 1}
            self._left = self._sample

    def _promote(self, key: int) -> None:
        size = self._probation.pop(key)
        self._probation_used -= size
        self._protected[key] = size
        self._protected_used += size
        while self._protected_used > self._protected_max:
            demoted, its_size = self._protected.popitem(last=False)
            self._protected_used -= its_size
            self._probation[demoted] = its_size
            self._probation_used += its_size

    def _admit(self, key: int, size: int) -> None:
        used = self._counts.get(key, 0)
        while self._probation_used + self._protected_used + size > self._main_max:
            own = self._probation or self._protected
            victim = next(iter(own))
            if used <= self._counts.get(victim, 0):
                return
            if own is self._probation:
                self._probation_used -= own.pop(victim)
            else:
                self._protected_used -= own.pop(victim)
        self._probation[key] = size
        self._probation_used += size


class Gdsf:
    """Cherkasova, "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency", HP Labs 1998: a heap."""

    def __init__(self, capacity: int, expected: int) -> None:
        self._capacity = capacity
        self._used = 0
        self._clock = 0.0
        self._order = count()
        self._heap: list[tuple[float, int, int]] = []
        self._known: dict[int, tuple[int, int, float, int]] = {}
        """Frequency, size, priority, and the number of the heap's item that holds it."""

    def access(self, key: int, size: int, cost: int) -> bool:
        """See `Policy`."""
        known = self._known.get(key)
        if known is None:
            if size > self._capacity:
                return False
            while self._used + size > self._capacity:
                self._evict()
            self._used += size
        used = 1 if known is None else known[0] + 1
        number = next(self._order)
        priority = self._clock + used * cost / size
        self._known[key] = (used, size, priority, number)
        heappush(self._heap, (priority, number, key))
        return known is not None

    def _evict(self) -> None:
        while True:
            priority, number, key = heappop(self._heap)
            known = self._known.get(key)
            if known is not None and known[3] == number:
                break
        self._clock = priority
        self._used -= known[1]
        del self._known[key]
