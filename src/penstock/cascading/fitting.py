"""Fitting in a process of its own: it takes seconds of computing, which a thread would take from the event loop."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from decimal import Decimal

import msgspec

from penstock.routing.cascade.learner import Learner

_NICE = 10
_log = logging.getLogger("penstock.cascades")


class _Work(msgspec.Struct):
    alpha: float
    delta: float
    loss_usd: Decimal
    state: bytes


async def refreshed(learner: Learner) -> Learner:
    """Return what `learner` is after a `refresh`; by a thread where no process can be started."""
    work = _Work(learner.alpha, learner.delta, learner.loss_usd, learner.dump())
    try:
        state = await _elsewhere(msgspec.msgpack.encode(work))
    except (OSError, ValueError) as error:
        _log.warning("no process to fit in, so a thread does: %s", error)
        await asyncio.to_thread(learner.refresh)
        return learner
    return _learner(msgspec.structs.replace(work, state=state))


async def _elsewhere(work: bytes) -> bytes:
    # -P: whatever is called penstock in the working directory is not ours.
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "penstock.cascading.fitting",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        state, _ = await process.communicate(work)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise ValueError(f"it ended with {process.returncode}")
    return state


def _learner(work: _Work) -> Learner:
    learner = Learner(alpha=work.alpha, delta=work.delta, loss_usd=work.loss_usd)
    learner.load(work.state)
    return learner


def main() -> None:
    """Read a learner from standard input, and write what it is after a `refresh` to standard output."""
    os.nice(_NICE)
    learner = _learner(msgspec.msgpack.decode(sys.stdin.buffer.read(), type=_Work))
    learner.refresh()
    sys.stdout.buffer.write(learner.dump())


if __name__ == "__main__":
    main()
