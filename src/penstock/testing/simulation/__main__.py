"""``python -m penstock.testing.simulation``: many seeds, or one of them again."""

from __future__ import annotations

import argparse
import sys
import time

from penstock.testing.simulation.running import Outcome, simulate, simulate_many

_EVERY_S = 5.0
_SHOWN = 3


def main() -> int:
    """Run what the arguments ask for; 1 when a seed fails."""
    parser = argparse.ArgumentParser(prog="python -m penstock.testing.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one, with its trace")
    parser.add_argument("--seeds", type=int, default=5000, help="how many to run (default 5000)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default 0)")
    parser.add_argument("--keep-going", action="store_true", help="run all seeds though some fail")
    given = parser.parse_args()
    if given.seed is not None:
        return _one(given.seed)
    return _many(given.first, given.seeds, keep_going=given.keep_going)


def _one(seed: int) -> int:
    outcome = simulate(seed, tail=2000)
    _say(f"{outcome.plan.settings.model_dump_json(exclude_defaults=True)}\n{outcome.plan}")
    _say("\n".join(outcome.trace))
    _say(f"seed {seed}: {outcome.steps} steps, {outcome.calls} calls, {outcome.sent} sent, trace {outcome.digest}")
    _say("\n".join(outcome.problems) or "nothing is wrong")
    return int(bool(outcome.problems))


def _many(first: int, count: int, *, keep_going: bool) -> int:
    started = said = time.monotonic()
    calls = sent = by_meaning = failed = done = 0
    for outcome in simulate_many(range(first, first + count)):
        done += 1
        calls += outcome.calls
        sent += outcome.sent
        by_meaning += outcome.by_meaning
        if outcome.problems:
            failed += 1
            _report(outcome)
            if not keep_going:
                return 1
        if time.monotonic() - said > _EVERY_S:
            said = time.monotonic()
            _say(f"{done} of {count} seeds, {calls} calls, {said - started:.0f} s")
    _say(f"{calls} calls, {by_meaning} answered by meaning")
    _say(f"{sent} requests to providers, {time.monotonic() - started:.1f} s")
    _say(f"{done - failed} of {done} seeds passed" if failed else f"{done} seeds passed")
    return int(bool(failed))


def _report(outcome: Outcome) -> None:
    shown = outcome.problems[:_SHOWN]
    _say(f"seed {outcome.seed} failed ({len(outcome.problems)} problems):")
    _say("\n".join(f"  {problem}" for problem in shown))
    _say(f"  replay: python -m penstock.testing.simulation --seed {outcome.seed}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
