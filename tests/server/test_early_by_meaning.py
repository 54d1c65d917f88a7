"""Answers by meaning leave early too, and nobody can tell but by the clock."""

import time

import pytest
from tests.server.test_early import Wire, request

CONFIG = """\
providers: [{{name: sim, kind: simulated}}]
models: [{{name: "*", targets: [{{provider: sim, model: sim}}]}}]
server: {{keys: [{{key: sk-a, tenant: a}}, {{key: sk-b, tenant: b}}]}}
cache: {{semantic: {{mode: "on", max_error: 0.45, audit: 0.000001}}}}
store: {{url: "memory:"}}
"""
TALL = "How tall is the Eiffel Tower in Paris?"
TOO = ["how tall is the eiffel tower in paris", "How tall is the  Eiffel Tower in Paris ?"]


@pytest.fixture
def gateway(start_gateway, tmp_path):
    running = start_gateway(tmp_path, CONFIG)
    yield running
    running.stop()


def ask(wire, text, **options):
    wire.send(request(text, **options))
    return wire.response()


def teach(wire, **options):
    """Ask what is known from then on, and in other words until that is so."""
    ask(wire, TALL, **options)
    for number in range(100):
        if "Semantic; hit" in ask(wire, TALL + " " * (number + 3), **options)[1].get("cache-status", ""):
            return
        time.sleep(0.02)
    raise AssertionError("what was asked is not known")


@pytest.mark.parametrize("stream", [False, True])
def test_the_early_way_says_what_the_normal_way_says(gateway, stream):
    with Wire(gateway.url) as wire:
        teach(wire)
        early = ask(wire, TOO[0], stream=stream)
        again = ask(wire, TOO[0], stream=stream)
        normal = ask(wire, TOO[1], stream=stream, extra="connection: close\r\n")
    assert early[0] == again[0] == normal[0] == 200
    assert early[2] == again[2] == normal[2]
    assert set(early[1]) == set(again[1]) == set(normal[1]) - {"connection"}
    assert early[1]["cache-status"].startswith("Penstock-Semantic; hit; detail=")
    assert early[1]["cache-status"].endswith("Penstock-Exact; fwd=miss")
    assert early[1]["x-penstock-attempts"] == "0"


def test_other_tenants_are_not_answered(gateway):
    with Wire(gateway.url) as wire:
        teach(wire)
        assert "Semantic; hit" not in ask(wire, TOO[0], key="sk-b")[1]["cache-status"]
