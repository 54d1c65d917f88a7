from collections import OrderedDict
from itertools import accumulate
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.caching.eviction import GreedyDual, regeneration_cost

MAX_COUNT, MAX_SIZE = 8, 100


class RoomMachine(RuleBasedStateMachine):
    """Slots beside a dict of what should be there."""

    def __init__(self):
        super().__init__()
        self.room = GreedyDual(MAX_COUNT, MAX_SIZE)
        self.slots = {}
        self.count = 0

    @rule(size=st.integers(0, MAX_SIZE), cost=st.integers(0, 10**9))
    def add(self, size, cost):
        for key in self.room.make_room(size):
            used = sum(slot.size for slot in self.slots.values())
            assert len(self.slots) == MAX_COUNT or used + size > MAX_SIZE
            del self.slots[key]
        assert len(self.slots) < MAX_COUNT
        assert sum(slot.size for slot in self.slots.values()) + size <= MAX_SIZE
        self.count += 1
        key = self.count.to_bytes(4, "big")
        self.slots[key] = self.room.add(key, size, cost)

    @precondition(lambda self: self.slots)
    @rule(data=st.data())
    def touch(self, data):
        self.slots[data.draw(st.sampled_from(sorted(self.slots)))].touch()

    @precondition(lambda self: self.slots)
    @rule(data=st.data())
    def remove(self, data):
        self.room.remove(self.slots.pop(data.draw(st.sampled_from(sorted(self.slots)))))

    @invariant()
    def same_as_the_dict(self):
        assert len(self.room) == len(self.slots)
        assert self.room.size == sum(slot.size for slot in self.slots.values())


TestRoom = RoomMachine.TestCase
TestRoom.settings = settings(max_examples=60, stateful_step_count=60)


def fill(room, names, cost=1):
    return {name: room.add(name.encode(), 1, cost) for name in names}


def test_what_nobody_asked_for_leaves_first_and_the_oldest_of_it():
    room = GreedyDual(3, 100)
    slots = fill(room, "abc")
    slots["a"].touch()
    assert room.make_room(1) == [b"b"]
    fill(room, "d")
    assert room.make_room(1) == [b"c"]
    fill(room, "e")
    assert room.make_room(1) == [b"d"]
    fill(room, "f")
    assert room.make_room(1) == [b"e"]


def test_a_scan_does_not_push_out_what_is_used():
    room = GreedyDual(10, 10)
    used = fill(room, "abcde")
    gone = []
    for number in range(1000):
        for slot in used.values():
            slot.touch()
        gone += room.make_room(1)
        room.add(b"scan %d" % number, 1, 1)
    assert not {name.encode() for name in used}.intersection(gone)


def test_a_large_newcomer_makes_several_leave():
    room = GreedyDual(100, 10)
    fill(room, "abcdefghij")
    assert room.make_room(4) == [b"a", b"b", b"c", b"d"]


def test_of_two_as_often_used_the_one_that_costs_more_stays():
    room = GreedyDual(20, 20)
    cheap = fill(room, "abcdefghij", cost=1)
    dear = fill(room, "ABCDEFGHIJ", cost=1000)
    for slot in (*cheap.values(), *dear.values()):
        slot.touch()
    gone = []
    for number in range(10):
        gone += room.make_room(1)
        room.add(b"new %d" % number, 1, 1)
    assert sorted(gone) == [name.encode() for name in "abcdefghij"]


def ask(room, slots, name):
    """Ask for `name`, of size and cost 1; returns whether it was there."""
    key = name.encode()
    if key in slots:
        slots[key].touch()
        return True
    for gone in room.make_room(1):
        del slots[gone]
    slots[key] = room.add(key, 1, 1)
    return False


def test_what_was_asked_for_often_leaves_when_nobody_asks_for_it_any_more():
    room, slots = GreedyDual(10, 10), {}
    for _ in range(100):
        ask(room, slots, "yesterday")
    for number in range(20_000):
        ask(room, slots, f"today {number // 100 * 5 + number % 5}")
    assert b"yesterday" not in slots


def test_what_comes_back_again_and_again_is_known_though_it_left_each_time():
    room, slots = GreedyDual(10, 10), {}
    hits = []
    for number in range(300):
        if number % 15 == 0:
            hits.append(ask(room, slots, "every fortnight"))
        ask(room, slots, f"once {number}")
    assert not hits[1]
    assert all(hits[5:])


def test_of_two_sizes_the_same_room_is_worth_the_same():
    room = GreedyDual(100, 20)
    room.add(b"large", 10, 10)
    for name in "abcdefghij":
        room.add(name.encode(), 1, 1)
    assert room.make_room(11) == [b"large", b"a"]


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
    room, slots, plain, used = GreedyDual(10**9, capacity), {}, OrderedDict(), 0
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
            for gone in room.make_room(size):
                del slots[gone]
            slots[name] = room.add(name, size, cost)
        else:
            while used + size > capacity:
                used -= plain.popitem(last=False)[1]
            plain[key], used = size, used + size
    return hits / len(trace), saved / total


def test_it_saves_more_than_lru_and_fifo():
    trace = make_trace()
    ours = replay(trace, 800_000)
    lru = replay(trace, 800_000, lru=True)
    fifo = replay(trace, 800_000, lru=False)
    assert ours[0] > 1.1 * lru[0] > 1.1 * fifo[0]
    assert ours[1] > 1.4 * lru[1] > 1.4 * fifo[1]
