"""The first provider is dead: every question is answered all the same, and soon the dead one is not even tried."""

from penstock import Client

config = {
    "providers": [
        {"name": "dead", "kind": "simulated", "faults": [{"kind": "connect"}]},
        {"name": "steady", "kind": "simulated"},
    ],
    "models": [
        {"name": "any", "targets": [{"provider": "dead", "model": "sim"}, {"provider": "steady", "model": "sim"}]}
    ],
    "breaker": {"failures": 3, "recovery_s": 10},
    "store": {"url": "memory:"},
}
with Client(config) as client:
    for number in range(1, 7):
        answer = client.chat(f"Question {number}: which rivers flow through Vienna?", model="any")
        tried = " -> ".join(f"{attempt.provider} ({attempt.outcome})" for attempt in answer.call.attempts)
        print(f"{number}. {tried}: {answer.text[:60]}")
