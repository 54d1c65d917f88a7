"""Prompts through the library's two faces."""

import pytest

from penstock import Client, InvalidRequest

PROMPT = {"id": "greet", "variables": {"name": "Ada"}}


@pytest.fixture
def client(directory):
    config = {
        "models": [{"name": name, "targets": [{"provider": "simulated", "model": "sim"}]} for name in ("fast", "slow")],
        "prompts": {"directory": str(directory)},
        "store": {"url": "memory:"},
    }
    with Client(config) as opened:
        yield opened


def test_asking_rendering_and_operating_without_an_event_loop(client, directory):
    assert client.prompts.list() == ["greet", "story"]
    answer = client.chat(prompt=PROMPT)
    assert answer.call.prompt == "greet@1"
    assert "Say hello to Ada" in answer.text
    streamed = "".join(piece.text for piece in client.chat(prompt={**PROMPT, "version": "1"}, stream=True))
    assert streamed == answer.text
    assert "And Bo" in client.chat("And Bo?", model="prompt/greet", prompt=PROMPT).text

    assert client.prompts.rollback("greet", to="2").after == "2"
    assert client.render("greet", {"name": "Ada"}).messages[1]["content"] == "Greet Ada"
    assert client.prompts.render("greet", {"name": "Ada"}, "1").tag == "greet@1"
    (directory / "story.json").unlink()
    assert client.prompts.reload().removed == ["story"]


def test_what_is_wrong_is_raised(client):
    with pytest.raises(InvalidRequest, match="did you mean 'greet'"):
        client.chat(prompt={"id": "gret"})
    with pytest.raises(InvalidRequest, match=r"prompt\.version"):
        client.chat(prompt={"id": "greet", "version": 1})
    with pytest.raises(InvalidRequest, match="'model'"):
        client.chat("Hello")
