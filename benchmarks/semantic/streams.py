"""The promise on streams of questions, beside the rules of others, and what happens when answers change.

Most pairs of questions have no label, and one that is served may be such a pair. Three readings: by chains of labels,
which is the one figures without a suffix are of, and what no chain says is not counted; `_pair`, where only a pair's
own label makes it wrong; `_harsh`, where all is wrong that no label calls right. Each is played with labels of its
own, so the promise is kept relative to them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any, NamedTuple

from benchmarks.processes import say
from benchmarks.semantic import fixed_peer, peers
from benchmarks.semantic.data import Asked, Memo, Questions, Stream
from benchmarks.semantic.neighbours import Nearest, neighbours
from benchmarks.semantic.peers import Count
from penstock.matching.evaluation import Same, Step, play
from penstock.matching.policy import Policy

PERCENT = (1, 2, 5)
READINGS = {1: ("pair",), 2: ("pair",), 5: ("harsh",)}
"""What else is played: where little is served by chains of labels, pairs'; elsewhere the harshest."""

DRIFT_PERCENT = 5
THRESHOLDS = (*(0.5 + 0.01 * place for place in range(50)), 0.992, 0.995, 0.998, 0.9995)
PROMISES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)

_CHANGED = 3
_STEP = 50


class Study(NamedTuple):
    """What all runs share."""

    questions: Questions
    embedder: Memo
    orders: list[Stream]


_study: list[Study] = []
"""Set before processes are forked, which then need not be sent it."""


class Run(NamedTuple):
    """One order of the stream under one promise."""

    counted: Count
    audits: int
    alarms: int
    bound: float


class Sweep(NamedTuple):
    """A rule at one setting, over all orders."""

    setting: float
    counts: list[Count]

    @property
    def served(self) -> int:
        return sum(count.served for count in self.counts)

    @property
    def error(self) -> float:
        """Wrong ÷ served, of those where it is known."""
        return sum(count.wrong for count in self.counts) / max(1, sum(c.served - c.unknown for c in self.counts))

    @property
    def harsh(self) -> float:
        """Wrong ÷ served, with all that nobody knows taken to be wrong."""
        return sum(count.wrong + count.unknown for count in self.counts) / max(1, self.served)

    @property
    def right(self) -> int:
        """Hits: what was served and is not known to be wrong."""
        return sum(count.served - count.wrong for count in self.counts)

    @property
    def known_right(self) -> int:
        """What was served and is known to be right."""
        return sum(count.served - count.wrong - count.unknown for count in self.counts)

    def figures(self) -> dict[str, float]:
        return {
            "setting": round(self.setting, 4), "served": self.served, "error": round(self.error, 4),
            "error_harsh": round(self.harsh, 4),
        }  # fmt: skip


class Figures(NamedTuple):
    """What goes into the last line, and what the plot is made of."""

    keys: dict[str, Any]
    sweeps: dict[str, list[Sweep]]
    drifts: list[list[Step]]


def streams(
    questions: Questions, embedder: Memo, *, orders: int, requests: int, processes: int, readings: bool = True
) -> Figures:
    """Play `orders` orders under each promise, and the same orders by the rules of others.

    Args:
        questions: The set.
        embedder: What makes vectors.
        orders: How many orders.
        requests: Of each.
        processes: Orders played at once.
        readings: Whether to play `READINGS` too.
    """
    study = Study(questions, embedder, [questions.stream(seed, requests) for seed in range(orders)])
    say(f"{embedder.label}: embedding")
    embedder.embed([text for stream in study.orders for text, _ in stream])
    _study[:] = [study]
    keys: dict[str, Any] = {"qqp_requests": len(study.orders[0]), "qqp_orders": orders}
    seeds = range(orders)
    with ProcessPoolExecutor(processes, mp_context=get_context("fork")) as pool:

        def each(work: Callable[[int], Any], name: str) -> list[Any]:
            found = []
            for number, result in enumerate(pool.map(work, seeds), 1):
                say(f"{embedder.label}: {name}, order {number} of {orders}")
                found.append(result)
            return found

        theirs = each(_peers, "peers")
        sweeps = {name: _sweeps([found[name] for found in theirs]) for name in ("vcache", "gptcache")}
        ours: list[Sweep] = []
        for percent in PERCENT:
            runs = each(partial(_run, percent=percent, reading="same"), f"{percent} %")
            ours.append(Sweep(percent / 100, [run.counted for run in runs]))
            keys |= _promise(f"{percent}pct", runs, percent)
            keys |= _beside(percent, ours[-1], sweeps)
            for reading in READINGS[percent] if readings else ():
                runs = each(partial(_run, percent=percent, reading=f"same_{reading}"), f"{percent} %, {reading}")
                keys |= _promise(f"{percent}pct_{reading}", runs, percent)
        drifts = each(_drift, "answers that change")
    sweeps["penstock"] = ours
    keys |= _recovery(drifts, [_changes_at(stream) for stream in study.orders])
    keys |= _package(study, sweeps["gptcache"])
    return Figures(keys, sweeps, drifts)


def _run(seed: int, *, percent: int, reading: str) -> Run:
    questions, embedder, orders = _study[0]
    policy = Policy.shipped(embedder.name, delta=percent / 100)
    same: Same = getattr(questions, reading)
    steps = list(play(orders[seed], embedder, policy, same=same, seed=seed))
    served = [step for step in steps if step.served]
    labels = [step.right for step in served]
    audits = sum(step.audited for step in served)
    return Run(
        Count(len(served), labels.count(False), labels.count(None)), audits, policy.alarms, policy.certificate().bound
    )


def _peers(seed: int) -> dict[str, dict[float, list[Count]]]:
    """Count what others do with one order at each of their settings; of vCache's two readings, both."""
    questions, embedder, orders = _study[0]
    near = neighbours(orders[seed], embedder)
    vcache = {
        promise: [peers.vcache(near, promise, questions.same, seed=seed, add_right=add) for add in (False, True)]
        for promise in PROMISES
    }
    sparse = not isinstance(embedder.one(orders[seed][0][0]), bytes)
    folded = neighbours(orders[seed], embedder, folded=True) if sparse else near
    return {
        "vcache": vcache,
        "gptcache": {cosine: [peers.fixed(folded, cosine, questions.same)] for cosine in THRESHOLDS},
    }


def _sweeps(found: Sequence[dict[float, list[Count]]]) -> list[Sweep]:
    """Join the orders, setting by setting and reading by reading."""
    return [
        Sweep(setting, list(counts))
        for setting in found[0]
        for counts in zip(*(each[setting] for each in found), strict=True)
    ]


def _promise(suffix: str, runs: Sequence[Run], percent: int) -> dict[str, Any]:
    counts = [run.counted for run in runs]
    within = [100 * count.wrong <= percent * (count.served - count.unknown) for count in counts]
    serving = any(count.served for count in counts)
    return {
        # Who serves nothing keeps every promise, which says nothing.
        f"qqp_runs_within_delta_{suffix}": sum(within) / len(within) if serving else None,
        f"qqp_served_{suffix}": [count.served for count in counts],
        f"qqp_wrong_{suffix}": [count.wrong for count in counts],
        f"qqp_unknown_{suffix}": [count.unknown for count in counts],
        f"qqp_audits_{suffix}": [run.audits for run in runs],
        f"qqp_alarms_{suffix}": [run.alarms for run in runs],
        f"qqp_bound_{suffix}": [run.bound for run in runs],
    }


def _beside(percent: int, ours: Sweep, sweeps: dict[str, list[Sweep]]) -> dict[str, Any]:
    """Compare with the most hits others have at an error no larger than ours, both as known and at the harshest."""
    requests = len(_study[0].orders[0]) * len(ours.counts)
    figures: dict[str, Any] = {
        f"qqp_error_{percent}pct": round(ours.error, 4),
        f"qqp_error_harsh_{percent}pct": round(ours.harsh, 4),
        f"qqp_wrong_per_request_{percent}pct": round(sum(count.wrong for count in ours.counts) / requests, 5),
        f"qqp_hit_rate_{percent}pct": round(ours.right / requests, 4),
    }
    for name in ("vcache", "gptcache"):
        equal = [each for each in sweeps[name] if each.served and each.error <= ours.error and each.harsh <= ours.harsh]
        best = max(equal, key=lambda each: each.right, default=None)
        figures[f"qqp_hits_vs_{name}_{percent}pct"] = round(ours.right / best.right, 2) if best and best.right else None
        figures[f"qqp_{name}_at_equal_error_{percent}pct"] = best.figures() if best else None
        labelled = max((each.known_right for each in sweeps[name] if each.error <= ours.error), default=0)
        figures[f"qqp_labelled_hits_vs_{name}_{percent}pct"] = (
            round(ours.known_right / labelled, 2) if labelled else None
        )
        promised = [each for each in sweeps[name] if each.setting == percent / 100]
        if promised:
            figures[f"qqp_{name}_at_own_{percent}pct"] = max(promised, key=lambda each: each.right).figures()
    return figures


def _changes_at(stream: Stream) -> int:
    return len(stream) // 2


def _changed(answer: Hashable) -> bool:
    assert isinstance(answer, Asked)
    return zlib.crc32(f"changed {answer.answer}".encode()) % _CHANGED == 0


def _drift(seed: int) -> list[Step]:
    """Play one order in whose second half a third of the questions has other answers than before."""
    questions, embedder, orders = _study[0]
    change = _changes_at(orders[seed])
    stream: Stream = [
        (text, (answer, number >= change and _changed(answer))) for number, (text, answer) in enumerate(orders[seed])
    ]

    def same(one: Hashable, other: Hashable) -> bool | None:
        assert isinstance(one, tuple)
        assert isinstance(other, tuple)
        found = questions.same(one[0], other[0])
        return False if found and one[1] != other[1] else found

    policy = Policy.shipped(embedder.name, delta=DRIFT_PERCENT / 100)
    return list(play(stream, embedder, policy, same=same, seed=seed))


def _recovery(drifts: list[list[Step]], changes: list[int]) -> dict[str, Any]:
    """How many requests after the change the error of all that is served from then on is small enough again."""
    found, after = [], []
    for steps, change in zip(drifts, changes, strict=True):
        rest = steps[change:]
        tails = range(0, len(rest), _STEP)
        found.append(next((tail for tail in tails if _error(rest[tail:]) <= DRIFT_PERCENT / 100), len(rest)))
        after.append(sum(step.served for step in rest[found[-1] :]))
    return {
        "drift_recovery_requests": max(found),
        "drift_recovery_requests_by_order": found,
        "drift_served_after_recovery_by_order": after,
        "drift_error_of_first_500": [
            round(_error(steps[change : change + 500]), 3) for steps, change in zip(drifts, changes, strict=True)
        ],
    }


def _error(steps: Sequence[Step]) -> float:
    known = [step.right for step in steps if step.served and step.right is not None]
    return known.count(False) / len(known) if known else 0.0


def _package(study: Study, sweep: Sequence[Sweep]) -> dict[str, Any]:
    """Play the first order through GPTCache itself; `peers.fixed` has to decide the same."""
    cosine = fixed_peer.cosine_of(fixed_peer.DEFAULT)
    say(f"{study.embedder.label}: the package GPTCache {fixed_peer.VERSION}")
    near: list[Nearest] = neighbours(study.orders[0], study.embedder, folded=True)
    default = peers.count(near, peers.decisions(near, cosine), study.questions.same)
    high = min(sweep, key=lambda each: abs(each.setting - 0.95)).setting
    theirs = fixed_peer.play(study.orders[0], study.embedder, fixed_peer.threshold_of(high))
    mine = peers.decisions(near, high)
    return {
        "qqp_gptcache_at_its_default": Sweep(fixed_peer.DEFAULT, [default]).figures(),
        "qqp_gptcache_package_served": sum(entry is not None for entry in theirs),
        "qqp_gptcache_package_differs": sum(a != b for a, b in zip(theirs, mine, strict=True)),
    }
