from collections import Counter
from random import Random

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from penstock.core.call import Call
from penstock.core.request import Request
from penstock.core.route import Route, Target
from penstock.core.usage import Usage
from penstock.pricing.estimate import estimate_request_tokens
from penstock.routing.balancing import REPLICA, Balancer, ReplicaState
from penstock.testing import FakeClock

A, B, C = Target("a", "m"), Target("b", "m"), Target("c", "m")
LONG = "a long story that both of them know by heart " * 400


class Bench:
    def __init__(self, *targets, seed=5):
        self.clock = FakeClock()
        self.balancer = Balancer(self.clock, Random(seed), estimate_request_tokens)
        self.route = Route("chat", targets or (A, B, C), b"", strategy="balanced")

    def request(self, *texts, stream=True, route=None):
        payload = {"messages": [{"role": "user", "content": text} for text in texts]}
        return Request("chat", "chat", payload, Call("req"), stream=stream, route=route or self.route)

    def choose(self, *texts, **fields):
        return self.balancer.arrange(self.request(*texts, **fields))[0].provider

    def send(self, target, *texts, **fields):
        return self.balancer.start(msgspec.structs.replace(self.request(*texts, **fields), target=target))

    def answer(self, target, seconds, *texts, usage=None, writing=0.0, **fields):
        ticket = self.send(target, *texts, **fields)
        self.clock.advance(seconds)
        if not ticket.whole:
            ticket.replica.began(ticket, self.balancer.now())
        self.clock.advance(writing)
        ticket.replica.ended(ticket, self.balancer.now(), usage)
        return ticket

    def state(self, target):
        return next(each for each in self.balancer.states() if each.provider == target.provider)


def test_equal_replicas_share_short_prompts_by_lot():
    bench = Bench()
    chosen = Counter(bench.choose("hello") for _ in range(300))
    assert min(chosen[name] for name in "abc") > 60


def test_lower_orders_go_first_and_weightless_targets_last():
    late, idle = Target("late", "m", order=1), Target("idle", "m", weight=0)
    bench = Bench(late, idle, A, B)
    for _ in range(3):
        bench.send(A, LONG)
        bench.send(B, LONG)
    order = [target.provider for target in bench.balancer.arrange(bench.request("hello"))]
    assert sorted(order[:2]) == ["a", "b"]
    assert order[2:] == ["idle", "late"]


def test_a_single_target_is_not_measured():
    bench = Bench(A)
    request = bench.request(LONG)
    assert list(bench.balancer.arrange(request)) == [A]
    assert request.call.footprint is None


def test_a_conversation_stays_where_its_beginning_is():
    bench = Bench()
    bench.answer(B, 1.0, LONG)
    assert {bench.choose(LONG, "and then?") for _ in range(20)} == {"b"}
    assert {"a", "c"} <= {bench.choose("another" + LONG) for _ in range(40)}


def test_a_conversation_leaves_when_waiting_takes_longer_than_computing():
    bench = Bench()
    bench.answer(B, 1.0, LONG)
    for number in range(4):
        bench.send(B, f"{number}" + LONG * 3)
    assert bench.choose(LONG, "and then?") != "b"


def test_the_queue_shrinks_as_time_passes_and_grows_when_the_first_is_late():
    bench = Bench()
    bench.send(A, LONG)
    first = bench.state(A).queue_seconds
    assert first > 0.5
    bench.clock.advance(first / 2)
    assert bench.state(A).queue_seconds == pytest.approx(first / 2)
    bench.clock.advance(60.0)
    assert bench.state(A).queue_seconds > 50.0
    assert bench.choose(LONG) in "bc"


def test_a_slow_replica_gets_less():
    bench = Bench()
    for number in range(12):
        for target, seconds in ((A, 0.3), (B, 0.3), (C, 1.2)):
            bench.answer(target, seconds, f"{number}" + LONG)
    assert bench.state(C).slowness > 2 * bench.state(A).slowness
    chosen = Counter()
    for number in range(60):
        target = bench.balancer.arrange(bench.request(f"x{number}" + LONG))[0]
        chosen[target.provider] += 1
        bench.send(target, f"x{number}" + LONG)
    assert chosen["c"] < chosen["a"] / 2
    assert chosen["c"] > 0


def test_a_replica_that_was_slow_long_ago_is_tried_again():
    bench = Bench(A, B)
    for number in range(10):
        bench.answer(A, 0.3, f"{number}")
        bench.answer(B, 2.0, f"{number}")
    assert {bench.choose("hello") for _ in range(20)} == {"a"}
    bench.clock.advance(7200.0)
    assert {bench.choose("hello") for _ in range(50)} == {"a", "b"}


def test_whole_answers_teach_too():
    bench = Bench(A, B)
    usage = Usage(input_tokens=100, output_tokens=200)
    for number in range(10):
        bench.answer(A, 2.0, f"{number}", stream=False, usage=usage)
        bench.answer(B, 8.0, f"{number}", stream=False, usage=usage)
    assert {bench.choose("hello", stream=False) for _ in range(20)} == {"a"}


def test_whole_answers_leave_the_queue_when_their_prompt_is_expected_to_be_done():
    bench = Bench()
    ticket = bench.send(A, LONG, stream=False)
    assert bench.state(A).waiting == 1
    bench.clock.advance(30.0)
    state = bench.state(A)
    assert (state.queue_seconds, state.waiting, state.running) == (0.0, 0, 1)
    ticket.replica.ended(ticket, bench.balancer.now(), Usage(100, 500))
    assert bench.state(A).running == 0


def test_weight_makes_a_replica_worth_waiting_for():
    bench = Bench(Target("a", "m", weight=4), B)
    assert {bench.choose(LONG) for _ in range(20)} == {"a"}
    for number in range(6):
        bench.send(A, f"{number}" + LONG)
    assert bench.choose(LONG) == "b"


def test_a_prompt_that_was_not_answered_is_not_taken_for_cached():
    bench = Bench()
    ticket = bench.send(B, LONG)
    ticket.replica.failed(ticket, lost=False)
    assert bench.state(B).blocks == 0
    assert len({bench.choose(LONG) for _ in range(40)}) == 3


def test_a_lost_replica_has_nothing_cached():
    bench = Bench()
    bench.answer(B, 1.0, LONG)
    ticket = bench.send(B, "hello")
    ticket.replica.failed(ticket, lost=True)
    assert bench.state(B).blocks == 0


def test_learns_from_reported_counts_how_long_prompts_stay_cached():
    bench = Bench(A, B)
    tokens = estimate_request_tokens(bench.request(LONG).payload)
    for turn in range(12):
        fresh = f"{turn}" + LONG
        bench.answer(A, 1.0, fresh, usage=Usage(tokens, 10))
        bench.clock.advance(20.0)
        bench.answer(A, 0.1, fresh, usage=Usage(tokens, 10, cached_input_tokens=tokens - 100))
        bench.clock.advance(900.0)
        bench.answer(A, 1.0, fresh, usage=Usage(tokens, 10, cached_input_tokens=0))
    bench.answer(A, 1.0, LONG, usage=Usage(tokens, 10))
    bench.clock.advance(20.0)
    assert {bench.choose(LONG) for _ in range(20)} == {"a"}
    bench.clock.advance(900.0)
    assert "b" in {bench.choose(LONG) for _ in range(40)}


def test_requests_under_other_names_count_only_where_a_name_is_balanced():
    bench = Bench(A, B)
    plain = Route("plain", (A,), b"")
    assert bench.send(A, LONG, route=plain) is None
    bench.choose("hello")
    assert bench.send(A, LONG, route=plain) is not None
    assert bench.state(A).waiting == 1
    assert bench.choose("hello") == "b"


def test_changed_targets_keep_what_is_known_of_the_others():
    bench = Bench(A, B)
    bench.answer(B, 1.0, LONG)
    bench.route = Route("chat", (B, C), b"", strategy="balanced")
    assert bench.choose(LONG) == "b"
    assert {each.provider for each in bench.balancer.states()} == {"b", "c"}


def test_names_from_clients_do_not_fill_memory():
    bench = Bench()
    for number in range(1000):
        bench.choose("hello", route=Route(f"n{number}", (Target("a", f"{number}"), B), b"", strategy="balanced"))
    assert len(bench.balancer.states()) <= 258


def test_every_figure_is_explained():
    assert set(REPLICA) == set(ReplicaState._fields) - {"provider", "model"}


class NothingLeaks(RuleBasedStateMachine):
    """Whatever the order of reports, also repeated and late ones, a replica's load is what runs there."""

    tickets = Bundle("tickets")

    def __init__(self):
        super().__init__()
        self.bench = Bench(A, B)
        self.open = {}

    @rule(target=tickets, place=st.sampled_from([A, B]), stream=st.booleans(), size=st.sampled_from([1, 300, 9000]))
    def start(self, place, stream, size):
        ticket = self.bench.send(place, "x" * size, stream=stream)
        self.open[ticket] = place
        return ticket

    @rule(seconds=st.floats(0.0, 20.0))
    def wait(self, seconds):
        self.bench.clock.advance(seconds)

    @rule(ticket=tickets)
    def begin(self, ticket):
        if not ticket.whole:
            ticket.replica.began(ticket, self.bench.balancer.now())

    @rule(ticket=tickets, usage=st.sampled_from([None, Usage(), Usage(2000, 100), Usage(2000, 5, 1500)]))
    def end(self, ticket, usage):
        ticket.replica.ended(ticket, self.bench.balancer.now(), usage)
        self.open.pop(ticket, None)

    @rule(ticket=consumes(tickets), lost=st.booleans())
    def fail(self, ticket, lost):
        ticket.replica.failed(ticket, lost=lost)
        self.open.pop(ticket, None)

    @invariant()
    def load_is_what_runs(self):
        for state in self.bench.balancer.states():
            expected = sum(place.provider == state.provider for place in self.open.values())
            assert state.waiting + state.running == expected
            assert state.queue_seconds >= 0.0
            assert (state.queue_seconds > 0.0) <= (state.waiting > 0)
            assert state.slowness > 0.0

    def teardown(self):
        for ticket in list(self.open):
            ticket.replica.released(ticket)
        for state in self.bench.balancer.states():
            assert (state.waiting, state.running, state.queue_seconds) == (0, 0, 0.0)


TestNothingLeaks = NothingLeaks.TestCase
TestNothingLeaks.settings = settings(max_examples=80, stateful_step_count=40)
