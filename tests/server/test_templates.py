"""Prompts through the gateway, and the admin API of them."""

import json

import pytest

from penstock.client import AsyncClient
from penstock.config.loader import load
from penstock.server.app import Gateway
from penstock.server.serving import _Server
from penstock.testing import ScriptedProvider

ROOT = ("authorization", "Bearer sk-the-root-of-all")
USER = ("authorization", "Bearer sk-user")
GREET = """\
labels: {production: 1}
model: fast
variables: {name: string}
versions:
  1: {system: Be brief., user: "Greet {{ name }}."}
  2: {user: "Welcome {{ name }}.", parameters: {temperature: 0.5}}
"""
CHAT = "/v1/chat/completions"


class Listening:
    """A socket that nobody connects to."""

    def getsockname(self):
        return "127.0.0.1", 4141


@pytest.fixture
def directory(tmp_path):
    folder = tmp_path / "prompts"
    folder.mkdir()
    (folder / "greet.yaml").write_text(GREET)
    (folder / "story.yaml").write_text("text: Once upon a {{ thing }}\nvariables: {thing: string}\nmodel: fast\n")
    return folder


@pytest.fixture
def provider():
    return ScriptedProvider("near")


@pytest.fixture
async def gateway(tmp_path, directory, provider):
    config = {
        "providers": [{"name": "near", "kind": "openai-compatible", "base_url": "http://127.0.0.1:9/v1"}],
        "models": [{"name": name, "targets": [{"provider": "near", "model": name}]} for name in ("fast", "slow")],
        "server": {"admin_key": ROOT[1].removeprefix("Bearer "), "keys": [{"key": "sk-user"}]},
        "store": {"url": f"sqlite:///{tmp_path}/penstock.db"},
        "prompts": {"directory": str(directory), "built_in": {"spare": {"user": "x", "model": "fast"}}},
    }
    served = Gateway(AsyncClient(config, providers={"near": provider}))
    await served.open()
    yield served
    await served.aclose()


@pytest.fixture
def ask(call, gateway):
    async def asking(method, path, key=ROOT, **body):
        return await call(gateway, method, path, key, body=json.dumps(body).encode())

    return asking


def sent(provider):
    return [(request.model, request.payload) for request in provider.requests]


def greet(name="Ada", **more):
    return {"id": "greet", "variables": {"name": name}, **more}


async def test_a_prompt_is_rendered_into_what_is_sent(ask, provider):
    status, _ = await ask("POST", CHAT, USER, prompt=greet())
    assert status == 200
    status, _ = await ask("POST", CHAT, USER, model="slow", messages=[{"role": "user", "content": "And?"}],
                          prompt=greet(version="2"), temperature=1)  # fmt: skip
    assert status == 200
    status, _ = await ask("POST", CHAT, USER, model="prompt/greet@2", messages=[], prompt=greet("Bo"))
    assert status == 200
    assert sent(provider) == [
        ("fast", {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Greet Ada."}]}),
        ("slow", {"temperature": 1, "messages": [{"role": "user", "content": "Welcome Ada."},
                                                 {"role": "user", "content": "And?"}]}),
        ("fast", {"temperature": 0.5, "messages": [{"role": "user", "content": "Welcome Bo."}]}),
    ]  # fmt: skip


async def test_a_text_prompt_is_completed(ask, provider):
    status, _ = await ask("POST", "/v1/completions", USER, prompt={"id": "story", "variables": {"thing": "time"}})
    assert status == 200
    assert sent(provider) == [("fast", {"prompt": "Once upon a time"})]


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({"prompt": {"id": "gret"}}, 404, "prompt_not_found", "prompt.id"),
        ({"model": "prompt/gret"}, 404, "prompt_not_found", "prompt.id"),
        ({"prompt": greet(version="9")}, 404, "prompt_version_not_found", "prompt.version"),
        ({"model": "prompt/greet"}, 400, "prompt_variable_missing", "prompt.variables.name"),
        ({"prompt": greet(7)}, 400, "prompt_variable_invalid", "prompt.variables.name"),
        ({"prompt": {"id": "greet", "variables": {"name": "A", "nam": "B"}}}, 400, "prompt_variable_unknown",
         "prompt.variables.nam"),
        ({"model": "prompt/story", "prompt": greet()}, 400, "invalid_value", "prompt.id"),
        ({"model": "prompt/greet@1", "prompt": greet(version="2")}, 400, "invalid_value", "prompt.id"),
        ({"model": "prompt/"}, 404, "prompt_not_found", "prompt.id"),
    ],
)  # fmt: skip
async def test_what_is_wrong_with_it_is_said_in_the_usual_shape(ask, provider, body, status, code, param):
    said, answer = await ask("POST", CHAT, USER, **body)
    error = answer["error"]
    assert (said, error["code"], error["param"]) == (status, code, param)
    assert provider.requests == []


async def test_answers_are_cached_by_what_is_said_and_cleared_by_version(ask, gateway, provider, directory):
    for _ in range(2):
        await ask("POST", CHAT, USER, prompt=greet())
    assert len(provider.requests) == 1
    (directory / "greet.yaml").write_text(GREET.replace("Greet", "Salute"))
    assert (await ask("POST", "/admin/templates/reload"))[1]["changed"] == ["greet"]
    for _ in range(2):
        await ask("POST", CHAT, USER, prompt=greet())
    assert [payload["messages"][1]["content"] for _, payload in sent(provider)] == ["Greet Ada.", "Salute Ada."]
    cleared = (await ask("POST", "/admin/cache/clear", tag="prompt:greet@2"))[1]["answers"]
    assert cleared == 0
    assert (await ask("POST", "/admin/cache/clear", tag="prompt:greet@1"))[1]["answers"] == 2


async def test_caches_are_explained_and_warmed_by_prompt(ask, call, gateway, provider):
    _, said = await ask("POST", "/admin/cache/explain", prompt=greet())
    assert said["exact"] == "miss"
    lines = json.dumps({"prompt": greet(), "answer": "Hello, Ada."}).encode()
    status, told = await call(gateway, "POST", "/admin/cache/warm", ROOT, body=lines)
    assert (status, json.loads(told.splitlines()[-1])["seeded"]) == (200, 1)
    _, said = await ask("POST", "/admin/cache/explain", prompt=greet())
    assert said["exact"] == "hit"
    _, answer = await ask("POST", CHAT, ROOT, prompt=greet())
    assert answer["choices"][0]["message"]["content"] == "Hello, Ada."
    assert provider.requests == []


async def test_the_early_way_follows_a_reload(gateway, provider, directory):
    route = gateway.hot[CHAT]
    body = json.dumps({"prompt": greet()}).encode()
    headers = {USER[0].encode(): USER[1].encode()}

    async def early():
        answer, decoded = route.known(headers, body, [])
        if answer is None:
            await gateway.client.handle(decoded.request)
        return answer

    assert await early() is None
    assert b"x-penstock-prompt: greet@1\r\n" in await early()
    assert (await early()).startswith(b"HTTP/1.1 200")
    await gateway.client.prompts.rollback("greet", to="2")
    assert await early() is None
    assert b"x-penstock-prompt: greet@2\r\n" in await early()
    assert len(provider.requests) == 2


async def test_a_stored_completion_keeps_what_was_asked(ask, gateway):
    _, answer = await ask("POST", CHAT, USER, prompt=greet(), store=True)
    await gateway.client.shared.writes.drain()
    _, kept = await ask("GET", f"{CHAT}/{answer['id']}/messages", USER)
    assert [message["content"] for message in kept["data"]] == ["Be brief.", "Greet Ada."]


async def test_the_record_has_the_prompt(ask, gateway):
    await ask("POST", CHAT, USER, prompt=greet())
    _, usage = await ask("GET", "/admin/usage?by=tag")
    assert "prompt:greet@1" in json.dumps(usage)


async def test_a_limited_key_needs_the_prompt_or_the_model(ask):
    _, made = await ask("POST", "/admin/keys", name="limited", models=["prompt/greet"])
    limited = ("authorization", f"Bearer {made['key']}")
    assert (await ask("POST", CHAT, limited, prompt=greet()))[0] == 200
    assert (await ask("POST", CHAT, limited, model="prompt/greet@2", prompt=greet()))[0] == 200
    for body in ({"model": "fast", "prompt": greet()}, {"prompt": {"id": "story", "variables": {"thing": "x"}}},
                 {"model": "prompt/greet", "prompt": {"id": "story"}}):  # fmt: skip
        status, answer = await ask("POST", CHAT, limited, **body)
        assert (status, answer["error"]["code"]) in ((403, "model_not_allowed"), (400, "invalid_value"))
    listed = (await ask("GET", "/v1/models", limited))[1]["data"]
    assert [model["id"] for model in listed] == ["prompt/greet"]
    assert (await ask("GET", "/v1/models/prompt/greet", limited))[0] == 200
    assert (await ask("GET", "/v1/models/prompt/nothing"))[1]["error"]["code"] == "prompt_not_found"


async def test_prompts_are_listed_shown_and_rendered(ask):
    _, listed = await ask("GET", "/admin/templates", USER)
    rows = {row["name"]: row for row in listed["data"]}
    assert list(rows) == ["greet", "spare", "story"]
    assert rows["greet"]["versions"] == ["1", "2"]
    assert rows["greet"]["labels"] == {"production": "1"}
    assert rows["greet"]["variables"]["name"]["required"]
    assert (rows["greet"]["built_in"], rows["spare"]["built_in"]) == (False, True)
    assert "Greet" not in json.dumps(listed)
    _, shown = await ask("GET", "/admin/templates/greet")
    assert shown["details"]["2"]["texts"][0]["source"] == "Welcome {{ name }}."
    status, said = await ask("POST", "/admin/templates/greet/render", version="2", variables={"name": "Ada"})
    assert (status, said["messages"]) == (200, [{"role": "user", "content": "Welcome Ada."}])
    status, said = await ask("POST", "/admin/templates/greet/render", variables={})
    assert (status, said["error"]["code"]) == (400, "prompt_variable_missing")
    status, said = await ask("POST", "/admin/templates/greet/render", vars={})
    assert (status, said["error"]["param"]) == (400, "vars")
    for path in ("/admin/templates/nothing", "/admin/templates/nothing/render"):
        status, said = await ask("POST" if path.endswith("render") else "GET", path)
        assert (status, said["error"]["code"]) == (404, "prompt_not_found")


async def test_rolling_back(ask):
    status, done = await ask("POST", "/admin/templates/greet/rollback", to="2")
    assert (status, done["before"], done["after"], done["label"]) == (200, "1", "2", "production")
    assert (await ask("POST", "/admin/templates/greet/rollback"))[1]["after"] == "1"
    status, said = await ask("POST", "/admin/templates/greet/rollback")
    assert (status, said["error"]["code"]) == (404, "prompt_version_not_found")
    moves = (await ask("GET", "/admin/templates/greet"))[1]["moves"]
    assert [(move["before"], move["after"]) for move in moves] == [("1", "2"), ("2", "1")]


async def test_a_set_that_cannot_be_used_is_refused_with_file_and_line(ask, directory, provider):
    (directory / "broken.yaml").write_text("user: |\n  fine\n  {{ oops }}\n")
    (directory / "greet.yaml").write_text(GREET.replace("Greet", "Salute"))
    status, said = await ask("POST", "/admin/templates/reload")
    assert (status, said["error"]["code"]) == (409, "prompts_invalid")
    assert "broken.yaml:3" in said["error"]["message"]
    await ask("POST", CHAT, USER, prompt=greet())
    assert sent(provider)[0][1]["messages"][1]["content"] == "Greet Ada."


async def test_a_built_in_prompt_says_so(gateway, ask, call):
    answer = await gateway.client.chat(prompt={"id": "spare"})
    assert answer.degraded == ("prompt-built-in",)
    assert answer.call.prompt == "spare@built-in"


async def test_a_configuration_that_changes_something_else_keeps_prompts_and_what_was_decided(gateway):
    client = gateway.client
    await client.prompts.rollback("greet", to="2")
    before = client.prompts
    await client.reload(client.loaded)
    assert client.prompts is before
    assert (await client.render("greet", {"name": "Ada"})).tag == "greet@2"


async def test_the_hang_up_signal_reads_prompts_again_and_a_broken_set_changes_nothing(tmp_path, directory):
    path = tmp_path / "penstock.yaml"
    path.write_text(
        f"models: [{{name: fast, targets: [{{provider: simulated, model: sim}}]}}]\n"
        f"store: {{url: 'memory:'}}\nprompts: {{directory: {directory}}}\n"
    )
    server = _Server(load(str(path), environ={}), Listening(), lambda: None)
    async with server.client as client:
        (directory / "greet.yaml").write_text(GREET.replace("Greet", "{% if %}"))
        await server.reload_all()
        assert (await client.render("greet", {"name": "Ada"})).messages[1]["content"] == "Greet Ada."
        (directory / "greet.yaml").write_text(GREET.replace("Greet", "Salute"))
        await server.reload_all()
        assert (await client.render("greet", {"name": "Ada"})).messages[1]["content"] == "Salute Ada."
