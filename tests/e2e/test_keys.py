"""Keys that are made while a gateway runs, as the official OpenAI SDK meets them."""

import json
import subprocess
import sys
import time

import openai
import pytest

CONFIG = """\
providers: [{{name: sim, kind: simulated, latency: {{first_token_s: 0, tokens_per_s: 0}}}}]
models: [{{name: "*", targets: [{{provider: sim, model: sim}}]}}]
store: {{url: "sqlite:///{folder}/penstock.db"}}
"""
ADMIN = "sk-admin-0123456789"
QUESTION = [{"role": "user", "content": "hi"}]


def penstock(gateway, *arguments):
    command = [sys.executable, "-m", "penstock", *arguments, "--config", str(gateway.path), "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def client(gateway, key):
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0)


def eventually(check):
    """Other processes' changes are known within two seconds."""
    for _ in range(200):
        if check():
            return True
        time.sleep(0.05)
    return False


def works(asking):
    try:
        asking.chat.completions.create(model="fast", messages=QUESTION)
    except openai.AuthenticationError:
        return False
    return True


def test_a_running_gateway_learns_of_keys_made_beside_it(make_gateway):
    gateway = make_gateway(CONFIG, environment={"PENSTOCK_ADMIN_KEY": ADMIN})
    penstock(gateway, "teams", "create", "acme/search")
    key = penstock(gateway, "keys", "create", "web", "--tenant", "acme/search", "--models", "fast")
    with client(gateway, key["key"]) as asking, client(gateway, ADMIN) as root:
        assert eventually(lambda: works(asking))
        assert works(root)
        with pytest.raises(openai.PermissionDeniedError) as denied:
            asking.chat.completions.create(model="slow", messages=QUESTION)
        assert denied.value.code == "model_not_allowed"
        assert [model.id for model in asking.models.list()] == []
        penstock(gateway, "keys", "revoke", key["id"])
        assert eventually(lambda: not works(asking))
        with pytest.raises(openai.AuthenticationError) as refused:
            asking.chat.completions.create(model="fast", messages=QUESTION)
        assert refused.value.code == "invalid_api_key"
    gateway.stop()
    log = (gateway.folder / "gateway.log").read_text()
    assert key["key"] not in log
    assert ADMIN not in log
