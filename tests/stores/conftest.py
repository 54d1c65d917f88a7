from decimal import Decimal

import pytest

from penstock.core.call import Attempt, Call
from penstock.core.clock import SystemClock
from penstock.core.request import Request
from penstock.core.usage import Usage
from penstock.stores.opening import open_store


@pytest.fixture
def path(tmp_path):
    return tmp_path / "penstock.db"


@pytest.fixture
async def stores(path):
    opened = open_store(f"sqlite:///{path}", SystemClock())
    await opened.start()
    yield opened
    await opened.aclose()


@pytest.fixture
def record():
    """Record one call; keyword arguments go to `Call` or `Request`, whichever has them."""

    def make(ledger, *attempts, duration_s=0.5, outcome="ok", **fields):
        mine = {name: fields.pop(name) for name in list(fields) if name in Call.__struct_fields__}
        call = Call(**{"id": "req_1", "started": 100.0, **mine}, attempts=list(attempts))
        request = Request(**{"operation": "chat", "model": "fast", "payload": {"messages": []}, "call": call, **fields})
        ledger.record(request, call, duration_s=duration_s, outcome=outcome)
        return call

    return make


@pytest.fixture
def attempt():
    def make(cost="0.000135", source="provider", **fields):
        usage = Usage(100, 200, cached_input_tokens=30, cache_write_tokens=20, reasoning_tokens=10)
        values = {"started": 100.25, "duration_s": 0.5, "first_token_s": 0.125, "outcome": "ok", "status_code": 200}
        known = {"usage": usage, "cost_usd": None if cost is None else Decimal(cost), "cost_source": source}
        return Attempt("openai", "gpt-4o-mini", **{**values, **known, **fields})

    return make
