"""Runs scenarios in processes of their own, which may be killed; started by test_recovery.py.

Reads a JSON list of `[database, failpoint, work]` from standard input and writes one JSON line each: whether it was
killed, and what it had acknowledged by then. Everything that is slow to import and has no failpoints is imported once.
"""

import asyncio
import json
import os
import sys
from decimal import Decimal

import penstock.stores.opening
import penstock.stores.sql.cache
import penstock.stores.sql.completions
import penstock.stores.sql.keys
import penstock.stores.sql.rollups
from penstock.core.call import Attempt, Call
from penstock.core.clock import SystemClock
from penstock.core.request import Request
from penstock.core.usage import Usage

CALLS = 60


def request(number, *attempts):
    call = Call(id=f"req_{os.getpid()}_{number}", attempts=list(attempts))
    return Request(operation="chat", model="fast", payload={"max_tokens": 30}, call=call)


async def work(url, kind, say):
    from penstock.stores.sql.spool import Spool  # noqa: PLC0415 not before the variable is set

    Spool.__init__.__kwdefaults__["segment_bytes"] = 2000
    stores = penstock.stores.opening.open_store(
        url, SystemClock(), lambda provider, model, usage: (Decimal(usage.total_tokens), "estimate"), 1.0
    )
    stores._backend.writer._gather_s = 0.002
    await stores.start()
    say(recovered=stores.recovered)
    if kind == "calls":
        ledger = stores.ledger
        for number in range(CALLS):
            hit = request(f"hit_{number}")
            hit.call.cache, hit.call.saved_usd = "hit", Decimal("0.25")
            ledger.record(hit, hit.call, duration_s=0.0001, outcome="ok")
            asked = request(number)
            attempt = Attempt("openai", "gpt", asked.call.started, running=True)
            say(begins=asked.call.id)
            ledger.reserve(asked, attempt, Usage(11, 0, source="estimate"))
            asked.call.attempts.append(attempt)
            if number % 6 == 5:
                continue  # it never ends
            attempt.end()
            attempt.outcome, attempt.cost_usd, attempt.cost_source = "ok", Decimal("0.5"), "provider"
            attempt.usage = asked.call.usage = Usage(100, 200)
            ledger.record(asked, asked.call, duration_s=0.5, outcome="ok")
            say(acknowledged=asked.call.id)
            if number % 15 == 14:
                await stores.flush()
    await stores.aclose()
    os._exit(0)


def run(path, failpoint, kind):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.environ["PENSTOCK_FAILPOINT"] = failpoint
        asyncio.run(
            work(f"sqlite:///{path}", kind, lambda **said: os.write(writing, json.dumps(said).encode() + b"\n"))
        )
    os.close(writing)
    with os.fdopen(reading, "rb") as said:
        lines = [json.loads(line) for line in said]
    _, status = os.waitpid(child, 0)
    return {
        "killed": os.WIFSIGNALED(status),
        "begun": [line["begins"] for line in lines if "begins" in line],
        "acknowledged": [line["acknowledged"] for line in lines if "acknowledged" in line],
        "recovered": next((line["recovered"] for line in lines if "recovered" in line), None),
    }


if __name__ == "__main__":
    for scenario in json.load(sys.stdin):
        sys.stdout.write(json.dumps(run(*scenario)) + "\n")
