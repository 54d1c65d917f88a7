"""A part of the seeds that `make simulate` runs; ``PENSTOCK_SEED`` runs one of them alone."""

import os
import subprocess
import sys
import time

import msgspec
import pytest

from penstock import pipeline
from penstock.caching.answer_cache import AnswerCache
from penstock.caching.asking import asked
from penstock.caching.flight import Flight
from penstock.caching.lead import Lead
from penstock.core.budget import Granted
from penstock.core.errors import RateLimited, Refused
from penstock.core.request import NO_DIRECTIVES
from penstock.lane import Passage
from penstock.layers.breaker import Breaker
from penstock.layers.record import Record
from penstock.matching.partition import Partition
from penstock.matching.policy import Decision
from penstock.stream_lane import StreamPassage
from penstock.testing.simulation import simulate, simulate_many

COUNT, AT_MOST_S = 1000, 20.0
SEED = os.environ.get("PENSTOCK_SEED")


def test_all_is_well_in_every_storm():
    seeds = range(COUNT) if SEED is None else [int(SEED)]
    until = time.monotonic() + AT_MOST_S
    ran = 0
    for outcome in simulate_many(seeds):
        ran += 1
        command = f"python -m penstock.testing.simulation --seed {outcome.seed}"
        assert not outcome.problems, f"{outcome.problems}\nreplay: {command}\n" + "\n".join(outcome.trace)
        if time.monotonic() > until:
            break
    assert SEED or ran >= 100


def test_a_seed_replays_step_by_step():
    for seed in range(30):
        first, second = simulate(seed), simulate(seed)
        assert (first.digest, first.steps) == (second.digest, second.steps)


def test_a_seed_replays_in_another_process_with_other_hashes():
    command = [sys.executable, "-m", "penstock.testing.simulation", "--seed", "7"]
    runs = [
        subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True)
        for seed in ("1", "2")
    ]
    assert runs[0].stdout == runs[1].stdout
    assert simulate(7).digest in runs[0].stdout
    assert "nothing is wrong" in runs[0].stdout


def test_seeds_differ():
    assert len({simulate(seed).digest for seed in range(20)}) == 20


def test_some_questions_in_other_words_get_the_known_answer():
    assert sum(outcome.by_meaning for outcome in simulate_many(range(200))) > 0


def broken_record(monkeypatch):
    finish = Record.finish

    def twice(self, request, how):
        finish(self, request, how)
        self._ledger.record(request, request.call, duration_s=0.0, outcome=how)

    monkeypatch.setattr(Record, "finish", twice)


def broken_probe(monkeypatch):
    monkeypatch.setattr("penstock.routing.breaker.Circuit.released", lambda self, permit: None)


def broken_flight(monkeypatch):
    monkeypatch.setattr(Flight, "retire", lambda self: None)


def broken_tenants(monkeypatch):
    monkeypatch.setattr("penstock.caching.key._encode", lambda parts: str(parts[-1]).encode())


def broken_report(monkeypatch):
    monkeypatch.setattr(Breaker, "report", lambda self, circuit, permit, request, error: None)


def broken_sieve(monkeypatch):
    monkeypatch.setattr("penstock.caching.at_rest.storable_events", lambda events, **_: True)
    monkeypatch.setattr("penstock.caching.at_rest.storable_body", lambda body, **_: True)


def broken_row(monkeypatch):
    """Nobody waits for an attempt to be closed."""

    def at_once(self, request, duration_s, how):
        self._ledger.record(request, request.call, duration_s=duration_s, outcome=how)

    monkeypatch.setattr(Record, "_write", at_once)


def broken_slots(monkeypatch):
    monkeypatch.setattr("penstock.limiting.gate.Gate.failed", lambda self, ticket, used, now, *, late=False: None)


def broken_concurrency(monkeypatch):
    monkeypatch.setattr("penstock.limiting.gate.Gate.limit", 1000)


def broken_minutes(monkeypatch):
    monkeypatch.setattr("penstock.limiting.account.Account.wait_s", lambda self, tokens, now: 0.0)


def broken_wakening(monkeypatch):
    monkeypatch.setattr("penstock.limiting.gate.Gate.leave", lambda self, ticket: self.queue.remove(ticket))


def broken_tenant_limit(monkeypatch):
    monkeypatch.setattr("penstock.limiting.bucket.Bucket.has", lambda self, amount, level: True)


def broken_refund(monkeypatch):
    monkeypatch.setattr("penstock.layers.limit._Settling._settle", lambda self: None)


def broken_refusal(monkeypatch):
    monkeypatch.setattr(RateLimited, "__init__", lambda self, message, **_: Refused.__init__(self, message))


def broken_load(monkeypatch):
    monkeypatch.setattr("penstock.routing.replica.Replica.released", lambda self, ticket: None)


def broken_mark(monkeypatch):
    monkeypatch.setattr("penstock.layers.fallback.reason_of", lambda cause: "reason")


def broken_order(monkeypatch):
    """The fallback inside the cache: its answers are stored as those of the model that was asked."""
    layers = list(pipeline.CALL)
    names = [name for name, _ in layers]
    fallback = layers.pop(names.index("fallback"))
    layers.insert(names.index("exact_cache"), fallback)
    monkeypatch.setattr(pipeline, "CALL", tuple(layers))


def broken_staleness(monkeypatch):
    monkeypatch.setattr("penstock.layers.exact_cache.may_stand_in", lambda *_: True)


def broken_veto(monkeypatch):
    propose = Partition.propose

    def anything(self, *args):
        found = propose(self, *args)
        return found and found._replace(veto=None)

    monkeypatch.setattr(Partition, "propose", anything)
    monkeypatch.setattr("penstock.matching.policy.Policy.decide", lambda *_: Decision(True, 0.9, 1.0))


def broken_namespace(monkeypatch):
    def everywhere(request, *args, **options):
        return asked(msgspec.structs.replace(request, cache=NO_DIRECTIVES), *args, **options)

    monkeypatch.setattr("penstock.layers.semantic_cache.asked", everywhere)


def broken_history(monkeypatch):
    def forgetful(request, *args, **options):
        last = {"messages": request.payload["messages"][-1:]}
        return asked(msgspec.structs.replace(request, payload=last), *args, **options)

    monkeypatch.setattr("penstock.layers.semantic_cache.asked", forgetful)


def broken_guess(monkeypatch):
    """An answer by meaning looks like any other, so that it is kept as the answer to these words."""
    serve = AnswerCache.serve_known

    async def unmarked(self, request, entry, member):
        response = await serve(self, request, entry, member)
        request.call.cache = ""
        return response

    monkeypatch.setattr(AnswerCache, "serve_known", unmarked)


def broken_leaving(monkeypatch):
    monkeypatch.setattr("penstock.caching.questions.Questions.drop_key", lambda self, key: None)


def broken_forgetting(monkeypatch):
    monkeypatch.setattr("penstock.matching.model.PooledModel.forget", lambda self, entry: None)


def broken_allowance(monkeypatch):
    monkeypatch.setattr("penstock.matching.labels.allowance.Allowance.settle", lambda self, cost: None)


def broken_audit(monkeypatch):
    """Whoever checks an answer asks past the pipeline."""
    monkeypatch.setattr(
        "penstock.semantic.learner.background",
        lambda request, *args, **changes: msgspec.structs.replace(request, semantic="off"),
    )


def broken_terms(monkeypatch):
    """A conversation that was cut is taken for one that was not."""
    monkeypatch.setattr("penstock.caching.key.goal_of", lambda request: request.route.identity)


def broken_budget(monkeypatch):
    monkeypatch.setattr("penstock.layers.shape_context.draft", lambda *_: None)


def broken_hanging_up(monkeypatch):
    monkeypatch.setattr(Passage, "cancel", lambda self, error, *, tell=False: None)


def broken_lead(monkeypatch):
    """Who waits for a call that fails waits on."""
    monkeypatch.setattr(Lead, "failed", lambda self, error: None)


def broken_end(monkeypatch):
    monkeypatch.setattr(Passage, "_leave_target", lambda self, error: self._exits.clear())


def broken_time(monkeypatch):
    """A provider that is asked from the short way has all the time there is."""
    monkeypatch.setattr("penstock.layers.attempt.Attempts.in_time", lambda self, request, inner: inner(request))


def broken_known(monkeypatch):
    """Answers in memory are given to whoever has no requests left."""
    monkeypatch.setattr("penstock.layers.limit.Limit.enter_known", lambda self, request, inner: (request, None))


def broken_manners(monkeypatch):
    """Who is too slow for the others is told so, and then hears on."""
    monkeypatch.setattr(
        StreamPassage, "cancel", lambda self, error, *, tell=False: self._listener.end(error) if tell else None
    )


def broken_word(monkeypatch):
    """Who wants what is cached or nothing has a provider asked where nothing is cached."""
    monkeypatch.setattr("penstock.layers.exact_cache.NoCache.enter", lambda self, request, inner: (request, None))


def broken_break(monkeypatch):
    """A stream that breaks off is taken for one that has ended."""
    end = StreamPassage._end
    monkeypatch.setattr(StreamPassage, "_end", lambda self, error: end(self, None))


def broken_purse(monkeypatch):
    """What a call cost is never taken from what was held for it."""
    monkeypatch.setattr("penstock.budgeting.purses.Purses.settle", lambda self, held, usd, tokens, ledger_id: None)


def broken_grant(monkeypatch):
    """Budgets give what they do not have."""
    monkeypatch.setattr(
        "penstock.stores.memory_budgets.grant", lambda ask, left, spent: Granted(ask.most, ask.most, spent)
    )


def broken_claim(monkeypatch):
    """Who goes while the store is asked leaves behind what it gave."""
    monkeypatch.setattr("penstock.budgeting.purses.Purses._unclaimed", lambda self, purses, taking: None)


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        (broken_record, "has 2 rows"),
        (broken_probe, "not live"),
        (broken_flight, "long ago"),
        (broken_tenants, "was given"),
        (broken_report, "not live"),
        (broken_sieve, "cached: "),
        (broken_row, "had ended"),
        (broken_slots, "taken at rest"),
        (broken_concurrency, "requests at once"),
        (broken_minutes, "in a minute"),
        (broken_wakening, "places in the queue"),
        (broken_tenant_limit, "requests a minute"),
        (broken_refund, "missing at rest"),
        (broken_refusal, "without Retry-After"),
        (broken_load, "run at replica"),
        (broken_mark, "marked"),
        (broken_order, "cached: "),
        (broken_staleness, "too old for a failure"),
        (broken_veto, "was given"),
        (broken_namespace, "another namespace"),
        (broken_history, "another conversation"),
        (broken_guess, "was given"),
        (broken_leaving, "without an answer"),
        (broken_forgetting, "something is learnt"),
        (broken_allowance, "judgements are under way"),
        (broken_audit, "audits are recorded"),
        (broken_terms, "on other terms"),
        (broken_budget, "tokens, of"),
        (broken_hanging_up, "after the end"),
        (broken_lead, "not live"),
        (broken_end, "taken at rest"),
        (broken_time, "waited for too long"),
        (broken_known, "requests a minute"),
        (broken_manners, "after the end"),
        (broken_word, "is not to ask"),
        (broken_purse, "held at rest"),
        (broken_grant, "is spent, of"),
        (broken_claim, "held at rest"),
        (broken_break, "and no more"),
    ],
)
def test_faults_put_in_on_purpose_are_found(monkeypatch, breaks, said):
    breaks(monkeypatch)
    found = (problem for outcome in simulate_many(range(300)) for problem in outcome.problems)
    assert any(said in problem for problem in found)


def test_many_seeds_from_the_command_line():
    command = [sys.executable, "-m", "penstock.testing.simulation", "--seeds", "20", "--first", "50"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "20 seeds passed"
