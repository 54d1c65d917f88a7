"""Answers from the exact cache: all are added up, and of many in a second only some have a row of their own.

    count ──► bag ──► queue ──► the writer's thread: rows of a sample, and the sums of all of them

A bag is open while it waits in the queue. The rows are a uniform sample of what comes into it; how many there may be
grows evenly with time, so over a second they are spread as the time is, not as the calls are. What has no row is kept
in ``hit_sums`` besides the roll-ups, so that rows and these make up the sums, also in files.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from math import log
from random import random

import msgspec
from sqlalchemy.engine import Connection, Engine

from penstock.core.call import Call
from penstock.core.errors import StoreError
from penstock.core.money import to_picodollars
from penstock.core.request import Request
from penstock.stores.sql.entry import Fields
from penstock.stores.sql.rollups import HOUR_S, PER_LOG, TOTALS, Group, Rollup, Sums, sum_up
from penstock.stores.sql.sqlite import Insert
from penstock.stores.sql.tables import hit_sums
from penstock.stores.sql.tally import CallValues

CACHE, OUTCOME = "hit", "ok"
"""What calls say that are sampled; and nothing else that is particular."""
KEPT_TOTALS = (0, 2, 3, 4, 7, 11)
"""Where in a roll-up's totals the columns of ``hit_sums`` are."""
_NOTHING: tuple[list[int], dict[int, int]] = ([0] * TOTALS, {})
_Key = tuple[int, str, str, str, str, str, tuple[str, ...]]
_Held = tuple[int, list[int], dict[int, int]]
_encode = msgspec.json.Encoder().encode


class _Sum:
    """What calls of an hour that have everything in common come to."""

    __slots__ = ("cached", "calls", "duration_us", "input", "output", "saved", "times")

    def __init__(self) -> None:
        self.calls = self.input = self.output = self.cached = self.duration_us = 0
        self.saved = Decimal(0)
        self.times: dict[int, int] = {}


class Bag:
    """The hits of a moment.

    Attributes:
        at: When the first began, seconds since the epoch.
        entries: Those that get a row, `most` of them at most.
    """

    __slots__ = ("at", "entries", "most", "seen", "sums")

    def __init__(self, at: float, most: int) -> None:
        self.at = at
        self.most = most
        self.seen = 0
        self.entries: list[Fields] = []
        self.sums: dict[_Key, _Sum] = {}


class Hits:
    """Counts hits, in any thread, and writes them as the writer's `Job`.

    Args:
        engine: Tells how SQL is spelled.
        rollup: Gets the sums.
        describe: Makes the entry of a hit that gets a row.
        insert: Inserts what `describe` made; returns the rows.
        next_id: Makes the number of a sum, given when it began.
        rows_per_s: How many rows a second are kept; as many again at once after a second without any. None for all.
        most: How many rows a bag may have.
    """

    lasting = True

    def __init__(
        self,
        engine: Engine,
        rollup: Rollup,
        describe: Callable[[Request, Call, float], Fields],
        insert: Callable[[Connection, Sequence[Fields]], Sequence[CallValues]],
        next_id: Callable[[float], int],
        rows_per_s: float | None,
        most: int,
    ) -> None:
        self._rollup = rollup
        self._describe = describe
        self._insert_rows = insert
        self._next_id = next_id
        self._rows_per_s = rows_per_s
        self._most = most
        self._insert_sums = Insert(hit_sums, engine, replace=True, rows=20)
        self._lock = threading.Lock()
        self._open: Bag | None = None
        self._allowed = rows_per_s or 0.0
        self._at = 0.0
        self._held: dict[tuple[int, int], _Held] = {}
        self._new: dict[tuple[int, int], _Held] = {}

    def count(self, request: Request, call: Call, duration_s: float) -> Bag | None:
        """Count a hit; return the bag if it is the first in one."""
        metadata = request.metadata
        name = metadata.get("operation", "") if metadata else ""
        start = int(call.started_at) // HOUR_S * HOUR_S
        key = (start, request.tenant, request.key_id, request.model, request.operation, name, request.tags)
        taken = int(duration_s * 1e6)
        bucket = int(log(taken) * PER_LOG) if taken > 1 else 0
        usage, saved = call.usage, call.saved_usd
        with self._lock:
            bag = self._open
            if bag is None:
                bag = self._begin(call.started_at, call.started + duration_s)
            held = bag.sums.get(key)
            if held is None:
                held = bag.sums[key] = _Sum()
            held.calls += 1
            held.duration_us += taken
            if usage is not None:
                held.input += usage.input_tokens
                held.output += usage.output_tokens
                if usage.cached_input_tokens:
                    held.cached += usage.cached_input_tokens
            if saved is not None:
                held.saved += saved
            times = held.times
            times[bucket] = times.get(bucket, 0) + 1
            seen = bag.seen = bag.seen + 1
            if bag.most:
                # A reservoir: whatever comes has the same chance to be among those that stay.
                if seen <= bag.most:
                    bag.entries.append(self._describe(request, call, duration_s))
                elif (place := int(random() * seen)) < bag.most:
                    bag.entries[place] = self._describe(request, call, duration_s)
            return bag if seen == 1 else None

    def _close(self, bag: Bag) -> None:
        with self._lock:
            if self._open is bag:
                self._open = None
                self._allowed -= len(bag.entries)

    def _begin(self, at: float, now: float) -> Bag:
        rate, most = self._rows_per_s, self._most
        if rate is not None:
            self._allowed = min(self._allowed + max(now - self._at, 0.0) * rate, max(rate, 1.0)) if rate else 0.0
            self._at = now
            most = min(int(self._allowed), most)
        bag = self._open = Bag(at, most)
        return bag

    def write(self, connection: Connection, bags: Sequence[Bag]) -> None:
        """Close `bags`; insert the rows of those that get one, and add all to the sums."""
        for bag in bags:
            self._close(bag)
        rows = self._insert_rows(connection, [entry for bag in bags for entry in bag.entries])
        sums = _merged(bags)
        ids = self._rollup.add(connection, sums)
        listed = sum_up(rows)
        self._new = {}
        for slot, (totals, times) in sums.items():
            without, listed_times = listed.get(slot, _NOTHING)
            if totals[0] == without[0]:
                continue
            place = slot[0], ids[slot]
            held = self._new.get(place) or self._held.get(place) or (self._next_id(bags[0].at), [0] * TOTALS, {})
            rest = [more - less for more, less in zip(totals, without, strict=True)]
            unlisted = {bucket: count - listed_times.get(bucket, 0) for bucket, count in times.items()}
            self._new[place] = (
                held[0],
                [old + more for old, more in zip(held[1], rest, strict=True)],
                {bucket: count for bucket, count in added(held[2], unlisted).items() if count},
            )
        rows_of_sums = [
            (ident, *place, *(totals[at] for at in KEPT_TOTALS), _times(times))
            for place, (ident, totals, times) in self._new.items()
        ]
        self._insert_sums.run(connection, sorted(rows_of_sums))

    def settled(self, bags: Sequence[Bag], error: StoreError | None) -> None:
        """What was written last is on disk, or lost because of `error`."""
        if error is None and self._new:
            oldest = max(start for start, _ in self._new) - HOUR_S
            self._held = {place: held for place, held in {**self._held, **self._new}.items() if place[0] >= oldest}
        self._new = {}


def _merged(bags: Sequence[Bag]) -> Sums:
    sums: Sums = {}
    for bag in bags:
        for (start, tenant, key_id, model, operation, name, tags), held in bag.sums.items():
            group: Group = (tenant, key_id, model, "", operation, name, _encode(tags).decode() if tags else "", CACHE,
                            OUTCOME)  # fmt: skip
            totals = [held.calls, 0, held.input, held.output, held.cached, 0, 0, to_picodollars(held.saved), 0, 0, 0,
                      held.duration_us, 0]  # fmt: skip
            times = {bucket * 2: count for bucket, count in held.times.items()}
            before = sums.get((start, group), _NOTHING)
            sums[start, group] = (
                [old + more for old, more in zip(before[0], totals, strict=True)],
                added(before[1], times),
            )
    return sums


def _times(times: Mapping[int, int]) -> str:
    return _encode([(each >> 1, count) for each, count in sorted(times.items())]).decode()


def added(one: Mapping[int, int], other: Mapping[int, int]) -> dict[int, int]:
    """Add up counts by number."""
    return {number: one.get(number, 0) + other.get(number, 0) for number in {**one, **other}}
