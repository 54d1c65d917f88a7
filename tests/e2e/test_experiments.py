"""An experiment on a gateway that runs, as the official OpenAI SDK and an application's scores meet it."""

import json
import urllib.request

import openai
import pytest

CONFIG = """\
providers: [{{name: sim, kind: simulated, latency: {{first_token_s: 0, tokens_per_s: 0}}}}]
models:
  - {{name: assistant, targets: [{{provider: sim, model: small}}]}}
  - {{name: large, targets: [{{provider: sim, model: large}}]}}
server: {{admin_key: sk-the-administrator, keys: [{{key: sk-acme, tenant: acme}}, {{key: sk-other, tenant: other}}]}}
store: {{url: "sqlite:///{folder}/penstock.db"}}
timeout_s: 1
experiments:
  - name: larger
    who: {{models: [assistant], tenants: [acme]}}
    arms: [{{name: small}}, {{name: large, set: {{model: large}}}}]
    primary: {{metric: score.helpful, bounds: [0, 1]}}
    window_s: 1
"""


@pytest.fixture(scope="module")
def gateway(start_gateway, tmp_path_factory):
    running = start_gateway(tmp_path_factory.mktemp("experiments"), CONFIG)
    yield running
    running.stop()


def ask(gateway, user, *, key="sk-acme", text="hello", **options):
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as client:
        messages = [{"role": "user", "content": text}]
        raw = client.chat.completions.with_raw_response.create(
            model="assistant", messages=messages, user=user, **options
        )
        return raw.headers, raw.parse()


def post(gateway, path, body, key):
    request = urllib.request.Request(
        f"{gateway.url}{path}", json.dumps(body).encode(), {"authorization": f"Bearer {key}"}
    )
    with urllib.request.urlopen(request, timeout=10) as reply:
        return json.load(reply)


def get(gateway, path):
    request = urllib.request.Request(f"{gateway.url}{path}", headers={"authorization": "Bearer sk-the-administrator"})
    with urllib.request.urlopen(request, timeout=10) as reply:
        return json.load(reply)


def test_a_user_stays_in_an_arm_whether_answers_are_new_known_or_streamed(gateway):
    arms = {}
    for user in ("ann", "ben", "cem", "dora", "eve", "finn", "gil", "hana"):
        headers, _ = ask(gateway, user, text=f"first of {user}")
        arm = headers["x-penstock-arms"].removeprefix("larger=")
        assert headers["x-penstock-model"] == arm
        again, _ = ask(gateway, user, text=f"first of {user}")
        assert (again["x-penstock-arms"], "hit" in again["cache-status"]) == (f"larger={arm}", True)
        streamed, _ = ask(gateway, user, text=f"second of {user}", stream=True)
        assert streamed["x-penstock-arms"] == f"larger={arm}"
        arms[user] = arm
    assert set(arms.values()) == {"small", "large"}


def test_who_is_not_named_takes_no_part(gateway):
    headers, _ = ask(gateway, "ann", key="sk-other")
    assert "x-penstock-arms" not in headers
    assert headers["x-penstock-model"] == "small"


def test_scores_are_of_the_keys_own_tenant(gateway):
    score = {"request_id": "req_of_acme", "name": "helpful", "value": 1}
    assert post(gateway, "/v1/scores", score, "sk-acme")["tenant"] == "acme"
    # The same id under another key is another tenant's score, not a change of that one.
    assert post(gateway, "/v1/scores", {**score, "value": 0}, "sk-other")["tenant"] == "other"
    assert post(gateway, "/v1/scores", score, "sk-acme")["value"] == 1.0


def test_a_winner_set_by_hand_ends_it(gateway):
    assert get(gateway, "/admin/experiments/larger")["status"] == "running"
    ended = post(
        gateway, "/admin/experiments/larger/stop", {"winner": "large", "why": "enough"}, "sk-the-administrator"
    )
    assert (ended["status"], ended["by"] != "") == ("stopped", True)
    headers, _ = ask(gateway, "ann", text="afterwards")
    assert "x-penstock-arms" not in headers
    post(gateway, "/admin/experiments/larger/start", {}, "sk-the-administrator")
    headers, _ = ask(gateway, "ann", text="and again")
    assert "x-penstock-arms" in headers
