"""A part of the seeds that `make simulate` runs; ``PENSTOCK_SEED`` runs one of them alone."""

import os
import subprocess
import sys
import time

import pytest

from penstock import pipeline
from penstock.caching.flight import Flight
from penstock.core.errors import RateLimited, Refused
from penstock.layers.breaker import Breaker
from penstock.layers.record import Record
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
    monkeypatch.setattr("penstock.caching.key._asked", lambda request: str(request.payload).encode())


def broken_report(monkeypatch):
    monkeypatch.setattr(Breaker, "report", lambda self, circuit, permit, request, error: None)


def broken_sieve(monkeypatch):
    monkeypatch.setattr("penstock.caching.at_rest.storable_events", lambda events, **_: True)
    monkeypatch.setattr("penstock.caching.at_rest.storable_body", lambda body, **_: True)


def broken_row(monkeypatch):
    monkeypatch.setattr("penstock.core.call.Call.running", None)


def broken_slots(monkeypatch):
    monkeypatch.setattr("penstock.limiting.gate.Gate.failed", lambda self, ticket, used, now, *, late=False: None)


def broken_concurrency(monkeypatch):
    monkeypatch.setattr("penstock.limiting.gate.Gate.limit", 1000)


def broken_minutes(monkeypatch):
    monkeypatch.setattr("penstock.limiting.account.Account.wait_s", lambda self, tokens, now: 0.0)


def broken_wakening(monkeypatch):
    monkeypatch.setattr("penstock.limiting.gate.Gate.leave", lambda self, ticket: self.queue.remove(ticket))


def broken_tenant_limit(monkeypatch):
    monkeypatch.setattr("penstock.limiting.bucket.Bucket.wait_s", lambda self, amount, now: 0.0)


def broken_refund(monkeypatch):
    monkeypatch.setattr("penstock.layers.limit.Limit.settle", lambda self, request, bucket, tokens: None)


def broken_refusal(monkeypatch):
    monkeypatch.setattr(RateLimited, "__init__", lambda self, message, **_: Refused.__init__(self, message))


def broken_load(monkeypatch):
    monkeypatch.setattr("penstock.routing.replica.Replica.released", lambda self, ticket: None)


def broken_mark(monkeypatch):
    monkeypatch.setattr("penstock.layers.fallback.reason_of", lambda cause: "reason")


def broken_order(monkeypatch):
    """The fallback inside the cache: its answers are stored as those of the model that was asked."""
    layers = dict(pipeline.CALL)
    order = ["record", "limit", "deadline", "exact_cache", "fallback", "coalesce", "budget", "failover", "hedge"]
    assert set(order) == set(layers)
    monkeypatch.setattr(pipeline, "CALL", tuple((name, layers[name]) for name in order))


def broken_staleness(monkeypatch):
    monkeypatch.setattr("penstock.layers.exact_cache.may_stand_in", lambda *_: True)


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
