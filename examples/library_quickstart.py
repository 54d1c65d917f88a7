"""Ask twice inside a program, without a server; the second answer comes from the cache."""

from penstock import Client

config = {
    "providers": [{"name": "sim", "kind": "simulated"}],
    "models": [{"name": "*", "targets": [{"provider": "sim", "model": "sim"}]}],
    "store": {"url": "memory:"},
}
with Client(config) as client:
    for _ in range(2):
        answer = client.chat("Why is the sky blue?", model="any")
        print(answer.text)
        print("  from the cache:", answer.cached, "| upstream calls:", len(answer.call.attempts))
