from collections import OrderedDict
from itertools import accumulate
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.caching.eviction import Sieve, regeneration_cost

MAX_COUNT, MAX_SIZE = 8, 100


class SieveMachine(RuleBasedStateMachine):
    """A sieve beside a dict of what should be in it."""

    def __init__(self):
        super().__init__()
        self.sieve = Sieve(MAX_COUNT, MAX_SIZE)
        self.slots = {}
        self.count = 0

    @rule(size=st.integers(0, MAX_SIZE), cost=st.integers(0, 10**9))
    def add(self, size, cost):
        for key in self.sieve.make_room(size):
            del self.slots[key]
        assert len(self.slots) < MAX_COUNT
        assert sum(slot.size for slot in self.slots.values()) + size <= MAX_SIZE
        self.count += 1
        key = self.count.to_bytes(4, "big")
        self.slots[key] = self.sieve.add(key, size, cost)

    @precondition(lambda self: self.slots)
    @rule(data=st.data())
    def touch(self, data):
        self.slots[data.draw(st.sampled_from(sorted(self.slots)))].touch()

    @precondition(lambda self: self.slots)
    @rule(data=st.data())
    def remove(self, data):
        self.sieve.remove(self.slots.pop(data.draw(st.sampled_from(sorted(self.slots)))))

    @invariant()
    def same_as_the_dict(self):
        assert len(self.sieve) == len(self.slots)
        assert self.sieve.size == sum(slot.size for slot in self.slots.values())


TestSieve = SieveMachine.TestCase
TestSieve.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def fill(sieve, names, cost=1):
    return {name: sieve.add(name.encode(), 1, cost) for name in names}


def test_what_nobody_asked_for_leaves_first_and_the_oldest_of_it():
    sieve = Sieve(3, 100)
    slots = fill(sieve, "abc")
    slots["a"].touch()
    assert sieve.make_room(1) == [b"b"]
    fill(sieve, "d")
    assert sieve.make_room(1) == [b"c"]
    fill(sieve, "e")
    assert sieve.make_room(1) == [b"d"]
    fill(sieve, "f")
    assert sieve.make_room(1) == [b"e"]


def test_a_scan_does_not_push_out_what_is_used():
    sieve = Sieve(10, 10)
    used = fill(sieve, "abcde")
    gone = []
    for number in range(1000):
        for slot in used.values():
            slot.touch()
        gone += sieve.make_room(1)
        sieve.add(b"scan %d" % number, 1, 1)
    assert not {name.encode() for name in used}.intersection(gone)


def test_a_large_newcomer_makes_several_leave():
    sieve = Sieve(100, 10)
    fill(sieve, "abcdefghij")
    assert sieve.make_room(4) == [b"a", b"b", b"c", b"d"]


def test_of_two_as_often_used_the_one_that_costs_more_stays():
    sieve = Sieve(20, 20)
    cheap = fill(sieve, "abcdefghij", cost=1)
    dear = fill(sieve, "ABCDEFGHIJ", cost=1000)
    for slot in (*cheap.values(), *dear.values()):
        slot.touch()
    gone = []
    for number in range(10):
        gone += sieve.make_room(1)
        sieve.add(b"new %d" % number, 1, 1)
    assert sorted(gone) == [name.encode() for name in "abcdefghij"]


def test_tokens_count_where_there_is_no_price():
    assert regeneration_cost(5, 100, 100) == 5
    assert regeneration_cost(0, 1000, 10) == 1_040_000_000
    assert regeneration_cost(0, 0, 0) == 0


def make_trace(requests=60_000, items=10_000, alpha=0.9, scan_every=6_000, scan_length=1_500):
    """Zipf-distributed questions, interrupted by scans of questions that are asked once; log-normal costs and sizes."""
    random = Random(1)
    weights = list(accumulate(1 / (rank + 1) ** alpha for rank in range(items)))
    trace = []
    for start in range(0, requests, scan_every):
        trace += random.choices(range(items), cum_weights=weights, k=scan_every)
        trace += range(items + start, items + start + scan_length)
    return [(key, cost_and_size(key)) for key in trace]


def cost_and_size(key):
    random = Random(key)
    return random.lognormvariate(0, 1.5), 100 + int(1000 * random.lognormvariate(0, 1))


def replay(trace, capacity, *, lru=None):
    """Return the share of requests and the share of cost that a cache of `capacity` bytes saves."""
    sieve, slots, plain, used = Sieve(10**9, capacity), {}, OrderedDict(), 0
    hits = saved = total = 0.0
    for key, (cost, size) in trace:
        total += cost
        name = key.to_bytes(4, "big")
        if name in slots or key in plain:
            hits, saved = hits + 1, saved + cost
            if lru is None:
                slots[name].touch()
            elif lru:
                plain.move_to_end(key)
        elif lru is None:
            for gone in sieve.make_room(size):
                del slots[gone]
            slots[name] = sieve.add(name, size, cost)
        else:
            while used + size > capacity:
                used -= plain.popitem(last=False)[1]
            plain[key], used = size, used + size
    return hits / len(trace), saved / total


def test_it_saves_more_than_lru_and_fifo():
    trace = make_trace()
    sieve = replay(trace, 800_000)
    lru = replay(trace, 800_000, lru=True)
    fifo = replay(trace, 800_000, lru=False)
    assert sieve[0] > 1.1 * lru[0] > 1.1 * fifo[0]
    assert sieve[1] > 1.4 * lru[1] > 1.4 * fifo[1]
