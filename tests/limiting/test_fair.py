from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.limiting.fair import FairQueue
from penstock.limiting.ticket import HIGH, LOW, NORMAL, Ticket


def ticket(tenant="a", tokens=100.0, priority=NORMAL):
    return Ticket(tenant, "m", tokens, 0.0, priority=priority)


def serve(queue, count):
    served = []
    for _ in range(count):
        first = queue.first()
        queue.remove(first)
        queue.charge(first.tenant, first.work)
        served.append(first)
    return served


def test_a_noisy_tenant_does_not_delay_another():
    queue = FairQueue()
    for _ in range(100):
        queue.push(ticket("noisy"))
    serve(queue, 10)
    queue.push(ticket("quiet"))
    assert "quiet" in [each.tenant for each in serve(queue, 2)]


def test_turns_go_by_work_and_not_by_requests():
    queue = FairQueue()
    for _ in range(50):
        queue.push(ticket("long", tokens=999))
        queue.push(ticket("short", tokens=99))
    served = [each.tenant for each in serve(queue, 44)]
    assert 3 <= served.count("long") <= 5


def test_priorities_are_among_the_tenants_own():
    queue = FairQueue()
    queue.push(ticket("a", priority=LOW))
    queue.push(normal := ticket("a"))
    queue.push(high := ticket("a", priority=HIGH))
    queue.push(ticket("b", priority=LOW))
    served = serve(queue, 4)
    assert [each for each in served if each.tenant == "a"][:2] == [high, normal]
    assert "b" in [each.tenant for each in served[:2]]


def test_nobody_saves_up_for_a_flood_or_pays_for_what_nobody_else_wanted():
    queue = FairQueue()
    for _ in range(20):
        queue.push(ticket("busy"))
    serve(queue, 20)
    for _ in range(10):
        queue.push(ticket("new"))
        queue.push(ticket("busy"))
    tenants = [each.tenant for each in serve(queue, 10)]
    assert 4 <= tenants.count("new") <= 6


def test_who_asks_for_one_large_thing_after_the_other_gets_no_more_work_done_than_others():
    queue = FairQueue()
    for _ in range(50):
        queue.push(ticket("short", tokens=99))
    turns = []
    for _ in range(44):
        if not queue.waiting("long"):
            queue.push(ticket("long", tokens=999))
        turns += [each.tenant for each in serve(queue, 1)]
    assert 3 <= turns.count("long") <= 5


def test_what_was_predicted_too_high_is_given_back():
    queue = FairQueue()
    for _ in range(10):
        queue.push(ticket("a", tokens=1000))
        queue.push(ticket("b", tokens=10))
    first = serve(queue, 1)[0]
    assert first.tenant == "a"
    queue.charge("a", -990)
    assert serve(queue, 2)[1].tenant == "a"


def test_who_is_ahead():
    queue = FairQueue()
    assert queue.ahead(ticket()) == (0, 0)
    for _ in range(100):
        queue.push(ticket("noisy"))
    assert queue.ahead(ticket("noisy")) == (100, 10_000)
    assert queue.ahead(ticket("quiet")) == (0, 0)
    queue.push(ticket("quiet"))
    ahead = queue.ahead(ticket("quiet"))
    assert 1 <= ahead.requests <= 3
    queue.push(ticket("noisy", priority=LOW))
    assert queue.ahead(ticket("noisy", priority=HIGH)).requests == 0


def test_names_of_those_who_do_not_wait_are_forgotten_in_time():
    queue = FairQueue()
    for number in range(5000):
        queue.push(ticket(str(number)))
        serve(queue, 1)
    assert len(queue._idle) <= 1024


class AnyOrder(RuleBasedStateMachine):
    """Tenants come, are served and leave in any order."""

    def __init__(self):
        super().__init__()
        self.queue = FairQueue()
        self.waiting = []
        self.skipped = {}

    @rule(tenant=st.sampled_from("abc"), tokens=st.integers(1, 100), priority=st.sampled_from((HIGH, NORMAL, LOW)))
    def come(self, tenant, tokens, priority):
        new = ticket(tenant, float(tokens), priority)
        self.queue.push(new)
        self.waiting.append(new)

    @precondition(lambda self: self.waiting)
    @rule()
    def serve(self):
        (first,) = serve(self.queue, 1)
        self.waiting.remove(first)
        own = [each for each in self.waiting if each.tenant == first.tenant]
        assert all(each.priority >= first.priority for each in own)
        for tenant in {each.tenant for each in self.waiting} - {first.tenant}:
            self.skipped[tenant] = self.skipped.get(tenant, 0.0) + first.work
        self.skipped[first.tenant] = 0.0

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave(self, data):
        gone = data.draw(st.sampled_from(self.waiting))
        assert self.queue.remove(gone)
        assert not self.queue.remove(gone)
        self.waiting.remove(gone)
        if all(each.tenant != gone.tenant for each in self.waiting):
            self.skipped[gone.tenant] = 0.0

    @invariant()
    def all_are_counted(self):
        assert len(self.queue) == len(self.waiting)
        for tenant in "abc":
            assert self.queue.waiting(tenant) == sum(each.tenant == tenant for each in self.waiting)
        assert (self.queue.first() is None) == (not self.waiting)

    @invariant()
    def nobody_starves(self):
        # Two others, each at most the largest request ahead of one's own and of each other.
        assert all(skipped <= 4 * 102 + 2 for skipped in self.skipped.values())


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=60)


def test_long_run_shares_are_equal():
    random, queue, given = Random(1), FairQueue(), {"a": 0.0, "b": 0.0, "c": 0.0}
    for tenant, most in (("a", 50), ("b", 500), ("c", 2000)):
        for _ in range(40):
            queue.push(ticket(tenant, tokens=random.randint(1, most)))
    for _ in range(2000):
        (first,) = serve(queue, 1)
        given[first.tenant] += first.work
        queue.push(ticket(first.tenant, tokens=random.randint(1, {"a": 50, "b": 500, "c": 2000}[first.tenant])))
    assert max(given.values()) - min(given.values()) <= 2 * 2001
